"""When changed files are noticed: after two looks that agree, and never where nobody has changed anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from lbproxy.net.tls.sites import Site
from lbproxy.preamble import ClientHello
from lbproxy.service.aside import aside_of
from lbproxy.service.watching import Watch, stamps_of
from tests.certificates.making import Authority
from tests.net.net_rig import hand_reactor, turn
from tests.service.certificate_rig import Aside, Said, at_once, put, renew, tls, visit
from tests.service.service_rig import configured, free_port, pool, running


class Place:
    """A watch over files, and what it has told."""

    def __init__(self, *paths: Path) -> None:
        self.clock = Clock()
        self.paths = [str(path) for path in paths]
        self.told: list[frozenset[str]] = []
        self.watch = Watch(self.clock, at_once, self.changed)
        self.take()
        self.watch.start()

    def take(self) -> None:
        self.watch.watch(stamps_of(self.paths))

    def changed(self, unsettled: frozenset[str]) -> Deferred[None]:
        self.told.append(unsettled)
        self.take()
        return succeed(None)


def rewritten(path: Path) -> None:
    path.write_bytes(b"other")


def replaced(path: Path) -> None:
    put(path, b"other")


def removed(path: Path) -> None:
    path.unlink()


def linked_anew(path: Path) -> None:
    path.with_name("target").write_bytes(b"first")
    path.unlink()
    path.symlink_to("target")


def with_another_mode(path: Path) -> None:
    path.chmod(0o400)


def rewritten_with_its_old_time_and_size(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"FIRST")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        rewritten,
        replaced,
        removed,
        linked_anew,
        with_another_mode,
        rewritten_with_its_old_time_and_size,
    ],
)
def test_a_change_is_told_once_after_two_looks(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"first")
    place = Place(path)
    for _ in range(3):
        place.clock.advance(2)
    assert place.told == []
    change(path)
    place.clock.advance(2)
    assert place.told == [], "it may be half of what it shall be"
    place.clock.advance(2)
    assert place.told == [frozenset()]
    for _ in range(3):
        place.clock.advance(2)
    assert len(place.told) == 1


def test_a_file_that_comes_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"")
    place.clock.advance(2)
    place.clock.advance(2)
    assert len(place.told) == 1


def test_what_is_being_written_is_left_alone_until_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    place = Place(path)
    for length in range(1, 6):
        path.write_bytes(b"x" * length)
        place.clock.advance(2)
    assert place.told == []
    place.clock.advance(2)
    assert len(place.told) == 1


def test_one_file_that_never_rests_does_not_hold_up_another(tmp_path: Path) -> None:
    busy, quiet = tmp_path / "busy", tmp_path / "quiet"
    busy.write_bytes(b"")
    quiet.write_bytes(b"")
    place = Place(busy, quiet)
    quiet.write_bytes(b"new")
    for length in range(1, 3):
        busy.write_bytes(b"x" * length)
        place.clock.advance(2)
    assert place.told == [frozenset({str(busy)})]


class TestADirectory:
    @pytest.mark.parametrize("name", ["new.pem", "new.crt", "old.key", "sub/fullchain.pem"])
    def test_is_another_with_another_pair_in_it(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "old.pem").write_bytes(b"")
        before = stamps_of([str(tmp_path)])
        (tmp_path / name).write_bytes(b"")
        assert stamps_of([str(tmp_path)]) != before

    @pytest.mark.parametrize("name", [".hidden.pem", "log.txt", "sub/README"])
    def test_is_the_same_with_anything_else(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        before = stamps_of([str(tmp_path)])
        (tmp_path / name).write_bytes(b"")
        assert stamps_of([str(tmp_path)]) == before


def test_a_path_that_can_be_none_is_no_fault() -> None:
    assert stamps_of(["a\0b"]) == {"a\0b": ("error", None)}


def test_nobody_looks_while_a_look_is_under_way() -> None:
    clock, aside = Clock(), Aside()
    watch = Watch(clock, aside, lambda _: succeed(None))
    watch.watch(stamps_of(["/nowhere"]))
    watch.start()
    clock.advance(2)
    clock.advance(60)
    assert len(aside.waiting) == 1
    aside.work()
    clock.advance(60)
    assert len(aside.waiting) == 0, "a slow look is followed by a long rest"
    clock.advance(60 * 20)
    assert len(aside.waiting) == 1


def test_a_look_that_ends_after_the_watch_comes_to_nothing(tmp_path: Path) -> None:
    clock, aside = Clock(), Aside()
    told: list[object] = []

    def changed(unsettled: frozenset[str]) -> Deferred[None]:
        told.append(unsettled)
        return succeed(None)

    watch = Watch(clock, aside, changed)
    watch.watch(stamps_of([str(tmp_path / "f")]))
    watch.start()
    (tmp_path / "f").write_bytes(b"")
    clock.advance(2)
    aside.work()
    clock.advance(2)
    watch.stop()
    aside.work()
    assert told == []
    assert clock.getDelayedCalls() == []


def test_a_fault_is_logged_and_the_watch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch)
    clock = Clock()
    watch = Watch(clock, at_once, lambda _: fail(RuntimeError("ours")))
    watch.watch(stamps_of([str(tmp_path / "f")]))
    watch.start()
    (tmp_path / "f").write_bytes(b"")
    clock.advance(2)
    clock.advance(2)
    assert len(said.take("critical")) == 1
    assert len(clock.getDelayedCalls()) == 1


def test_a_call_aside_is_made_in_another_thread_and_its_outcome_comes_back_to_this_one() -> None:
    with hand_reactor() as reactor:
        aside = aside_of(reactor, "test")
        seen: list[object] = []

        def broken() -> None:
            raise KeyError("x")

        aside(threading.get_ident).addCallback(lambda there: seen.append((there, threading.get_ident())))
        aside(broken).addErrback(lambda failure: seen.append(failure.type))
        turn(reactor, lambda: len(seen) == 2)
        assert KeyError in seen
        (threads,) = (one for one in seen if isinstance(one, tuple))
        assert threads[0] != threads[1] == threading.get_ident()
        for one in threading.enumerate():
            if one.name == "test":
                one.join()  # it has told, and may still be about to wake the reactor that ends here


def test_a_running_service_serves_a_renewed_certificate(tmp_path: Path) -> None:
    authority = Authority()
    path = tmp_path / "a.pem"
    first, second = authority.issue("a.example"), authority.issue("a.example")
    renew(path, first)
    configuration = configured({"front": [free_port()]}, (pool("web", 9101),))
    (listener,) = configuration.listeners
    configuration = replace(configuration, listeners=(replace(listener, tls=tls(path)),))
    with running(configuration) as made:
        front = made.service.listeners.by_name["front"]
        before = front.sites
        renew(path, second)
        turn(made.reactor, lambda: front.sites is not before)
        assert front.sites is made.service.certificates.sites["front"]
        assert front.sites is not None
        site = front.sites.choose(ClientHello(server_name="a.example", named=True))
        assert isinstance(site, Site)
        assert visit(site).fingerprint == second.fingerprint
