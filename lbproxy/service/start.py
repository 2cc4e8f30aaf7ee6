"""From a command line to a service: read, check, choose the reactor, make the parts.

Shared by `twistd lbproxy` (tap.py) and the `lbproxy` command (cli.py), so that both say the same about a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from lbproxy.config import Loaded, Problem, load, quick
from lbproxy.errors import StartError
from lbproxy.model import LogLevel, LogSettings
from lbproxy.service.codings_news import with_codings_news
from lbproxy.service.logs import LogObserver, observer_for

CONFIGURATION_ERROR = 2
_LEVELS: dict[str, LogLevel] = {"debug": "debug", "info": "info", "warn": "warn", "error": "error"}


_chosen: list[Callable[[], LogObserver]] = []


def chosen_observer() -> LogObserver:
    """What `twistd --logger` calls: the observer that was chosen last."""
    return _chosen[-1]()


class Refused(Exception):
    """Nothing is started; everything has been printed. `status` is the exit status (0 after a check that passed)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def resolves(host: str) -> bool:
    """Whether the system's resolver knows `host` now."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


def print_problems(problems: Iterable[Problem], form: str, stream: Any) -> None:
    """Print problems one a line, or as one JSON list."""
    if form == "json":
        print(json.dumps([problem.as_dict() for problem in problems]), file=stream)
        return
    for problem in problems:
        print(problem, file=stream)


def check(path: str, form: str) -> int:
    """Print what is wrong with the file at `path` to standard output; the exit status for it."""
    return tell(with_codings_news(load(path, resolves, now=time.time())), path, form)


def tell(loaded: Loaded, name: str, form: str) -> int:
    """Print what a check found to standard output; the exit status for it."""
    print_problems(loaded.problems, form, sys.stdout)
    if loaded.configuration is None:
        return CONFIGURATION_ERROR
    if form == "text":
        warnings = len(loaded.problems)
        print(f"{name}: fine" + (f", with {warnings} warning{'s'[: warnings > 1]}" if warnings else ""))
    return 0


class Prepared:
    """A configuration that can be started."""

    def __init__(self, loaded: Loaded, path: str | None, level: str | None) -> None:
        self._path = path
        self._level = level
        self._observer: LogObserver | None = None
        configuration = self._with_level(loaded).configuration
        assert configuration is not None  # prepare() has refused everything else
        self.configuration = configuration

    def _with_level(self, loaded: Loaded) -> Loaded:
        """The level of the command line wins over the file's, after a reload too."""
        configuration = loaded.configuration
        if self._level is None or configuration is None:
            return loaded
        log = dataclasses.replace(configuration.log, level=_LEVELS[self._level])
        return dataclasses.replace(loaded, configuration=dataclasses.replace(configuration, log=log))

    def install_reactor(self) -> None:
        """Install the thin reactor, unless somebody chose one already or this system has no epoll."""
        if "twisted.internet.reactor" in sys.modules:
            return
        with contextlib.suppress(ImportError):
            from lbproxy.net.reactor import install

            install()

    def choose_observer(self, logfile: str | None, daemon: bool) -> str:
        """Prepare the observer for the system log; the name by which twistd, which takes only names, will call it."""

        def make() -> LogObserver:
            self._observer = observer_for(self.configuration.log, logfile, daemon)
            return self._observer

        _chosen.append(make)
        return f"{__name__}.{chosen_observer.__name__}"

    def observe(self, log: LogSettings | None) -> None:
        """Let the system log go by `log`; None: open its file again."""
        if self._observer is None:
            return
        if log is None:
            self._observer.reopen()
        else:
            self._observer.configure(log)

    def make_service(self, reactor: Any) -> Any:
        """The service."""
        from lbproxy.service.proxy import ProxyService

        sys.excepthook = quiet_start_errors
        raise_descriptor_limit()
        again = None if self._path is None else self.load_again
        return ProxyService(self.configuration, reactor, again, self.observe)

    def load_again(self) -> Loaded:
        """Read the file anew, for a reload. Names are not looked up: that could block."""
        assert self._path is not None
        return self._with_level(with_codings_news(load(self._path, now=time.time())))


def prepare(
    path: str | None,
    *,
    listens: Sequence[str],
    backends: Sequence[str],
    policy: str | None,
    level: str | None,
    check: bool,
    form: str,
    certs: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> Prepared:
    """Read the file, or the quick form when `path` is None. Raises Refused, and ValueError for a wrong `level`."""
    if level is not None and level not in _LEVELS:
        raise ValueError(f"the log level is {level!r}, it must be one of {', '.join(_LEVELS)}")
    now = time.time()
    if path:
        loaded = with_codings_news(load(path, resolves if check else None, now=now))
    else:
        loaded = quick(list(listens), list(backends), policy, certs=list(certs), keys=list(keys), now=now)
    if check:
        raise Refused(tell(loaded, path or "command line", form))
    print_problems(loaded.problems, "text", sys.stderr)
    if loaded.configuration is None:
        raise Refused(CONFIGURATION_ERROR)
    return Prepared(loaded, path, level)


def quiet_start_errors(kind: type[BaseException], problem: BaseException, traceback: TracebackType | None) -> None:
    """What the interpreter says about the exception that ends it: a sentence where one was meant for the operator.

    twistd tidies up and raises again what a service raises at its start; where it came from helps nobody then.
    """
    if isinstance(problem, StartError):
        print(f"lbproxy: {problem}", file=sys.__stderr__)
    else:
        sys.__excepthook__(kind, problem, traceback)


def raise_descriptor_limit() -> None:
    """Take as many file descriptors as the system allows: two are needed for each session."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
