"""What becomes of a change of the disk cache when it works, and when it does not.

Owns the opening and the closing, commits, and the recovery from a failure: a full disk makes room, a broken index is
begun anew, anything else costs what was being written. All of it happens in the one thread that writes; what came of it
is told to the reactor. Refuses to know what the changes are.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections import Counter
from collections.abc import Callable

from twisted.python.failure import Failure

from lbproxy.service.disk_files import DiskError, Files
from lbproxy.service.disk_loading import Loading
from lbproxy.service.disk_opening import is_broken, open_index
from lbproxy.service.disk_purges import Purges
from lbproxy.service.disk_shelf import NO_CEILING, Changes, Shelf
from lbproxy.service.disk_tidying import Tidying

# After a failure, nothing is tried for so many seconds.
REST_SECONDS = 10.0
# Calls between two commits when there is always something to do.
_BATCH = 128
# A disk that is full before we are has something given up, one part of so many, and is not filled more for so long.
CEILING_SECONDS = 600.0
_GIVEN_UP = 16
_FULL = (errno.ENOSPC, errno.EDQUOT)

Change = Callable[[Shelf], object]


class News:
    """What has come of it. `known`, unless it is None, is how many entries there are by digest, before `changes`.
    `done` are bytes that wait no longer. `problem` is a sentence, `failure` a fault of ours. Of the rest
    `is_open`, `files` and `room` are how it is now.
    """

    __slots__ = ("changes", "done", "failure", "files", "is_open", "known", "problem", "room")

    def __init__(self, shelf: Shelf | None) -> None:
        self.is_open = shelf is not None
        self.files = 0 if shelf is None else shelf.files
        self.room = 0 if shelf is None else shelf.room
        self.changes: Changes | None = None
        self.known: Counter[int] | None = None
        self.done = 0
        self.problem: str | None = None
        self.failure: Failure | None = None


class Writing:
    """The state of the thread that writes."""

    def __init__(
        self,
        files: Files,
        purges: Purges,
        loading: Loading,
        tell: Callable[[News], object],
        clock: Callable[[], float],
        variants: int,
    ) -> None:
        """`tell` is called in the thread. `clock` is monotonic."""
        # What is left is not worth waiting for.
        self.hurry = False
        # How many changes it has come to; others may read it.
        self.came = 0
        self._files = files
        self._purges = purges
        self._loading = loading
        self._tell = tell
        self._clock = clock
        self._variants = variants
        self._shelf: Shelf | None = None
        self._tidying: Tidying | None = None
        self._done = 0
        self._since_commit = 0
        self._rest_until = self._next_ceiling = self._ceiling_until = float("-inf")

    def open(self) -> None:
        """Open what there is, if that has not been done."""
        if self._shelf is None:
            self.attempt(self._open)

    def change(self, change: Change, room: int = 0) -> None:
        """Call this with what is open; it is not called when nothing is. So many bytes
        wait no longer then.
        """
        shelf = self._shelf
        self.came += 1
        self._done += room
        if shelf is None or self.hurry:
            self._tell(self._news(settled=True))
            return
        if shelf.ceiling != NO_CEILING and self._clock() >= self._ceiling_until:
            shelf.ceiling = NO_CEILING
        self._since_commit += 1
        if self.attempt(lambda: change(shelf)) and self._since_commit >= _BATCH:
            self.attempt(self._commit)

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether this came to its end. What it raises is told, and recovered from."""
        try:
            call()
        except sqlite3.Error as problem:
            self._undo(begin_anew=is_broken(problem))
            full = getattr(problem, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            self._failed(f"its index: {problem}", full=full, settled=True)
        except OSError as problem:
            self._failed(problem.strerror or str(problem), full=problem.errno in _FULL)
        except DiskError as problem:
            self._failed(str(problem), full=False)
        except Exception:
            news = self._news()
            news.failure = Failure()
            self._tell(news)
        else:
            return True
        return False

    def idle(self) -> bool:
        """Something that can be done at any time; False when there is nothing."""
        tidying = self._tidying
        if tidying is None:
            return False
        if self._since_commit:
            self.attempt(self._commit)
            return True
        if self.hurry or self._clock() < self._rest_until:
            return False
        worked = True

        def step() -> None:
            nonlocal worked
            worked = tidying.step()

        self.attempt(step)
        self._since_commit = int(worked)
        return worked

    def close(self) -> None:
        """Commit, and let others have it."""
        if self._shelf is not None:
            self.attempt(self._commit)
        self._let_go()

    def _open(self) -> None:
        self._files.open()
        try:
            self._use()
        except BaseException:
            self._files.close()
            raise

    def _use(self) -> None:
        opened = open_index(self._files)
        self._purges.restore(opened.purges)
        self._shelf = Shelf(opened, self._files, self._purges, self._loading.visited, self._variants)
        self._tidying = Tidying(self._shelf, self._purges, opened.blocks)
        self._loading.use(opened.index, opened.doubted)
        news = self._news()
        news.known = opened.known
        if opened.begun_anew:
            news.problem = "its index was broken and has been begun anew; what was stored is lost"
        self._tell(news)

    def _commit(self) -> None:
        self._since_commit = 0
        shelf = self._shelf
        if shelf is not None:
            changes = shelf.commit()
            news = self._news(settled=True)
            news.changes = changes
            self._tell(news)

    def _undo(self, *, begin_anew: bool) -> None:
        self._since_commit = 0
        shelf = self._shelf
        if shelf is None:
            return
        try:
            if begin_anew:
                self._begin_anew(shelf)
            else:
                shelf.undo()
        except (OSError, sqlite3.Error):
            # It is tried again later, from the beginning.
            self._let_go()

    def _begin_anew(self, shelf: Shelf) -> None:
        self._loading.use(None, 0)
        shelf.index.close()
        self._files.forget_index()
        self._use()

    def _let_go(self) -> None:
        shelf, self._shelf, self._tidying = self._shelf, None, None
        self._loading.use(None, 0)
        if shelf is not None:
            with contextlib.suppress(sqlite3.Error):
                shelf.index.close()
        self._files.close()

    def _failed(self, problem: str, *, full: bool, settled: bool = False) -> None:
        now = self._clock()
        self._rest_until = now + REST_SECONDS
        news = self._news(settled=settled)
        news.problem = problem
        self._tell(news)
        shelf = self._shelf
        if full and shelf is not None and now >= self._next_ceiling:
            self._next_ceiling = now + REST_SECONDS
            self._ceiling_until = now + CEILING_SECONDS
            shelf.ceiling = max(shelf.room - shelf.room // _GIVEN_UP - 1, 0)
            self._since_commit += 1
            self.attempt(lambda: shelf.evict(shelf.ceiling))

    def _news(self, *, settled: bool = False) -> News:
        """`settled` tells that all changes so far have lasted, or have not happened."""
        news = News(self._shelf)
        if settled:
            news.done, self._done = self._done, 0
        return news
