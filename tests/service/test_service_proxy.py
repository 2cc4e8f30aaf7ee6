"""The whole service: listeners and pools from configuration to configuration, and its end."""

from __future__ import annotations

import gc
import json
import os
import socket
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbproxy.addresses import Address
from lbproxy.config import Loaded, Problem
from lbproxy.errors import StartError
from lbproxy.model import CheckSettings, ControlSettings, LogSettings, RecordSettings, StopSettings, TimeoutSettings
from lbproxy.net.binding import BindError
from lbproxy.service.listeners import Listeners
from lbproxy.service.proxy import ProxyService
from tests.net.net_rig import take_all, tcp_listener, turn
from tests.service.service_rig import at, configured, free_port, pool, running


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class TestListeners:
    def test_an_address_keeps_its_socket_and_its_queue_from_listener_to_listener(self) -> None:
        port, other, end = free_port(), free_port(), tcp_listener()
        web = pool("web", end.getsockname()[1])
        with running(configured({"a": [port], "b": [other]}, (web,))) as made:
            waits = socket.create_connection(("127.0.0.1", port))
            made.service.apply(configured({"a": [other], "b": [port]}, (web,)))
            turn(made.reactor)
            sessions = {name: one.admission.accepted for name, one in made.service.listeners.by_name.items()}
            assert sessions == {"a": 0, "b": 1}
            client = made.connect(other)
            assert made.service.listeners.by_name["a"].admission.accepted == 1
            client.close()
            waits.close()
        end.close()

    def test_an_address_that_a_new_listener_takes_over(self) -> None:
        port, end = free_port(), tcp_listener()
        web = pool("web", end.getsockname()[1])
        with running(configured({"old": [port]}, (web,))) as made:
            made.service.apply(configured({"new": [port]}, (web,)))
            client = made.connect(port)
            assert list(made.service.listeners.by_name) == ["new"]
            assert made.service.listeners.by_name["new"].admission.accepted == 1
            client.close()
        end.close()

    def test_sessions_go_on_when_their_listener_goes(self) -> None:
        port, end = free_port(), tcp_listener()
        web = pool("web", end.getsockname()[1])
        with running(configured({"a": [port], "b": [free_port()]}, (web,))) as made:
            client = made.connect(port)
            backend, _ = end.accept()
            turn(made.reactor)
            made.service.apply(configured({"b": []}, (web,)))
            assert refused(port)
            client.send(b"still here")
            turn(made.reactor)
            assert backend.recv(100) == b"still here"
            client.close()
            backend.close()
            turn(made.reactor, lambda: made.service.total.sessions == 0)
        end.close()

    def test_a_bind_that_fails_changes_nothing(self) -> None:
        port, fresh, web = free_port(), free_port(), pool("web", 9101)
        before = configured({"a": [port]}, (web,))
        with tcp_listener() as taken, running(before) as made:
            wanted = configured({"a": [port], "b": [fresh], "c": [taken.getsockname()[1]]}, (web,))
            with pytest.raises(
                BindError, match="another socket has it already, of another process or of a listener that overlaps"
            ):
                made.service.apply(wanted)
            assert made.service.configuration is before
            assert list(made.service.listeners.by_name) == ["a"]
            assert refused(fresh), "what was bound on the way is let go"
            assert not refused(port)

    def test_records_that_have_no_place_to_go_change_nothing(self, tmp_path: Path) -> None:
        port, fresh, web = free_port(), free_port(), pool("web", 9101)
        before = configured({"a": [port]}, (web,))
        with running(before) as made:
            bad = RecordSettings("file", str(tmp_path / "no" / "r"))
            with pytest.raises(StartError, match="records cannot be written"):
                made.service.apply(configured({"a": [port], "b": [fresh]}, (web,), records=bad))
            assert made.service.configuration is before
            assert refused(fresh), "clients would wait in a queue that nobody serves"

    def test_a_unix_listener_takes_its_path_away(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        wanted = configured({"a": []}, (pool("web", 9101),))
        with_path = replace(wanted, listeners=(replace(wanted.listeners[0], binds=(Address("unix", str(path)),)),))
        with running(with_path) as made:
            assert path.is_socket()
            assert made.service.listeners.bound("a") == [f"unix:{path}"]
            made.service.apply(wanted)
            assert not path.exists()

    def test_a_path_that_cannot_be_taken_away_keeps_no_socket_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After privileges were dropped its directory may be somebody else's."""
        told: list[Any] = []
        observer: Any = told.append
        monkeypatch.setattr(Listeners, "log", Logger("lbproxy.x", observer=observer))
        port, other, first, second = free_port(), free_port(), tmp_path / "s", tmp_path / "t"
        without = configured({"a": [other]}, (pool("web", 9101),))
        binds = (Address("unix", str(first)), at(port), Address("unix", str(second)), at(other))
        with running(replace(without, listeners=(replace(without.listeners[0], binds=binds),))) as made:
            with monkeypatch.context() as patch:

                def fail(path: object, **more: object) -> None:
                    raise PermissionError(1, "Operation not permitted")

                patch.setattr(os, "unlink", fail)
                made.service.apply(without)
            assert refused(port)
            assert not refused(other)
            for path in (first, second):
                with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
                    probe.connect(str(path))
            assert made.service.listeners.bound("a") == [f"127.0.0.1:{other}"]
        assert [(event["log_level"].name, event["problem"]) for event in told] == [
            ("warn", "Operation not permitted"),
            ("warn", "Operation not permitted"),
        ]

    def test_a_start_that_cannot_bind_says_so(self) -> None:
        with tcp_listener() as taken, pytest.raises(BindError):
            wanted = configured({"a": [taken.getsockname()[1]]}, (pool("web", 9101),))
            with running(wanted):
                pass


class TestPools:
    def test_a_pool_that_stays_keeps_the_health_of_its_backends(self) -> None:
        seldom = CheckSettings(interval=3600.0)
        with running(configured({}, (pool("web", 9101, 9102, check=seldom),))) as made:
            balancer = made.service.balancer
            before = balancer.pools["web"]
            backend = before.backends["b0"]
            for _ in range(3):
                before.check_failed(backend, "L4CON", made.service.clock())
            assert backend.state == "down"
            made.service.apply(configured({}, (pool("web", 9101, 9103, check=seldom, policy="random"),)))
            assert balancer.pools["web"] is before
            assert before.backends["b0"] is backend
            assert backend.state == "down"
            assert before.backends["b1"].address == at(9103)

    def test_a_pool_that_is_removed_is_gone_for_new_sessions(self) -> None:
        with running(configured({}, (pool("web", 9101), pool("api", 9102)))) as made:
            pools = made.service.worker.pools
            made.service.apply(configured({}, (pool("api", 9102),)))
            assert list(pools) == ["api"]

    def test_checks_begin_and_end_with_the_settings(self) -> None:
        with tcp_listener() as end:
            port = end.getsockname()[1]
            checked = pool("web", port, check=CheckSettings(interval=0.01, timeout=1.0, rise=1))
            with running(configured({}, (checked,))) as made:
                backend = made.service.balancer.pools["web"].backends["b0"]
                turn(made.reactor, lambda: backend.checks_ok_total >= 2)
                made.service.apply(configured({}, (pool("web", port),)))
                before = backend.checks_ok_total
                turn(made.reactor)
                turn(made.reactor)
                assert backend.checks_ok_total == before

    def test_no_socket_to_ask_with_says_nothing_about_a_backend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def fail(*words: object) -> None:
            asked.append(1)
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("lbproxy.net.check_tcp.open_connection", fail)
        checked = pool("web", 9101, check=CheckSettings(interval=0.01, timeout=1.0, fall=2))
        with running(configured({}, (checked,))) as made:
            backend = made.service.balancer.pools["web"].backends["b0"]
            before = backend.state
            turn(made.reactor, lambda: len(asked) > 6)
            assert backend.state == before
            assert (backend.checks_ok_total, backend.checks_failed_total) == (0, 0)

    def test_a_backend_under_maintenance_is_not_checked(self) -> None:
        with tcp_listener() as end:
            checked = pool("web", end.getsockname()[1], check=CheckSettings(interval=0.01, timeout=1.0))
            with running(configured({}, (checked,))) as made:
                web = made.service.balancer.pools["web"]
                backend = web.backends["b0"]
                web.set_admin(backend, "maint", made.service.clock())
                before = backend.checks_ok_total + backend.checks_failed_total
                for _ in range(5):
                    turn(made.reactor)
                assert backend.checks_ok_total + backend.checks_failed_total == before


class TestReload:
    def test_a_refused_configuration_leaves_the_old_one(self) -> None:
        before = configured({}, (pool("web", 9101),))
        problem = Problem("f", 1, "", "is wrong")
        with running(before, lambda: Loaded(None, (problem,))) as made:
            assert made.service.reload() == (problem,)
            assert made.service.configuration is before

    def test_a_bind_that_fails_is_a_problem(self) -> None:
        before = configured({}, (pool("web", 9101),))
        with tcp_listener() as taken:
            wanted = configured({"a": [taken.getsockname()[1]]}, (pool("web", 9101),))
            with running(before, lambda: Loaded(wanted, ())) as made:
                (problem,) = made.service.reload()
                assert problem.severity == "error"
                assert (
                    "another socket has it already, of another process or of a listener that overlaps"
                    in problem.message
                )
                made.service.reload_and_log()

    def test_the_log_goes_by_the_new_settings(self) -> None:
        wanted = configured({}, (pool("web", 9101),), log=LogSettings("debug", "json"))
        with running(configured({}, (pool("web", 9101),)), lambda: Loaded(wanted, ())) as made:
            made.service.reload_and_log()
            assert made.seen == [wanted.log]
            made.service.reopen()
            assert made.seen[-1] is None

    def test_a_log_that_cannot_be_opened_again_is_told_and_records_are_reopened_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Any] = []
        observer: Any = told.append
        monkeypatch.setattr(ProxyService, "log", Logger("lbproxy.x", observer=observer))
        records = tmp_path / "r"
        wanted = configured({}, (pool("web", 9101),), records=RecordSettings("file", str(records)))
        with running(wanted) as made:
            records.rename(tmp_path / "old")

            def fail(settings: object) -> None:
                raise PermissionError(13, "Permission denied", "/var/log/lbproxy.log")

            monkeypatch.setattr(made.service, "_observe", fail)
            told.clear()
            made.service.reopen()
            assert records.exists()
            assert [event["log_level"].name for event in told] == ["error"]
            assert "/var/log/lbproxy.log" in told[0]["problem"]
            assert made.service.running

    def test_a_control_socket_that_could_not_be_had_is_tried_again(self, tmp_path: Path) -> None:
        path = tmp_path / "later" / "control"
        wanted = configured({}, (pool("web", 9101),), control=ControlSettings(str(path)))
        with warnings.catch_warnings():
            # The ports that Twisted could not bind leave their sockets to the collector.
            warnings.simplefilter("ignore", ResourceWarning)
            with running(wanted, lambda: Loaded(wanted, ())) as made:
                assert made.service.reload() == ()
                assert not path.exists(), "as little as before"
                path.parent.mkdir()
                assert made.service.reload() == ()
                assert made.ask(path, "GET", "/healthz")[0] == 200
                number = path.stat().st_ino
                made.service.reload()
                assert path.stat().st_ino == number, "one that stands is left alone"
            gc.collect()


class TestTheEnd:
    def test_the_last_session_ends_it(self, tmp_path: Path) -> None:
        port, end, records = free_port(), tcp_listener(), tmp_path / "r"
        wanted = configured(
            {"a": [port]},
            (pool("web", end.getsockname()[1]),),
            records=RecordSettings("file", str(records)),
            stop=StopSettings(grace=0.0, hard_stop=60.0),
        )
        with running(wanted) as made:
            client = made.connect(port)
            backend, _ = end.accept()
            turn(made.reactor)
            done: list[object] = []
            made.service.stopService().addBoth(done.append)
            assert refused(port)
            assert done == []
            backend.send(b"the end")
            backend.close()
            turn(made.reactor)
            assert take_all(client) == (b"the end", True)
            client.close()
            turn(made.reactor, lambda: done)
            assert done == [None] or not isinstance(done[0], BaseException)
            (line,) = records.read_text().splitlines()
            assert json.loads(line)["bytes_out"] == 7
            assert made.service.total.sessions == 0
        end.close()

    def test_asked_twice_the_rest_is_cut(self) -> None:
        port, end = free_port(), tcp_listener()
        with running(configured({"a": [port]}, (pool("web", end.getsockname()[1]),))) as made:
            client = made.connect(port)
            backend, _ = end.accept()
            turn(made.reactor)
            done: list[object] = []
            made.service.stopService().addBoth(done.append)
            assert made.service.stopping.state == "grace"
            made.service.stopping.end()
            turn(made.reactor, lambda: done)
            with pytest.raises(ConnectionResetError):
                take_all(client)
            assert made.service.counters.ended["web", "killed"] == 1
            client.close()
            backend.close()
        end.close()

    def test_the_last_session_may_end_it_by_its_deadline(self, tmp_path: Path) -> None:
        port, end, records = free_port(), tcp_listener(), tmp_path / "r"
        wanted = configured(
            {"a": [port]},
            (pool("web", end.getsockname()[1], timeouts=TimeoutSettings(tunnel_idle=0.2, connect=0.2)),),
            records=RecordSettings("file", str(records)),
            stop=StopSettings(grace=0.0, hard_stop=60.0),
        )
        with running(wanted) as made:
            client = made.connect(port)
            done: list[object] = []
            made.service.stopService().addBoth(done.append)
            turn(made.reactor, lambda: done)
            assert not isinstance(done[0], Failure), done[0]
            (line,) = records.read_text().splitlines()
            assert json.loads(line)["outcome"] == "idle_timeout"
            client.close()
        end.close()

    def test_a_new_client_is_served_during_the_grace(self) -> None:
        port, end = free_port(), tcp_listener()
        with running(configured({"a": [port]}, (pool("web", end.getsockname()[1]),))) as made:
            first = made.connect(port)
            made.service.stopService()
            assert made.service.stopping.state == "grace"
            second = made.connect(port)
            assert made.service.total.sessions == 2
            first.close()
            second.close()
        end.close()

    def test_those_in_front_have_the_grace_also_when_nobody_is_here_at_that_moment(self) -> None:
        port = free_port()
        with running(configured({"a": [port]}, (pool("web", 9101),))) as made:
            made.service.stopService()
            assert not refused(port), "semantics.md, section 20: listeners close 5 s after SIGTERM"
