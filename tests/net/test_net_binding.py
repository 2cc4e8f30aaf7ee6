"""Opening listening sockets: what they are like, and what is said when an address cannot be had."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
from pathlib import Path

import pytest

from lbproxy.addresses import Address
from lbproxy.errors import TryError
from lbproxy.net.binding import BindError, open_listening, passed_sockets, remove_unix_path
from lbproxy.net.dialing import connect_error, open_connection, set_liveness, target_of
from tests.net.net_rig import tcp_listener


def opened(address: Address, **passed: list[int]) -> list[socket.socket]:
    return open_listening(address, 16, passed)


def closed(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


class TestIp:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_socket_that_listens(self, host: str) -> None:
        (sock,) = opened(Address("ip", host))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0, "a matter of pool and route"
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with socket.create_connection(sock.getsockname()[:2]):
            pass
        sock.close()

    def test_both_families_stand_side_by_side(self) -> None:
        (six,) = opened(Address("ip", "::"))
        (four,) = opened(Address("ip", "0.0.0.0", six.getsockname()[1]))
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        closed([six, four])

    def test_an_address_that_somebody_has(self) -> None:
        with tcp_listener() as other:
            port = other.getsockname()[1]
            with pytest.raises(BindError, match=f"cannot listen on 127.0.0.1:{port}: another socket has it already"):
                opened(Address("ip", "127.0.0.1", port))

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(BindError, match=r"cannot listen on 203\.0\.113\.9:80: this machine has no such address"):
            opened(Address("ip", "203.0.113.9", 80))

    def test_a_name(self) -> None:
        sockets = opened(Address("name", "localhost"))
        assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
        closed(sockets)

    def test_a_name_that_means_nothing(self) -> None:
        with pytest.raises(BindError, match=r"cannot listen on nobody\.invalid:80: "):
            opened(Address("name", "nobody.invalid", 80))

    def test_nothing_stays_open_when_one_address_of_a_name_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with tcp_listener() as other:
            port = other.getsockname()[1]
            found = [(socket.AF_INET, 1, 6, "", ("127.0.0.2", port)), (socket.AF_INET, 1, 6, "", ("127.0.0.3", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **more: found)
            blocker = socket.socket()
            blocker.bind(("127.0.0.3", port))
            blocker.listen()
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(BindError) as caught:
                opened(Address("name", "two.example", port))
            assert "two.example" in str(caught.value)
            again = socket.socket()
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            del caught
            assert len(os.listdir("/proc/self/fd")) == before + 1
            closed([blocker, again])


class TestUnix:
    def test_a_path(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (sock,) = opened(Address("unix", str(path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        remove_unix_path(sock)
        assert not path.exists()
        remove_unix_path(sock)
        sock.close()

    def test_everybody_on_this_machine_may_connect_whatever_the_umask(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        before = os.umask(0o077)
        try:
            (sock,) = opened(Address("unix", str(path)))
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        remove_unix_path(sock)
        sock.close()

    def test_an_abstract_name(self) -> None:
        name = "@lbproxy-test-" + secrets.token_hex(6)
        (sock,) = opened(Address("unix", name))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + name[1:])
        remove_unix_path(sock)
        sock.close()

    def test_a_socket_that_was_left_behind_is_replaced(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        (sock,) = opened(Address("unix", path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        sock.close()

    def test_a_socket_that_somebody_answers_on_is_not(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            with pytest.raises(BindError, match="another socket has it already"):
                opened(Address("unix", path))
            assert stat.S_ISSOCK(os.stat(path).st_mode)

    def test_a_file_is_never_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        with pytest.raises(BindError, match="cannot listen on unix:"):
            opened(Address("unix", str(path)))
        assert path.read_text() == "data"
        (tmp_path / "t").mkdir()
        (sock,) = opened(Address("unix", str(tmp_path / "s")))
        os.replace(path, tmp_path / "s")
        remove_unix_path(sock)
        assert (tmp_path / "s").read_text() == "data"
        sock.close()

    def test_a_directory_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BindError, match="its directory does not exist"):
            opened(Address("unix", str(tmp_path / "no" / "s")))


class TestSystemd:
    def test_a_passed_socket_is_used_and_stays_open(self) -> None:
        with tcp_listener() as passed:
            (sock,) = opened(Address("systemd", "http"), http=[passed.fileno()])
            assert sock.getsockname() == passed.getsockname()
            sock.close()
            with socket.create_connection(passed.getsockname()):
                pass

    def test_a_name_may_mean_several(self) -> None:
        with tcp_listener() as one, tcp_listener() as other:
            sockets = opened(Address("systemd", "http"), http=[one.fileno(), other.fileno()])
            assert [sock.getsockname() for sock in sockets] == [one.getsockname(), other.getsockname()]
            closed(sockets)

    @pytest.mark.parametrize(("passed", "given"), [({}, "none"), ({"b": [3], "a": [4]}, "a, b")])
    def test_a_name_that_was_not_passed(self, passed: dict[str, list[int]], given: str) -> None:
        with pytest.raises(BindError, match=f"systemd:http: systemd passed no socket .* passed: {given}"):
            opened(Address("systemd", "http"), **passed)

    @pytest.mark.parametrize(
        ("environ", "found"),
        [
            ({}, {}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, {"unknown": [3, 4]}),
            ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, {}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, {}),
            ({"LISTEN_PID": "7"}, {}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, {}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, {}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:a"}, {"a": [3, 5], "b": [4]}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, {"a": [3], "unknown": [4]}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}, {"a": [3]}),
            ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}, {"unknown": [3]}),
        ],
    )
    def test_what_systemd_passed(self, environ: dict[str, str], found: dict[str, list[int]]) -> None:
        assert passed_sockets(environ, 7) == found


class TestDialing:
    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (errno.ECONNREFUSED, TryError.REFUSED),
            (errno.ENOENT, TryError.REFUSED),
            (errno.EAGAIN, TryError.REFUSED),
            (errno.ETIMEDOUT, TryError.TIMEOUT),
            (errno.ECONNRESET, TryError.RESET),
            (errno.ECONNABORTED, TryError.RESET),
            (errno.EPIPE, TryError.RESET),
            (errno.EMFILE, TryError.LOCAL),
            (errno.ENFILE, TryError.LOCAL),
            (errno.ENOBUFS, TryError.LOCAL),
            (errno.ENOMEM, TryError.LOCAL),
            (errno.EADDRNOTAVAIL, TryError.LOCAL),
            (errno.ENETUNREACH, TryError.UNREACHABLE),
            (errno.EHOSTUNREACH, TryError.UNREACHABLE),
            (errno.EACCES, TryError.UNREACHABLE),
            (0, TryError.UNREACHABLE),
        ],
    )
    def test_the_name_of_an_error(self, code: int, error: TryError) -> None:
        assert connect_error(code) is error

    @pytest.mark.parametrize(
        ("address", "target"),
        [
            (Address("ip", "127.0.0.1", 80), (socket.AF_INET, ("127.0.0.1", 80))),
            (Address("ip", "::1", 80), (socket.AF_INET6, ("::1", 80))),
            (Address("unix", "/run/s"), (socket.AF_UNIX, "/run/s")),
            (Address("unix", "@s"), (socket.AF_UNIX, "\0s")),
        ],
    )
    def test_what_is_dialled(self, address: Address, target: object) -> None:
        assert target_of(address) == target

    def test_a_connection_makes_nobody_wait(self) -> None:
        with tcp_listener() as listening:
            sock, code = open_connection(socket.AF_INET, listening.getsockname())
            assert code in (0, errno.EINPROGRESS)
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            sock.close()

    @pytest.mark.parametrize(("user_timeout", "milliseconds"), [(30.0, 30_000), (float("inf"), 0)])
    def test_a_connection_that_stays_is_watched_over(self, user_timeout: float, milliseconds: int) -> None:
        with socket.socket() as sock:
            set_liveness(sock, user_timeout)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds

    def test_a_path_where_nobody_listens(self, tmp_path: Path) -> None:
        sock, code = open_connection(socket.AF_UNIX, str(tmp_path / "s"))
        assert code == errno.ENOENT
        sock.close()
