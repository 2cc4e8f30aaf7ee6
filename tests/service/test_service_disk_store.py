"""The disk cache: what is kept comes back, also in the next process, and what was purged does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.cache.body import Body
from lbproxy.cache.values import Stored
from lbproxy.model_cache import DiskSettings
from lbproxy.service import disk_store
from lbproxy.service.disk_body import OpenBody
from tests.service.disk_rig import Place, answer, same

URL = b"http://a.example/x"
LARGE = bytes(range(256)) * 1024


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path, monkeypatch)
    yield made
    made.stop()


def contents(stored: Stored | None) -> bytes | None:
    """The bytes of its body, wherever they are."""
    if stored is None:
        return None
    if isinstance(stored.body, bytes):
        return stored.body
    assert isinstance(stored.body, OpenBody)
    assert stored.body.complete
    return os.pread(stored.body.descriptor(), stored.body.length, 0)


def test_what_is_kept_comes_back_as_it_was(place: Place) -> None:
    place.start()
    stored = place.keep(URL, b"hello", lines=b'ETag: "1"\r\n', coding=b"gzip", tags=(b"one", b"two"))
    assert place.disk.find(URL)
    assert same(place.load(URL), stored)


def test_it_survives_a_restart(place: Place) -> None:
    place.start()
    stored = place.keep(URL, b"hello", tags=(b"one",))
    empty = place.keep(b"http://a.example/empty", b"")
    place.stop()
    place.start()
    assert place.disk.find(URL)
    assert same(place.load(URL), stored)
    assert same(place.load(empty.key), empty)
    assert place.disk.counts["broken"] == place.disk.counts["unknown"] == 0


def test_what_waits_is_written_before_it_stops(place: Place) -> None:
    place.start()
    for number in range(500):
        assert place.disk.keep(answer(b"http://a.example/%d" % number), ())
    place.stop()
    place.start()
    assert place.disk.files == 500


def test_an_unknown_key_is_not_found(place: Place) -> None:
    place.start()
    place.keep(URL)
    assert not place.disk.find(URL + b"y")
    assert place.load(URL + b"y") is None


def test_nothing_is_found_before_it_is_open(place: Place) -> None:
    place.start()
    place.keep(URL)
    place.stop()
    place.make().start()
    assert not place.disk.find(URL)
    assert not place.disk.keep(answer(URL), ())
    place.reactor.until(lambda: place.disk.find(URL))


def test_a_body_in_memory_is_kept_when_it_is_complete(place: Place) -> None:
    place.start()
    body = Body()
    body.add(b"he")
    assert not place.disk.keep(answer(URL, body), ())
    body.add(b"llo")
    body.finish()
    place.keep(URL, body)
    assert contents(place.load(URL)) == b"hello"


def test_a_large_body_comes_as_an_open_file_that_is_shared(place: Place) -> None:
    place.start()
    place.keep(URL, LARGE)
    first, second = place.load(URL), place.load(URL)
    assert first is not None
    assert second is not None
    assert first.body is second.body
    assert contents(first) == LARGE


def test_a_newer_answer_takes_the_place_of_the_old_one(place: Place) -> None:
    place.start()
    place.keep(URL, LARGE)
    old = place.load(URL)
    place.keep(URL, b"new")
    assert contents(place.load(URL)) == b"new"
    assert place.disk.files == len(place.bodies()) == 1
    # Who has begun to send the old one goes on.
    assert contents(old) == LARGE


def test_variants_are_told_apart_by_what_vary_names(place: Place) -> None:
    place.start()
    place.keep(URL, b"de", (b"accept-language",), variant=b"de")
    place.keep(URL, b"en", (b"accept-language",), variant=b"en")
    asked: list[tuple[bytes, ...]] = []
    found: list[tuple[bytes | None, tuple[bytes, ...]]] = []

    def variant_of(names: tuple[bytes, ...]) -> bytes:
        asked.append(names)
        return b"de"

    place.disk.load(URL, variant_of, lambda stored, names: found.append((contents(stored), names)))
    place.reactor.until(lambda: found)
    assert found == [(b"de", (b"accept-language",))]
    assert set(asked) == {(b"accept-language",)}
    assert place.load(URL, b"fr") is None


def test_when_vary_names_other_fields_the_older_variants_go(place: Place) -> None:
    place.start()
    place.keep(URL, b"de", (b"accept-language",), variant=b"de")
    place.keep(URL, b"all")
    assert place.disk.files == 1
    assert contents(place.load(URL, b"de")) == b"all"


def test_the_oldest_of_too_many_variants_goes(place: Place) -> None:
    place.start(variants=3)
    for number in range(5):
        place.keep(URL, b"%d" % number, (b"x",), variant=b"%d" % number)
    assert [place.load(URL, b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    assert place.disk.files == 3


def test_an_update_changes_the_lines_and_not_the_body(place: Place) -> None:
    place.start()
    stored = place.keep(URL, b"hello")
    stored.lines, stored.fresh_until = b'ETag: "2"\r\n' * 20, 3000.0
    place.disk.update(stored, ())
    place.settle()
    assert same(place.load(URL), stored)
    place.stop()
    place.start()
    assert same(place.load(URL), stored)
    assert place.disk.counts["broken"] == 0


def test_keeping_what_came_from_the_disk_is_an_update(place: Place) -> None:
    place.start()
    place.keep(URL, LARGE)
    stored = place.load(URL)
    assert stored is not None
    stored.fresh_until = 3000.0
    assert place.disk.keep(stored, ())
    place.settle()
    assert place.disk.counts["written"] == place.disk.counts["updated"] == 1
    again = place.load(URL)
    assert again is not None
    assert again.fresh_until == 3000.0


def test_it_takes_no_more_than_its_size_and_the_oldest_go(place: Place) -> None:
    place.start(size=100_000)
    for number in range(60):
        place.keep(b"http://a.example/%d" % number, b"x" * 4000)
        assert place.disk.bytes <= 100_000
    found = [place.disk.find(b"http://a.example/%d" % number) for number in range(60)]
    assert found == sorted(found)
    assert found.count(True) == place.disk.files == len(place.bodies())
    assert place.disk.counts["evicted"] == found.count(False) > 30
    assert sum(path.stat().st_size for path in place.bodies()) <= 100_000


def test_what_has_been_read_gets_a_second_chance(place: Place) -> None:
    place.start(size=100_000)
    first = place.keep(b"http://a.example/first", b"x" * 4000)
    for number in range(100):
        place.keep(b"http://a.example/%d" % number, b"x" * 4000)
        if number < 40:
            assert place.load(first.key) is not None
    assert not place.disk.find(first.key)


def test_an_evicted_body_is_sent_to_its_end(place: Place) -> None:
    place.start(size=400_000)
    place.keep(URL, LARGE)
    stored = place.load(URL)
    place.keep(URL + b"2", LARGE)
    place.keep(URL + b"3", LARGE)
    assert not place.disk.find(URL)
    assert contents(stored) == LARGE


def test_what_is_larger_than_all_of_it_is_not_kept(place: Place) -> None:
    place.start(size=50_000, max_object=20_000)
    assert not place.disk.keep(answer(URL, b"x" * 20_001), ())
    place.keep(b"http://a.example/other")
    place.keep(b"http://a.example/long", lines=b"x" * 60_000)
    assert place.disk.files == 1
    assert place.disk.counts["dropped"] == 1


def test_a_smaller_size_counts_at_once(place: Place) -> None:
    place.start()
    for number in range(20):
        place.keep(b"http://a.example/%d" % number, b"x" * 4000)
    place.disk.configure(DiskSettings(str(place.path), 30_000))
    place.settle()
    assert 0 < place.disk.bytes <= 30_000


def test_beyond_the_queue_nothing_is_taken(place: Place) -> None:
    place.start(queue=10_000)
    taken = [place.disk.keep(answer(b"http://a.example/%d" % number, b"x" * 3000), ()) for number in range(4)]
    assert taken == [True, True, False, False]
    assert place.disk.counts["dropped"] == 2
    place.settle()
    assert place.disk.status()["waiting"] == 0
    assert place.disk.keep(answer(URL), ())


@pytest.mark.parametrize(
    ("kind", "value", "gone"),
    [
        ("url", b"http://a.example/x/1", {0}),
        ("prefix", b"http://a.example/x/", {0, 1}),
        ("host", b"a.example", {0, 1, 2}),
        ("tag", b"red", {1, 3}),
        ("all", b"", {0, 1, 2, 3}),
    ],
)
def test_a_purge_counts_at_once_and_for_good(place: Place, kind: str, value: bytes, gone: set[int]) -> None:
    place.start()
    keys = [b"http://a.example/x/1", b"http://a.example/x/2", b"http://a.example/y", b"http://b.example:81/x/1"]
    for number, key in enumerate(keys):
        place.keep(key, tags=(b"blue", b"red") if number % 2 else None)
    place.disk.purge(kind, value, 1500.0, soft=False)  # type: ignore[arg-type]  # one of its words
    for expected in range(2):
        assert {number for number, key in enumerate(keys) if place.load(key) is None} == gone
        if not expected:
            place.stop()
            place.start()
    assert place.disk.files == len(place.bodies()) == 4 - len(gone)


def test_a_purge_is_not_forgotten_by_a_process_that_is_killed_before_the_walk(place: Place) -> None:
    place.start()
    place.keep(URL)
    disk = place.disk
    # The thread writes the purge down, and never comes to its idle work.
    disk._writing._tidying = None
    disk.purge("all", b"", 1500.0, soft=False)
    place.stop()
    assert len(place.bodies()) == 1
    place.make().start()
    place.reactor.until(lambda: place.disk.status()["open"])
    assert place.load(URL) is None
    place.settle()
    assert place.bodies() == []


def test_what_is_kept_after_a_purge_stays(place: Place) -> None:
    place.start()
    place.disk.keep(answer(URL, b"old"), ())
    place.disk.purge("all", b"", 1500.0, soft=False)
    place.disk.keep(answer(URL, b"new"), ())
    place.settle()
    assert contents(place.load(URL)) == b"new"


def test_a_soft_purge_makes_stale(place: Place) -> None:
    place.start()
    place.keep(URL)
    later = place.keep(b"http://a.example/later", born=1600.0)
    place.disk.purge("host", b"a.example", 1500.0, soft=True)
    for _ in range(2):
        stored = place.load(URL)
        assert stored is not None
        assert stored.fresh_until == 1500.0
        assert same(place.load(later.key), later)


def test_a_dropped_key_is_gone_with_all_its_variants(place: Place) -> None:
    place.start()
    place.keep(URL, b"1", (b"x",), variant=b"1")
    place.keep(URL, b"2", (b"x",), variant=b"2")
    place.disk.keep(answer(URL + b"y"), ())
    place.disk.drop(URL + b"y")
    place.disk.drop(URL)
    assert place.load(URL, b"1") is None
    assert place.load(URL + b"y") is None
    place.settle()
    assert place.disk.files == len(place.bodies()) == 0


def test_a_read_that_a_purge_has_overtaken_finds_nothing(place: Place) -> None:
    place.start()
    place.keep(URL)
    found: list[Stored | None] = []
    place.disk.load(URL, lambda names: b"", lambda stored, names: found.append(stored))
    place.disk.drop(URL)
    assert found == [None]
    place.settle()
    assert found == [None]


def test_a_purge_before_it_is_open_counts(place: Place) -> None:
    place.start()
    place.keep(URL)
    place.stop()
    place.make()
    place.disk.drop(URL)
    place.disk.start()
    place.reactor.until(lambda: place.disk.status()["open"])
    assert place.load(URL) is None


def test_two_processes_do_not_share_it(place: Place) -> None:
    code = (
        "import sys\nfrom lbproxy.service.disk_files import Files\n"
        "Files(sys.argv[1]).open()\nprint('open', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        disk = place.make()
        disk.start()
        place.reactor.until(lambda: disk.counts["errors"])
        assert not disk.find(URL)
        assert not disk.keep(answer(URL), ())
        (line,) = place.said()
        assert f"another process uses {place.root}; give each its own directory" in line
        other.communicate()
    # It is tried again, not at once.
    assert not disk.find(URL)
    place.settle()
    assert not disk.status()["open"]
    place.reactor.advance(10.0)
    disk.find(URL)
    place.reactor.until(lambda: disk.status()["open"])
    place.keep(URL)


def test_a_disk_that_does_not_answer_in_time_has_found_nothing(place: Place) -> None:
    place.start()
    place.keep(URL)
    found: list[Stored | None] = []
    place.disk.load(URL, lambda names: b"", lambda stored, names: found.append(stored))
    place.reactor.advance(1.9)
    assert found == []
    place.reactor.advance(0.2)
    assert found == [None]
    assert place.disk.counts["late"] == 1
    assert contents(place.load(URL)) == b"body"


def test_too_many_open_files_cost_hits(place: Place) -> None:
    place.start(most_open=1)
    place.keep(URL, LARGE)
    place.keep(URL + b"2", LARGE)
    first = place.load(URL)
    assert place.load(URL + b"2") is None
    assert place.disk.begin(None) is None
    del first
    assert contents(place.load(URL + b"2")) == LARGE


def test_purges_that_a_disk_does_not_come_to_become_one_of_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_store, "_MOST_CHANGES", 3)
    place.start()
    for number in range(9):
        place.keep(URL + b"%d" % number)
    gate = threading.Event()
    place.disk._threads.tell(gate.wait)
    for number in range(8):
        place.disk.drop(URL + b"%d" % number)
    assert not place.disk.keep(answer(URL), ())
    assert place.disk._changes - place.disk._writing.came == 4
    gate.set()
    assert place.load(URL + b"8") is None
    place.settle()
    assert place.disk.files == len(place.bodies()) == 0
    assert place.disk._purges.unsettled() == place.disk._purges.settled() == []
    stored = place.keep(URL)
    assert same(place.load(URL), stored)


def test_the_end_does_not_wait_for_a_disk_that_does_not_answer(place: Place) -> None:
    place.start()
    gate = threading.Event()
    place.disk._threads.tell(gate.wait)
    assert place.disk.keep(answer(URL), ())
    ended: list[None] = []
    place.disk.stop().addCallback(ended.append)
    place.reactor.advance(4.9)
    assert ended == []
    place.reactor.advance(0.2)
    assert ended == [None]
    gate.set()
    place.start()
    assert not place.disk.find(URL)
