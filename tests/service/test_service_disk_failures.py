"""Scenario 52 and its like: a full, failing or spoilt disk costs hits, is counted, said once, and got over."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lbproxy.cache.values import Stored
from lbproxy.service import disk_opening
from lbproxy.service.disk_body import OpenBody
from lbproxy.service.disk_files import Files, NewFile
from lbproxy.service.disk_writing import REST_SECONDS
from tests.service.disk_rig import Place, answer, same

URL = b"http://a.example/x"
LARGE = bytes(range(256)) * 1024


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path, monkeypatch)
    yield made
    made.stop()


class Failing(Files):
    """Files that cannot be written, or begun, while there is an `error`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.error = 0

    def new(self) -> NewFile:
        made = super().new()
        if self.error:
            made.close()
            made.unlink()
            raise OSError(self.error, os.strerror(self.error))
        return made


def spoil(path: Path, offset: int) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def replace_by_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILS: list[Callable[[Path], object]] = [cut, lengthen, Path.unlink, replace_by_link, replace_by_pipe]


@pytest.mark.parametrize("spoilt", [*SPOILS, lambda path: spoil(path, 3)])
def test_a_spoilt_body_is_noticed_when_it_is_read(place: Place, spoilt: Callable[[Path], object]) -> None:
    place.start()
    place.keep(URL, b"hello")
    other = place.keep(URL + b"y", b"hello")
    spoilt(place.bodies()[0])
    assert place.load(URL) is None
    assert not place.disk.find(URL)
    assert place.disk.counts["broken"] == place.disk.files == 1
    assert same(place.load(other.key), other)
    again = place.keep(URL, b"again")
    assert same(place.load(URL), again)


@pytest.mark.parametrize("spoilt", [cut, lengthen, Path.unlink, replace_by_pipe])
@pytest.mark.parametrize("body", [b"hello", LARGE], ids=["small", "large"])
def test_a_spoilt_body_is_noticed_at_the_start(place: Place, spoilt: Callable[[Path], object], body: bytes) -> None:
    place.start()
    place.keep(URL, body)
    place.keep(URL + b"y", body)
    place.stop()
    spoilt(place.bodies()[0])
    place.start()
    assert not place.disk.find(URL)
    assert place.disk.find(URL + b"y")
    assert place.disk.counts["broken"] == place.disk.files == len(place.bodies()) == 1


def test_after_the_machine_came_up_large_bodies_are_read_whole_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start()
    place.keep(URL, LARGE)
    good = place.keep(URL + b"y", LARGE)
    place.stop()
    monkeypatch.setattr(disk_opening, "_boot", lambda: "another")
    spoil(place.bodies()[0], 100_000)
    place.start()
    assert place.load(URL) is None
    assert place.disk.counts["broken"] == 1
    found = place.load(good.key)
    assert found is not None
    assert isinstance(found.body, OpenBody)
    assert os.pread(found.body.descriptor(), len(LARGE), 0) == LARGE


def test_half_written_and_unknown_files_are_removed(place: Place) -> None:
    place.start()
    stored = place.keep(URL)
    place.stop()
    (place.root / "new" / f"{7:016x}").write_bytes(b"half")
    block = place.bodies()[0].parent
    (block / f"{99:016x}").write_bytes(b"whose?")
    far = place.root / "bodies" / "0a" / "bc"
    far.mkdir(parents=True)
    (far / f"{0xABC01:016x}").write_bytes(b"whose?")
    place.start()
    assert same(place.load(URL), stored)
    assert len(place.bodies()) == 1
    assert list((place.root / "new").iterdir()) == []
    assert not far.parent.exists()
    assert place.disk.counts["unknown"] == 2


def test_foreign_files_are_never_touched(place: Place) -> None:
    place.start()
    place.keep(URL)
    name = place.bodies()[0].name
    foreign = [
        place.path / "precious",
        place.root / "precious",
        place.root / "new" / "precious",
        place.root / "bodies" / "precious" / "precious",
        place.bodies()[0].parent / "precious",
        # It has a name of ours, but not in its place: what is in its place is another.
        place.root / "bodies" / "77" / "77" / name,
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    place.stop()
    stored = place.start() and place.load(URL)
    assert stored is not None
    place.disk.purge("all", b"", 1500.0, soft=False)
    place.settle()
    assert place.disk.files == 0
    assert [path.read_bytes() for path in foreign] == [b"precious"] * len(foreign)


def test_a_directory_that_is_not_ours_is_left_alone(place: Place) -> None:
    place.root.mkdir()
    (place.root / "precious").write_bytes(b"precious")
    disk = place.make()
    disk.start()
    place.reactor.until(lambda: disk.counts["errors"])
    assert [path.name for path in place.root.iterdir()] == ["precious"]
    (line,) = place.said()
    assert f"{place.root} is not of lbproxy's making" in line


def broken_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 4096] = b"\xff" * 4096
    path.write_bytes(data)


def other_form(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.close()


def without_table(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("DROP TABLE entries")
    base.close()


@pytest.mark.parametrize(
    "spoilt",
    [lambda path: path.write_bytes(b"not an index"), cut, broken_page, other_form, without_table],
    ids=["foreign", "cut", "pages", "form", "table"],
)
def test_a_broken_index_is_begun_anew(place: Place, spoilt: Callable[[Path], object]) -> None:
    place.start()
    for number in range(50):
        place.disk.keep(answer(URL + b"%d" % number), ())
    place.stop()
    spoilt(place.root / "index.sqlite")
    place.start()
    assert place.disk.files == len(place.bodies()) == place.disk.bytes == 0
    (line,) = place.said()
    assert "its index was broken and has been begun anew" in line
    place.reactor.advance(REST_SECONDS)
    stored = place.keep(URL)
    assert same(place.load(URL), stored)


def test_a_missing_index_is_an_empty_one(place: Place) -> None:
    place.start()
    place.keep(URL)
    place.stop()
    (place.root / "index.sqlite").unlink()
    place.start()
    assert place.disk.files == len(place.bodies()) == 0


def test_a_flipped_byte_of_a_row_is_noticed(place: Place) -> None:
    place.start()
    place.keep(URL, lines=b"X: aaaaaaaa\r\n")
    place.keep(URL + b"y")
    place.stop()
    index = place.root / "index.sqlite"
    data = index.read_bytes()
    assert data.count(b"aaaaaaaa") == 1
    spoil(index, data.index(b"aaaaaaaa"))
    place.start()
    assert place.load(URL) is None
    assert place.load(URL + b"y") is not None
    assert place.disk.counts["broken"] == 1


def test_an_index_that_breaks_while_it_is_used_is_begun_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()
    place.keep(URL)
    shelf = place.disk._writing._shelf
    assert shelf is not None

    def malformed(row: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(shelf.index, "put", malformed)
    assert place.disk.keep(answer(URL + b"y"), ())
    place.settle()
    assert place.disk.last_error == "its index: database disk image is malformed"
    assert place.disk.status()["open"]
    assert not place.disk.find(URL)
    place.reactor.advance(REST_SECONDS)
    stored = place.keep(URL)
    assert same(place.load(URL), stored)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE])
def test_a_disk_that_takes_nothing_costs_hits_and_one_line_a_minute(place: Place, error: int) -> None:
    files = Failing(place.path)
    place.start(files=files)
    old = place.keep(URL)
    files.error = error
    for number in range(5):
        assert place.disk.keep(answer(URL + b"y%d" % number), ())
    place.settle()
    assert place.disk.counts["errors"] == 5
    assert place.disk.last_error == os.strerror(error)
    # Nothing is tried for a while, but what is there can be read.
    assert not place.disk.keep(answer(URL + b"z"), ())
    assert place.disk.begin(10) is None
    if error != errno.ENOSPC:
        assert same(place.load(URL), old)
    place.reactor.advance(REST_SECONDS)
    assert place.disk.keep(answer(URL + b"z"), ())
    place.settle()
    (line,) = place.said()
    assert line == (f"disk cache {place.path}: {os.strerror(error)}; requests go on without it, and it is tried again")
    place.reactor.advance(60.0)
    files.error = 0
    stored = place.keep(URL + b"z")
    assert same(place.load(stored.key), stored)
    assert place.disk.status()["waiting"] == 0
    assert list((place.root / "new").iterdir()) == []


def test_a_disk_that_is_full_before_we_are_makes_room_and_goes_on(place: Place) -> None:
    place.path.joinpath("small").mkdir()
    small = Place.__new__(Place)
    small.__dict__ |= place.__dict__ | {"path": place.path / "small"}
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(small.path)], stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("a file system of its own takes root")
    try:
        small.start()
        newest: Stored | None = None
        for number in range(200):
            stored = answer(URL + b"%d" % number, b"x" * 60_000)
            if small.disk.keep(stored, ()):
                newest = stored
            small.settle()
            small.reactor.advance(REST_SECONDS / 2)
        assert small.disk.counts["errors"] > 0
        assert small.disk.counts["evicted"] > 100
        # It fills itself up to what has turned out to fit, and does not fail each time.
        assert small.disk.counts["errors"] < 10
        assert os.strerror(errno.ENOSPC) in str(small.said())
        assert small.disk.files == len(small.bodies()) > 10
        assert newest is not None
        small.stop()
        small.start()
        assert small.disk.files == len(small.bodies()) > 10
    finally:
        small.stop()
        subprocess.run(["umount", str(small.path)], check=True)
        place.disks.clear()
        place.start()


def test_a_failure_of_the_index_alone_is_got_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start()
    stored = place.keep(URL)
    shelf = place.disk._writing._shelf
    assert shelf is not None

    def full() -> None:
        problem = sqlite3.OperationalError("database or disk is full")
        problem.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(shelf.index, "commit", full)
        assert place.disk.keep(answer(URL + b"y"), ())
        place.settle()
    assert place.disk.last_error == "its index: database or disk is full"
    assert not place.disk.find(URL + b"y")
    assert len(place.bodies()) == place.disk.files == 1
    assert same(place.load(URL), stored)
    assert place.disk.status()["waiting"] == 0


def test_a_path_that_cannot_be_made_is_said_and_tried_again(place: Place) -> None:
    inside = Place.__new__(Place)
    inside.__dict__ |= place.__dict__ | {"path": place.path / "file" / "cache"}
    (place.path / "file").write_bytes(b"")
    disk = inside.make()
    disk.start()
    inside.reactor.until(lambda: disk.counts["errors"])
    assert "Not a directory" in inside.said()[0]
    assert not disk.find(URL)
    (place.path / "file").unlink()
    inside.reactor.advance(REST_SECONDS)
    disk.find(URL)
    inside.reactor.until(lambda: disk.status()["open"])


def test_a_read_that_fails_is_a_miss(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(str(place.path))
    place.start(files=files)
    stored = place.keep(URL)

    def refused(name: int) -> tuple[int, int]:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "descriptor", refused)
        assert place.load(URL) is None
    assert place.disk.counts["errors"] == 1
    assert same(place.load(URL), stored)


def test_a_purge_that_could_not_be_written_is_carried_out_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(str(place.path))
    place.start(files=files)
    place.keep(URL)

    def refused(name: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", refused)
        place.disk.drop(URL)
        place.settle()
        assert len(place.bodies()) == 1
        assert place.load(URL) is None
    place.reactor.advance(REST_SECONDS)
    place.settle()
    assert place.bodies() == []


def test_a_process_that_is_killed_loses_no_more_than_it_had_not_committed(tmp_path: Path, place: Place) -> None:
    code = (
        "import os, sys\n"
        "sys.path.insert(0, '')\n"
        "from pathlib import Path\n"
        "from tests.service.disk_rig import Place, answer\n"
        "import pytest\n"
        "place = Place(Path(sys.argv[1]), pytest.MonkeyPatch())\n"
        "place.start()\n"
        "for number in range(300):\n"
        "    place.disk.keep(answer(b'http://a.example/%d' % number), ())\n"
        "    if number == 200: place.settle()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parent.parent.parent
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root)
    assert ended.returncode == -9
    place.start()
    assert place.disk.files == len(place.bodies()) >= 201
    assert all(place.load(b"http://a.example/%d" % number) is not None for number in range(201))
    assert place.disk.counts["errors"] == 0
