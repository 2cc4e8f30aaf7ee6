"""How it stops, and which signal means what."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from lbproxy.model import StopSettings
from lbproxy.service.signals import Signals
from lbproxy.service.stopping import DRAINING, ENDED, GRACE, SERVING, Stopping

SETTINGS = StopSettings(grace=5.0, hard_stop=25.0)


class Instance:
    """Something with sessions; remembers what was done to it."""

    def __init__(self, sessions: int = 0) -> None:
        self.clock = Clock()
        self.sessions = sessions
        self.did: list[str] = []
        self.stopping = Stopping(self.clock, self)
        self.done: list[object] = []

    def close_listeners(self) -> None:
        self.did.append("close")

    def kill_sessions(self) -> int:
        killed, self.sessions = self.sessions, 0
        self.did.append(f"kill {killed}")
        for _ in range(killed):
            self.stopping.session_ended()
        return killed

    def session_count(self) -> int:
        return self.sessions

    def stop(self, settings: StopSettings = SETTINGS, *, grace: bool = True) -> None:
        self.stopping.begin(settings, grace=grace).addCallback(self.done.append)

    def one_ends(self) -> None:
        self.sessions -= 1
        self.stopping.session_ended()


class TestStopping:
    def test_serving_until_told_otherwise(self) -> None:
        instance = Instance(3)
        instance.stopping.session_ended()
        assert (instance.stopping.state, instance.did) == (SERVING, [])

    def test_the_whole_way(self) -> None:
        instance = Instance(2)
        instance.stop()
        assert (instance.stopping.state, instance.did) == (GRACE, [])
        instance.clock.advance(4.9)
        assert instance.did == [], "still accepting"
        instance.clock.advance(0.2)
        assert (instance.stopping.state, instance.did) == (DRAINING, ["close"])
        instance.one_ends()
        assert instance.done == []
        instance.one_ends()
        assert (instance.stopping.state, instance.done) == (ENDED, [None])
        assert instance.clock.getDelayedCalls() == []
        assert "kill 0" in instance.did

    def test_without_grace_listeners_close_at_once(self) -> None:
        instance = Instance(1)
        instance.stop(grace=False)
        assert (instance.stopping.state, instance.did) == (DRAINING, ["close"])
        instance.one_ends()
        assert instance.done == [None]

    def test_with_nobody_here_it_ends_at_once(self) -> None:
        instance = Instance()
        instance.stop(grace=False)
        assert instance.done == [None]
        assert instance.clock.getDelayedCalls() == []

    def test_sessions_that_end_during_the_grace_do_not_end_it(self) -> None:
        instance = Instance(1)
        instance.stop()
        instance.one_ends()
        assert (instance.stopping.state, instance.did) == (GRACE, [])
        instance.clock.advance(5)
        assert instance.done == [None]

    @pytest.mark.parametrize("grace", [False, True])
    def test_at_the_hard_stop_the_rest_is_cut(self, grace: bool) -> None:
        instance = Instance(7)
        instance.stop(grace=grace)
        instance.clock.pump([1.0] * 24)
        assert instance.done == []
        instance.clock.advance(1.1)
        assert instance.did[-1] == "kill 7"
        assert instance.done == [None]

    def test_the_hard_stop_counts_from_the_signal_also_during_the_grace(self) -> None:
        instance = Instance(1)
        instance.stop(StopSettings(grace=100.0, hard_stop=3.0))
        instance.clock.pump([0.5] * 7)
        assert instance.done == [None]
        assert instance.clock.getDelayedCalls() == []

    def test_without_a_hard_stop_sessions_have_all_the_time(self) -> None:
        instance = Instance(1)
        instance.stop(StopSettings(grace=5.0, hard_stop=float("inf")))
        instance.clock.pump([1000.0] * 10)
        assert (instance.stopping.state, instance.done) == (DRAINING, [])
        instance.one_ends()
        assert instance.done == [None]

    @pytest.mark.parametrize("after", [0.0, 6.0])
    def test_asked_again_it_ends_at_once(self, after: float) -> None:
        instance = Instance(3)
        instance.stop()
        instance.clock.advance(after)
        instance.stopping.end()
        assert instance.did[-1] == "kill 3"
        assert instance.done == [None]
        instance.stopping.end()
        instance.stopping.session_ended()
        instance.clock.advance(100)
        assert instance.done == [None]

    def test_a_second_stop_changes_nothing(self) -> None:
        instance = Instance(1)
        instance.stop()
        instance.stop(grace=False)
        assert instance.stopping.state == GRACE
        instance.clock.advance(5)
        instance.one_ends()
        assert instance.done == [None, None]


class Calls:
    """A reactor that keeps the calls of signal handlers."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []

    def callFromThread(self, call: Callable[..., Any], *words: Any) -> None:
        self.waiting.append(lambda: call(*words))

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


NUMBERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def handlers() -> Iterator[list[str]]:
    """Handlers of somebody else; what they heard."""
    heard: list[str] = []
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, lambda number, frame: heard.append(signal.Signals(number).name))
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


class TestSignals:
    def make(self) -> tuple[Signals, Calls, list[str]]:
        calls, told = Calls(), list[str]()

        def stop(*, grace: bool) -> bool:
            told.append(f"stop {grace}")
            return told.count(f"stop {grace}") == 1

        signals = Signals(calls, lambda: told.append("reload"), stop, lambda: told.append("reopen"))
        return signals, calls, told

    @pytest.mark.parametrize(
        ("number", "word"),
        [
            (signal.SIGHUP, "reload"),
            (signal.SIGUSR1, "reopen"),
            (signal.SIGTERM, "stop True"),
            (signal.SIGINT, "stop False"),
        ],
    )
    def test_each_signal_is_passed_on_to_the_reactor(self, number: int, word: str, handlers: list[str]) -> None:
        signals, calls, told = self.make()
        signals.install()
        signal.raise_signal(number)
        assert told == [], "a handler only passes the word on"
        calls.run()
        assert told == [word]
        signals.uninstall()

    def test_the_first_stop_goes_on_to_whoever_was_there_the_second_does_not(self, handlers: list[str]) -> None:
        signals, calls, _ = self.make()
        signals.install()
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            calls.run()
        assert handlers == ["SIGTERM"]
        signals.uninstall()

    def test_the_handlers_are_given_back(self, handlers: list[str]) -> None:
        before = [signal.getsignal(number) for number in NUMBERS]
        signals, _, told = self.make()
        signals.install()
        assert [signal.getsignal(number) for number in NUMBERS] != before
        signals.uninstall()
        assert [signal.getsignal(number) for number in NUMBERS] == before
        signals.uninstall()
        signal.raise_signal(signal.SIGHUP)
        assert (handlers, told) == (["SIGHUP"], [])

    def test_a_signal_that_nobody_handled_before(self) -> None:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signals, calls, told = self.make()
        signals.install()
        signal.raise_signal(signal.SIGTERM)
        calls.run()
        signals.uninstall()
        assert signal.signal(signal.SIGTERM, before) is signal.SIG_IGN
        assert told == ["stop True"]
