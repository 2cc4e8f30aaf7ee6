"""Accepting clients, and what all sessions of a process share."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from lbproxy import errors
from lbproxy.addresses import Address, NetworkSet
from lbproxy.balancing.pool import Pool
from lbproxy.model import BackendSettings, Configuration, ListenerSettings, PoolSettings, Timeouts
from lbproxy.net.admission import Total
from lbproxy.net.listening import Listener
from lbproxy.net.worker import Worker
from lbproxy.routing import RoutingTable
from lbproxy.session.conversation import Conversation
from lbproxy.session.relay import Relay
from tests.net.net_rig import hand_reactor, tcp_listener, turn


class Door:
    """A listener in front of a pool whose backend listens, on a reactor that is turned by hand."""

    def __init__(self, reactor: Any, **settings: Any) -> None:
        self.reactor = reactor
        self.backend = tcp_listener()
        host, port = self.backend.getsockname()
        self.pool_settings = PoolSettings("web", (BackendSettings("b", Address("ip", host, port)),))
        self.pools = {"web": Pool(self.pool_settings, random.Random(1).random, 0.0)}
        self.ended: list[str] = []
        self.worker = Worker(reactor, self, self.over, self.fault, buffers=1 << 20)
        self.total = Total(100)
        self.sock = tcp_listener()
        self.sock.setblocking(False)
        self.listener = self.make("web", **settings)
        self.listener.accept_on([self.sock])
        self.clients: list[socket.socket] = []

    def make(self, name: str, **settings: Any) -> Listener:
        wanted = ListenerSettings(name, (Address("ip", "127.0.0.1", 80),), pool="web", **settings)
        table = RoutingTable(Configuration((wanted,), (self.pool_settings,)))
        return Listener(wanted, table.for_listener(name), self.worker, self.total, Timeouts())

    def target(self, backend: object) -> tuple[int, Any]:
        return socket.AF_INET, self.backend.getsockname()

    def tls_of(self, pool: object) -> None:
        raise AssertionError("no pool speaks TLS here")

    def unreachable(self, backend: object) -> None:
        raise AssertionError("nobody is unreachable here")

    def over(self, session: Relay | Conversation, now: float) -> None:
        self.ended.append(session.outcome.word)

    def fault(self, problem: BaseException) -> None:
        raise problem

    def comes(self) -> socket.socket:
        client = socket.create_connection(self.sock.getsockname())
        client.setblocking(False)
        self.clients.append(client)
        turn(self.reactor)
        return client

    def close(self) -> None:
        for session in self.worker.sessions():
            session.kill(errors.KILLED_BY_OPERATOR)
        for sock in (*self.clients, self.sock, self.backend):
            sock.close()


@pytest.fixture
def doors() -> Iterator[Any]:
    made: list[Door] = []
    with hand_reactor() as reactor:

        def make(**settings: Any) -> Door:
            made.append(Door(reactor, **settings))
            return made[-1]

        yield make
        for door in made:
            door.listener.accept_on(())
            door.close()


class TestPorts:
    def test_everybody_who_waits_is_accepted_in_one_turn(self, doors: Any) -> None:
        door = doors()
        for _ in range(10):
            door.clients.append(socket.create_connection(door.sock.getsockname()))
        turn(door.reactor)
        assert door.listener.sessions == door.total.sessions == 10
        assert door.listener.admission.accepted == 10

    def test_a_full_listener_leaves_clients_in_the_queue_of_the_kernel(self, doors: Any) -> None:
        door = doors(max_connections=2)
        first = door.comes()
        door.comes()
        door.comes()
        assert (door.listener.sessions, door.listener.admission.refused) == (2, {})
        first.close()
        backend, _ = door.backend.accept()
        backend.close()
        turn(door.reactor, lambda: door.listener.admission.accepted == 3)
        assert door.ended == ["ok"]

    def test_a_client_that_may_not_come_in_is_closed(self, doors: Any) -> None:
        door = doors(deny=NetworkSet(["127.0.0.0/8"]))
        client = door.comes()
        assert client.recv(1) == b""
        assert (door.listener.sessions, door.listener.admission.refused) == (0, {"denied": 1})

    def test_a_sender_of_headers_that_is_not_listed_is_closed(self, doors: Any) -> None:
        door = doors(proxy_from=NetworkSet(["192.0.2.0/24"]))
        client = door.comes()
        assert client.recv(1) == b""
        assert door.listener.admission.refused == {"proxy_peer": 1}

    def test_a_listed_sender_says_who_the_client_is(self, doors: Any) -> None:
        door = doors(proxy_from=NetworkSet(["127.0.0.0/8"]))
        client = door.comes()
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 3 4\r\nhello")
        turn(door.reactor)
        (session,) = door.worker.sessions()
        assert session.source == ("192.0.2.1", 3)
        assert session.peer == client.getsockname()

    @pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOBUFS, errno.EINVAL, errno.EBADF, errno.EIO])
    def test_one_that_does_not_accept_pauses_and_comes_back(
        self, doors: Any, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        door = doors()
        asked: list[int] = []

        class Broken(socket.socket):
            def _accept(self) -> Any:
                asked.append(1)
                raise OSError(error, os.strerror(error))

        door.listener.accept_on(())
        broken = Broken(fileno=os.dup(door.sock.fileno()))
        clock = Clock()
        monkeypatch.setattr(door.reactor, "callLater", clock.callLater)
        door.listener.accept_on([broken])
        door.comes()
        turn(door.reactor)
        assert len(asked) == 1, "no busy loop"
        clock.advance(0.3)
        turn(door.reactor)
        assert len(asked) == 2
        door.listener.accept_on(())
        broken.close()

    def test_a_listening_socket_that_somebody_shut_down_does_not_keep_the_process_busy(
        self, doors: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever shares it may do that: systemd, or another process that has it."""
        door = doors()
        clock = Clock()
        monkeypatch.setattr(door.reactor, "callLater", clock.callLater)
        door.sock.shutdown(socket.SHUT_RDWR)
        turn(door.reactor)
        assert door.listener.paused_total == 1
        assert door.reactor.epoll.poll(0) == []
        for _ in range(4):
            clock.advance(0.25)
            turn(door.reactor)
        assert door.listener.paused_total == 5, "once for each time it tries again"

    @pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
    def test_a_client_that_is_gone_already_does_not_make_the_next_one_wait(self, doors: Any, error: int) -> None:
        door = doors()
        left = [1, 1, 1]

        class Storm(socket.socket):
            def accept(self) -> Any:
                if left:
                    left.pop()
                    raise OSError(error, os.strerror(error))
                return super().accept()

        door.listener.accept_on(())
        storm = Storm(fileno=os.dup(door.sock.fileno()))
        door.listener.accept_on([storm])
        door.comes()
        assert (door.listener.sessions, door.listener.paused_total) == (1, 0)
        door.listener.accept_on(())
        storm.close()

    def test_a_stopped_port_accepts_nobody_and_leaves_the_socket_open(self, doors: Any) -> None:
        door = doors()
        door.listener.accept_on(())
        door.comes()
        assert door.listener.sessions == 0
        assert door.sock.fileno() >= 0

    def test_a_socket_may_go_on_with_another_listener(self, doors: Any) -> None:
        door = doors()
        other = door.make("other")
        door.listener.accept_on(())
        other.accept_on([door.sock])
        door.comes()
        assert (door.listener.sessions, other.sessions) == (0, 1)
        other.accept_on(())

    def test_a_socket_that_systemd_keeps_open_is_not_heard_of_after_its_port_stopped(self, doors: Any) -> None:
        door = doors()
        ours = socket.socket(fileno=os.dup(door.sock.fileno()))
        door.listener.accept_on([ours])
        door.listener.accept_on(())
        number = ours.fileno()
        ours.close()
        client = socket.create_connection(door.sock.getsockname())
        events = door.reactor.epoll.poll(0)
        client.close()
        assert number not in [fd for fd, _ in events], "a closed listener would keep the process busy"

    def test_a_close_during_a_storm_ends_it(self, doors: Any) -> None:
        door = doors()
        door.listener.close()
        door.comes()
        assert door.listener.sessions == 0


class Nobody:
    """No pools."""

    pools: dict[str, Pool] = {}  # noqa: RUF012

    def target(self, backend: object) -> None:
        return None

    def tls_of(self, pool: object) -> None:
        return None

    def unreachable(self, backend: object) -> None:
        return None


def worker_on(clock: Clock) -> tuple[Worker, list[BaseException]]:
    faults: list[BaseException] = []
    return Worker(clock, Nobody(), lambda *words: None, faults.append, buffers=1000, clock=clock.seconds), faults


class Timer:
    """Somebody in the wheel."""

    def __init__(self, then: Any) -> None:
        self.slot = -1
        self.expire = then


class TestWorker:
    def test_ids_are_unique(self) -> None:
        one, _ = worker_on(Clock())
        other, _ = worker_on(Clock())
        ids = [worker.new_id() for worker in (one, other) for _ in range(100)]
        assert len(set(ids)) == 200
        assert all(name.isalnum() for name in ids)

    def test_the_wheel_turns_while_somebody_is_in_it(self) -> None:
        clock = Clock()
        worker, faults = worker_on(clock)
        worker.start()
        asked: list[float] = []
        worker.session_time()
        worker.wheel.add(Timer(asked.append), 1.0)
        clock.pump([0.1] * 15)
        assert len(asked) == 1
        assert 1.0 <= asked[0] <= 1.3
        clock.pump([0.1] * 15)
        assert clock.getDelayedCalls() == [], "it sleeps"
        worker.stop()
        assert faults == []

    def test_it_wakes_for_a_session_after_a_long_sleep(self) -> None:
        clock = Clock()
        worker, _ = worker_on(clock)
        worker.start()
        clock.pump([0.1] * 5)
        clock.advance(10_000)
        assert worker.session_time() == clock.seconds()
        asked: list[float] = []
        worker.wheel.add(Timer(asked.append), 1.0)
        clock.pump([0.1] * 9)
        assert asked == []
        clock.pump([0.1] * 5)
        assert len(asked) == 1
        worker.stop()

    def test_a_fault_of_something_else_in_the_wheel_is_told(self) -> None:
        clock = Clock()
        worker, faults = worker_on(clock)
        worker.start()
        worker.session_time()
        worker.wheel.add(Timer(lambda now: 1 / 0), 0.5)
        clock.pump([0.1] * 10)
        assert [type(problem) for problem in faults] == [ZeroDivisionError]
        worker.stop()

    def test_it_may_be_stopped_by_the_last_session_that_times_out(self) -> None:
        """The wheel asks, the session ends, the service finds that it was the last one and stops everything."""
        clock = Clock()
        worker, faults = worker_on(clock)
        worker.start()
        worker.session_time()
        stopped: list[str] = []

        def last(now: float) -> None:
            worker.stop()
            stopped.append("in order")

        worker.wheel.add(Timer(last), 0.5)
        worker.wheel.add(Timer(lambda now: 50.0), 0.5)
        clock.pump([0.1] * 10)
        assert faults == []
        assert stopped == ["in order"]
        assert clock.getDelayedCalls() == [], "it is stopped"

    def test_stopping_twice_changes_nothing(self) -> None:
        worker, _ = worker_on(Clock())
        worker.start()
        worker.stop()
        worker.stop()
