"""Bodies in files: what can be had at once, what is read in a thread, and files that grow while they are read."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.service import disk_body
from lbproxy.service.disk_body import BEHIND, TOO_FAR_BEHIND, GrowingFile, OpenBody
from lbproxy.service.disk_writing import REST_SECONDS
from tests.service.disk_rig import Place, answer

URL = b"http://a.example/x"
LARGE = bytes(range(256)) * 1024


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path, monkeypatch)
    yield made
    made.stop()


class Reader:
    """Reads as much as there is, whenever it is told."""

    def __init__(self, body: OpenBody) -> None:
        self.body = body
        self.position = 0
        self.data = b""
        self.ended = 0
        self.may_lag = True
        body.wait(self)

    def more(self) -> None:
        if self.body.length > self.position:
            self.data += os.pread(self.body.descriptor(), self.body.length - self.position, self.position)
            self.position = self.body.length
        self.ended += self.body.complete or self.body.failed


def large(place: Place, body: bytes = LARGE) -> OpenBody:
    place.keep(URL, body)
    stored = place.load(URL)
    assert stored is not None
    assert isinstance(stored.body, OpenBody)
    return stored.body


def loaded(place: Place, body: OpenBody, position: int, most: int) -> bytes | None:
    found: list[bytes | None] = []
    body.load(position, most, found.append)
    place.reactor.until(lambda: found)
    return found[0]


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_bytes_are_loaded_in_a_thread(place: Place) -> None:
    place.start()
    body = large(place)
    assert (body.length, body.expected, body.complete, body.failed) == (len(LARGE), len(LARGE), True, False)
    assert loaded(place, body, 0, 100) == LARGE[:100]
    assert loaded(place, body, 1000, 1 << 30) == LARGE[1000:]
    assert loaded(place, body, len(LARGE), 10) == b""


def test_what_has_just_been_loaded_is_ready_on_any_file_system(place: Place) -> None:
    place.start()
    body = large(place)
    loaded(place, body, 0, len(LARGE))
    assert body.ready(0, len(LARGE))
    assert body.ready(5, 10)


def test_what_is_in_the_page_cache_is_ready(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()
    body = large(place)
    asked: list[int] = []

    def present(descriptor: int, buffers: list[bytearray], position: int, flags: int) -> int:
        assert descriptor == body.descriptor()
        assert flags == os.RWF_NOWAIT
        asked.append(position)
        return len(buffers[0])

    monkeypatch.setattr(os, "preadv", present)
    assert body.ready(1000, 500)
    assert asked == [1000, 1499]
    assert body.ready(len(LARGE) - 1, 500)
    assert not body.ready(len(LARGE), 1)


@pytest.mark.parametrize("missing", [0, 1])
def test_what_is_not_in_the_page_cache_is_not_ready(
    place: Place, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    place.start()
    body = large(place)
    answers = [1, 1]

    def absent(*words: object) -> int:
        answers.pop()
        if len(answers) == missing:
            raise BlockingIOError
        return 1

    monkeypatch.setattr(os, "preadv", absent)
    assert not body.ready(0, 1000)


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_nobody_tells_what_was_loaded_is_ready(place: Place, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    place.start()
    body = large(place)

    def refused(*words: object) -> int:
        raise OSError(error, "no such flag")

    monkeypatch.setattr(os, "preadv", refused)
    assert not body.ready(0, 1000)
    loaded(place, body, 0, 1000)
    assert body.ready(0, 1000)
    assert body.ready(500, 500)
    assert not body.ready(500, 501)


def test_a_file_that_has_lost_its_end_cannot_be_loaded(place: Place) -> None:
    place.start()
    body = large(place)
    os.truncate(place.bodies()[0], 1000)
    assert loaded(place, body, 0, 1000) == LARGE[:1000]
    assert loaded(place, body, 500, 1000) is None
    assert not body.ready(500, 1000)


def test_the_file_stays_open_until_nobody_has_the_body(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()
    body = large(place)
    descriptor = body.descriptor()
    place.disk.drop(URL)
    place.settle()
    assert place.bodies() == []
    assert os.pread(descriptor, len(LARGE), 0) == LARGE
    closed: list[int] = []
    close = os.close

    def noticed(number: int) -> None:
        close(number)
        place.reactor.callFromThread(closed.append, number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", noticed)
        del body
        place.reactor.until(lambda: descriptor in closed)
    assert not is_open(descriptor)


def test_after_the_end_nothing_is_loaded_but_what_is_open_can_be_sent(place: Place) -> None:
    place.start()
    body = large(place)
    place.stop()
    assert loaded(place, body, 0, 10) is None
    assert os.pread(body.descriptor(), 10, 0) == LARGE[:10]
    descriptor = body.descriptor()
    del body
    assert not is_open(descriptor)
    place.start()


def test_a_growing_file_is_read_while_it_is_written(place: Place) -> None:
    place.start()
    growing = place.disk.begin(None)
    assert growing is not None
    with pytest.raises(OSError, match="nothing has been written yet"):
        growing.descriptor()
    first = Reader(growing)
    assert growing.add(b"hello ")
    assert growing.length == 0
    place.settle()
    assert (growing.length, growing.expected, growing.complete) == (6, -1, False)
    second = Reader(growing)
    second.more()
    growing.add(b"world")
    growing.finish()
    assert not growing.complete
    place.settle()
    assert first.data == second.data == b"hello world"
    assert first.ended == second.ended == 1
    assert (growing.readers, growing.expected, growing.complete) == (0, 11, True)
    assert loaded(place, growing, 3, 4) == b"lo w"


def test_a_growing_file_that_is_finished_is_kept(place: Place) -> None:
    place.start()
    growing = place.grow(LARGE, length=2 * len(LARGE))
    growing.add(LARGE)
    growing.finish()
    assert place.disk.keep(answer(URL, growing), ())
    place.settle()
    del growing
    gc.collect()
    place.stop()
    place.start()
    stored = place.load(URL)
    assert stored is not None
    assert isinstance(stored.body, OpenBody)
    assert os.pread(stored.body.descriptor(), 1 << 30, 0) == LARGE * 2
    assert place.disk.counts["broken"] == place.disk.counts["unknown"] == 0


def unfinished(place: Place) -> list[Path]:
    return list((place.root / "new").iterdir())


def test_a_growing_file_that_is_not_finished_cannot_be_found(place: Place) -> None:
    place.start()
    growing = place.grow(b"half")
    assert len(unfinished(place)) == 1
    place.disk.keep(answer(URL, growing), ())
    growing.fail()
    place.settle()
    assert not place.disk.find(URL)
    assert growing.failed
    assert unfinished(place) == place.bodies() == []


def test_nothing_is_left_of_a_growing_file_that_is_forgotten(place: Place) -> None:
    place.start()
    growing = place.grow(b"half")
    descriptor = growing.descriptor()
    assert is_open(descriptor)
    del growing
    place.settle()
    assert unfinished(place) == []
    assert place.disk._drafts.room == 0


@pytest.mark.parametrize(("length", "data"), [(10, b"short"), (3, b"long")])
def test_a_body_that_is_not_as_long_as_was_said_fails(place: Place, length: int, data: bytes) -> None:
    place.start()
    growing = place.grow(data, length=length)
    growing.finish()
    assert growing.failed
    assert not place.disk.keep(answer(URL, growing), ())
    place.settle()
    assert unfinished(place) == []


def test_a_body_of_unknown_length_that_becomes_too_long_fails(place: Place) -> None:
    place.start(max_object=1000)
    assert place.disk.begin(1001) is None
    growing = place.grow(b"x" * 1000)
    assert not growing.failed
    growing.add(b"x")
    assert growing.failed


def hold(place: Place) -> Iterator[None]:
    """The thread that writes does nothing until this goes on."""
    gate = threading.Event()
    place.disk._threads.tell(gate.wait)
    yield
    gate.set()
    yield


def test_who_writes_faster_than_the_disk_is_told(place: Place) -> None:
    place.start()
    growing = place.disk.begin(None)
    assert growing is not None
    rooms: list[bool] = []
    growing.on_room = lambda: rooms.append(growing.length > BEHIND // 2)
    held = hold(place)
    next(held)
    piece = b"x" * (BEHIND // 2)
    assert [growing.add(piece) for _ in range(4)] == [True, True, False, False]
    next(held)
    place.settle()
    assert rooms == [True]
    assert growing.add(piece)
    assert not growing.failed


def test_a_disk_that_is_too_far_behind_is_given_up(place: Place) -> None:
    place.start()
    growing = place.disk.begin(None)
    assert growing is not None
    rooms: list[int] = []
    growing.on_room = lambda: rooms.append(1)
    held = hold(place)
    next(held)
    for _ in range(TOO_FAR_BEHIND // BEHIND + 1):
        growing.add(b"x" * BEHIND)
    assert growing.failed
    assert rooms == [1]
    next(held)
    place.settle()
    assert unfinished(place) == []
    assert place.disk.status()["waiting"] == 0


def test_all_growing_files_share_what_may_wait(place: Place) -> None:
    place.start(queue=10_000)
    first, second = place.disk.begin(None), place.disk.begin(None)
    assert first is not None
    assert second is not None
    held = hold(place)
    next(held)
    first.add(b"x" * 6000)
    second.add(b"x" * 6000)
    assert second.failed
    next(held)
    place.settle()
    assert first.length == 6000


def test_a_full_disk_is_found_out_before_anything_can_be_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()

    def full(descriptor: int, position: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    growing = place.disk.begin(1000)
    assert growing is not None
    reader = Reader(growing)
    growing.add(b"x" * 1000)
    growing.finish()
    place.settle()
    assert (growing.failed, growing.length, reader.data, reader.ended) == (True, 0, b"", 1)
    assert place.disk.last_error == os.strerror(errno.ENOSPC)
    assert unfinished(place) == []


def test_a_system_that_cannot_promise_space_is_used_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()

    def refused(descriptor: int, position: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    growing = place.grow(b"x" * 1000, length=1000)
    growing.finish()
    place.settle()
    assert growing.complete


def test_a_write_that_fails_fails_the_body_and_keeps_what_was_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start()
    growing = place.grow(b"hello")
    reader = Reader(growing)
    reader.more()

    def broken(descriptor: int, data: bytes, position: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", broken)
        growing.add(b"world")
        place.settle()
    assert (growing.failed, reader.data, reader.ended) == (True, b"hello", 1)
    assert unfinished(place) == []
    assert place.disk.begin(None) is None
    place.reactor.advance(REST_SECONDS)
    assert place.disk.begin(None) is not None


def test_growing_files_make_room_for_themselves(place: Place) -> None:
    place.start(size=400_000)
    for number in range(80):
        place.keep(b"http://a.example/%d" % number, b"x" * 4000)
    assert place.disk.bytes > 300_000
    growing = place.grow(b"x" * 100_000, length=300_000)
    assert place.disk.bytes <= 100_000
    assert place.grow(length=200_000).failed
    growing.fail()
    place.settle()
    assert place.disk._drafts.room == 0


def test_short_writes_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, position: write(descriptor, data[:7], position))
    growing = place.grow(b"hello world, hello")
    assert os.pread(growing.descriptor(), 100, 0) == b"hello world, hello"
    assert isinstance(growing, GrowingFile)
    assert growing.length == 18


def test_reading_exactly_goes_on_after_short_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello world")
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, most, position: read(descriptor, min(most, 2), position))
    with open(tmp_path / "file", "rb") as file:
        assert disk_body.read_exactly(file.fileno(), 1, 8) == b"ello wo"
        assert disk_body.read_exactly(file.fileno(), 5, 12) is None
