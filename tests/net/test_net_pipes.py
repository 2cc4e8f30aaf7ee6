"""Pipes for bulk: used again only when empty, and never more of them than allowed."""

from __future__ import annotations

import os

import pytest

from lbproxy.net.splicing import Pipe, Pipes


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_an_empty_pipe_is_used_again() -> None:
    pipes = Pipes()
    pipe = pipes.take()
    assert pipe is not None
    pipes.give_back(pipe)
    assert pipes.take() is pipe
    pipes.give_back(pipe)
    pipes.close()
    assert not is_open(pipe.enter)
    assert not is_open(pipe.exit)


def test_a_pipe_with_bytes_in_it_is_never_pooled() -> None:
    pipes = Pipes()
    pipe = pipes.take()
    assert pipe is not None
    os.write(pipe.enter, b"of another client")
    pipe.held = 17
    ends = (pipe.enter, pipe.exit)
    pipes.give_back(pipe)
    assert not any(map(is_open, ends))
    fresh = pipes.take()
    assert fresh is not None
    with pytest.raises(BlockingIOError):
        os.read(fresh.exit, 1)
    pipes.give_back(fresh)
    pipes.close()


def test_only_so_many_in_use_at_once() -> None:
    pipes = Pipes(2)
    taken = [pipes.take() for _ in range(3)]
    assert [pipe is None for pipe in taken] == [False, False, True]
    assert pipes.in_use == 2
    for pipe in taken:
        if pipe is not None:
            pipes.give_back(pipe)
    assert pipes.in_use == 0
    pipes.close()


def test_not_all_that_were_in_use_are_kept() -> None:
    pipes = Pipes()
    taken = [pipe for pipe in (pipes.take() for _ in range(100)) if pipe is not None]
    for pipe in taken:
        pipes.give_back(pipe)
    assert 0 < sum(is_open(pipe.enter) for pipe in taken) <= 64
    pipes.close()
    assert not any(is_open(pipe.enter) for pipe in taken)


def test_without_descriptors_the_stream_is_copied() -> None:
    def fail() -> Pipe:
        raise OSError(24, "Too many open files")

    pipes = Pipes(make=fail)
    assert pipes.take() is None
    assert pipes.in_use == 0


def test_without_splice_there_are_no_pipes() -> None:
    assert Pipes(make=None).take() is None


def test_both_ends_make_nobody_wait_and_are_not_inherited() -> None:
    pipe = Pipe()
    for fd in (pipe.enter, pipe.exit):
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
    pipe.close()
