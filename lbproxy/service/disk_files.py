"""The files of the disk cache: where they are, whose they are, and how a new one comes to be.

Owns one sub-directory with a marker in it and touches nothing outside, nor anything inside whose name it did not give.
A file is written aside and renamed when it is whole, so a name always means a whole file as far as this kernel knows.
Nothing is ever synced: what a power cut leaves behind is noticed by size and checksum when it is loaded.

All of this may take its time: it is for threads that nobody waits for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import zlib

_SUB_DIRECTORY = "lbproxy-cache"
_MARKER = "THIS-IS-A-CACHE"
_MARKER_TEXT = b"lbproxy disk cache, form 1. Everything here may be deleted while lbproxy is not running.\n"
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_NAME = re.compile(r"[0-9a-f]{16}")
_TOP = re.compile(r"[0-9a-f]{2,12}")
_MIDDLE = re.compile(r"[0-9a-f]{2}")
# Files of one block of names share a directory.
BLOCK_BITS = 8
# What opening says of a link, a socket, and a file where a directory should be.
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENOTDIR)
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class DiskError(Exception):
    """The directory cannot be used; the sentence says why."""


class NewFile:
    """A file that is being written aside, read and written through one descriptor."""

    __slots__ = ("crc", "descriptor", "length", "path")

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, _FILE_MODE)
        self.length = self.crc = 0

    def reserve(self, length: int) -> None:
        """Have the space for so many bytes from the start. Raises OSError: then there is none."""
        try:
            os.posix_fallocate(self.descriptor, 0, length)
        except OSError as problem:
            # Some systems cannot promise: then it is found out while it is written.
            if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise

    def write(self, data: bytes) -> None:
        """Add this. Raises OSError; then the file is of no use any more."""
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], self.length + done)
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def close(self) -> None:
        """Nobody reads or writes through the descriptor any more."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def unlink(self) -> None:
        """It does not come to anything."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Files:
    """Those below one directory of the configuration."""

    def __init__(self, path: str) -> None:
        self.root = os.path.join(path, _SUB_DIRECTORY)
        self.index = os.path.join(self.root, "index.sqlite")
        self._bodies = os.path.join(self.root, "bodies")
        self._aside = os.path.join(self.root, "new")
        self._lock = -1
        self._serial = 0
        self._newest_block = 0

    def open(self) -> None:
        """Make the directories where they are missing, and keep other processes out. Raises OSError and DiskError."""
        os.makedirs(self.root, _DIRECTORY_MODE, exist_ok=True)
        self._claim()
        lock = os.open(os.path.join(self.root, "lock"), os.O_RDWR | os.O_CREAT | _FLAGS, _FILE_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in (self._bodies, self._aside):
                os.makedirs(path, _DIRECTORY_MODE, exist_ok=True)
            self._clear_aside()
        except BlockingIOError:
            os.close(lock)
            raise DiskError(f"another process uses {self.root}; give each its own directory") from None
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def close(self) -> None:
        """Others may have it."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def new(self) -> NewFile:
        """Begin a file. Raises OSError."""
        self._serial += 1
        return NewFile(os.path.join(self._aside, f"{self._serial:016x}"))

    def whole(self, data: bytes) -> NewFile:
        """A file with this in it, closed. Raises OSError."""
        new = self.new()
        try:
            new.write(data)
        except OSError:
            new.unlink()
            raise
        finally:
            new.close()
        return new

    def settle(self, new: NewFile, name: int) -> None:
        """Give a whole file its name. Raises OSError."""
        path = self.path(name)
        self._newest_block = max(self._newest_block, name >> BLOCK_BITS)
        try:
            os.rename(new.path, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), _DIRECTORY_MODE, exist_ok=True)
            os.rename(new.path, path)
        new.path = path

    def descriptor(self, name: int) -> tuple[int, int]:
        """The open file and its length. Raises OSError; FileNotFoundError also for what is not a file."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
        except OSError as problem:
            if problem.errno in _NO_FILE:
                raise FileNotFoundError(problem.errno, problem.strerror) from None
            raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        return descriptor, found.st_size

    def remove(self, name: int) -> None:
        """Unlink it, and its directory with the last of it; who has it open keeps it. Raises OSError."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path)
        if name >> BLOCK_BITS != self._newest_block:
            self.tidy(name >> BLOCK_BITS)

    def path(self, name: int) -> str:
        """Where the file of this name is."""
        return os.path.join(self._directory(name >> BLOCK_BITS), f"{name:016x}")

    def blocks(self) -> set[int]:
        """The blocks of names that have a directory. Raises OSError."""
        found = set()
        for top in _directories(self._bodies, _TOP):
            for middle in _directories(os.path.join(self._bodies, top), _MIDDLE):
                found.add(int(top, 16) << 8 | int(middle, 16))
        return found

    def sizes(self, block: int) -> dict[int, int]:
        """The length of each file in a block by its name, -1 for a link and the like. Raises OSError.

        What is not in the place that its name tells is somebody else's.
        """
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory(block)) as listing:
            for one in listing:
                name = int(one.name, 16) if _NAME.fullmatch(one.name) else -1
                if name >> BLOCK_BITS == block and not one.is_dir(follow_symlinks=False):
                    status = one.stat(follow_symlinks=False)
                    found[name] = status.st_size if stat.S_ISREG(status.st_mode) else -1
        return found

    def tidy(self, block: int) -> None:
        """Remove the directories of a block as far as they are empty."""
        directory = self._directory(block)
        with contextlib.suppress(OSError):
            os.rmdir(directory)
            os.rmdir(os.path.dirname(directory))

    def forget_index(self) -> None:
        """Unlink the index, whatever is wrong with it. Raises OSError."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.index + suffix)

    def _directory(self, block: int) -> str:
        return os.path.join(self._bodies, f"{block >> 8:02x}", f"{block & 0xFF:02x}")

    def _claim(self) -> None:
        marker = os.path.join(self.root, _MARKER)
        if os.path.lexists(marker):
            return
        if os.listdir(self.root):
            raise DiskError(f"{self.root} is not of lbproxy's making: {_MARKER} is missing in it; name another place")
        os.chmod(self.root, _DIRECTORY_MODE)
        descriptor = os.open(marker, os.O_WRONLY | os.O_CREAT | _FLAGS, _FILE_MODE)
        try:
            os.write(descriptor, _MARKER_TEXT)
        finally:
            os.close(descriptor)

    def _clear_aside(self) -> None:
        """What an earlier process has left unfinished."""
        with os.scandir(self._aside) as listing:
            for one in listing:
                if _NAME.fullmatch(one.name) and not one.is_dir(follow_symlinks=False):
                    os.unlink(one.path)


def _directories(path: str, pattern: re.Pattern[str]) -> list[str]:
    try:
        with os.scandir(path) as listing:
            return [one.name for one in listing if pattern.fullmatch(one.name) and one.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
