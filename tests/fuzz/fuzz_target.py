"""Paths and hosts: nothing but HttpError, and what was normalised is normal."""

from __future__ import annotations

from tests.fuzz.fuzzing import instrumented, run

with instrumented():
    from lbproxy.http.hosts import normalise_host
    from lbproxy.http.messages import HttpError
    from lbproxy.http.target import normalise, read_target


def target(data: bytes) -> None:
    _path(data)
    _host(data)


def _path(data: bytes) -> None:
    try:
        raw, query = read_target(data)
        merged, unmerged, slash = normalise(raw)
    except HttpError:
        return
    assert normalise(merged) == (merged, merged, slash)
    assert normalise(unmerged) == (merged, unmerged, slash)
    assert read_target(merged if query is None else merged + b"?" + query) == (merged, query)
    assert not {b".", b".."} & set(merged.split(b"/"))


def _host(data: bytes) -> None:
    try:
        host, authority = normalise_host(data, 80)
    except HttpError:
        return
    assert normalise_host(authority, 80) == (host, authority)
    assert normalise_host(host, 80)[0] == host


SEEDS = [b"/a/%2e%2E//b/../%41%2f?c", b"EXAMPLE.com.:8080", b"[::ffff:1.2.3.4]:80"]

if __name__ == "__main__":
    run(target, SEEDS)
