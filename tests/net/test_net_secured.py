"""Relays with TLS on one side or on both, between real connections, turned by hand, both ways that TLS goes."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lbproxy import errors
from lbproxy.certificates import Trust
from lbproxy.model import SendProxySettings
from lbproxy.model_tls import BackendTlsSettings, ClientAuthSettings, TlsPolicy
from lbproxy.net.relaying import RelaySide
from lbproxy.net.tls import binding
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.contexts import server_context
from lbproxy.net.tls.sites import Site
from lbproxy.net.tls.socket_channel import SocketChannel
from lbproxy.net.tls.way import VARIABLE, channel_class
from lbproxy.preamble import HeaderReader
from lbproxy.session.phases import DATA, ENDING, HANDSHAKE, HELLO, OVER, QUEUE
from lbproxy.session.relay import Relay
from lbproxy.session.seams import Opening
from tests.certificates.making import Authority, Issued
from tests.net.net_rig import Rig, put, reset, rig, take_all, turn
from tests.net.tls_peers import NAME, TlsPeer, authority, client_ssl, issued, pair_of, server_ssl

MEGABYTE = random.Random(13).randbytes(1 << 20)
RECORD = 16 * 1024


class Plain:
    """A peer without TLS. `ended` turns True with FIN, `cut` with a reset."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = bytearray()
        self.unsent = b""
        self.ended = self.cut = self.finishing = False
        self.idle = False  # it takes nothing

    def send(self, data: bytes) -> None:
        self.unsent += data
        self.pump()

    def finish(self) -> None:
        self.finishing = True
        self.pump()

    def pump(self) -> bool:
        """Everything that can be done now."""
        if self.cut:
            return False
        try:
            self.unsent = self.unsent[put(self.sock, self.unsent) :]
            if self.finishing and not self.unsent:
                self.finishing = False
                self.sock.shutdown(socket.SHUT_WR)
            while not self.idle:
                more, self.ended = take_all(self.sock, 65536)
                self.got += more
                if not more:
                    break
        except (ConnectionResetError, BrokenPipeError):
            self.cut = True
        return True


class Secured(TlsPeer):
    """A peer with TLS. `ended` turns True with close_notify, `torn` with a FIN without it, `cut` with a reset."""

    cut = torn = finishing = idle = False

    @property
    def ended(self) -> bool:
        return self.closed

    def finish(self) -> None:
        """In order: close_notify, then FIN."""
        self.unsent += self.goodbye()
        self.finishing = True
        self.pump()

    def pump(self) -> bool:
        if self.cut or self.torn:
            return False
        try:
            if self.idle:
                self.flush()
            else:
                super().pump()
            if self.finishing and not self.unsent:
                self.finishing = False
                assert self.sock is not None
                self.sock.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            self.cut = True
        except ssl.SSLEOFError:
            self.torn = True
        return self.established


Peer = Plain | Secured


class Scene:
    """A rig whose clients, or backends, or both speak TLS."""

    def __init__(self, place: Rig, layout: str, directory: Path) -> None:
        self.place = place
        self.client_speaks = layout in ("client", "both")
        self.backend_speaks = layout in ("backend", "both")
        self.settings: BackendTlsSettings | None = None
        if self.client_speaks:
            self.serve()
        if self.backend_speaks:
            self.trust(directory)

    def serve(self) -> None:
        """End the TLS of clients."""
        policy = TlsPolicy()
        context = server_context([pair_of(issued())], policy, trust=None, tickets=True, stapled={}, write_secret=None)
        self.place.gate.opening = Opening(tls=True, timeouts=self.route_timeouts(), plain=False)
        self.place.gate.site = Site(context, policy, (), asks=False)

    def route_timeouts(self) -> Any:
        route = self.place.gate.only_route
        assert route is not None
        return route.timeouts

    def trust(self, directory: Path, **settings: Any) -> None:
        """Speak TLS with backends whom our authority vouches for."""
        settings.setdefault("server_name", NAME)
        self.settings = BackendTlsSettings(ca=authority().write(directory), **settings)
        self.place.tls = ClientTls(self.settings, trust=Trust((authority().certificate,)), pair=None)

    def backends(self, count: int = 1, **settings: Any) -> None:
        self.place.backends(count, tls=self.settings, **settings)

    def accept(self, send: int = 0, receive: int = 0) -> tuple[Relay, Peer]:
        session, sock = self.place.accept(send, receive)
        return session, Secured(client_ssl(), sock) if self.client_speaks else Plain(sock)

    def answered_by(self, number: int = 0, one: Issued | None = None, client: Peer | None = None) -> Peer:
        """The backend's end; the client goes on meanwhile."""
        if client is not None:
            self.until(client.pump, client)
        sock = self.place.answered_by(number)
        return Secured(server_ssl(one), sock, server=True) if self.backend_speaks else Plain(sock)

    def joined(self, send: int = 0, receive: int = 0, **settings: Any) -> tuple[Relay, Peer, Peer]:
        self.backends(receive=receive, **settings)
        session, client = self.accept(send, receive)
        backend = self.answered_by(client=client)
        self.until(lambda: session.phase == DATA and backend.pump(), client, backend)
        return session, client, backend

    def until(self, done: Callable[[], object], *peers: Peer) -> None:
        def step() -> object:
            for peer in peers:
                peer.pump()
            return done()

        turn(self.place.reactor, step)

    def over(self, session: Relay, *peers: Peer) -> Any:
        """The record; everything was given back."""

        def ended() -> bool:
            if session.phase == ENDING:
                self.place.passes(0.1)  # what is still on its way is looked after by the clock
            return session.phase == OVER

        self.until(ended, *peers)
        turn(self.place.reactor)
        for peer in peers:
            peer.pump()
        self.place.check_clean()
        handshakes = self.place.worker.handshakes
        assert (handshakes.under_way, handshakes.waiting) == (0, 0)
        return self.place.records[-1]


LAYOUTS = ["client", "backend", "both"]


@pytest.fixture(params=["memory", "socket"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[MemoryChannel]:
    if request.param == "memory":
        monkeypatch.setenv(VARIABLE, "memory")
    elif binding.AVAILABLE:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        pytest.skip("the binding lacks what the fast way needs")
    wanted = MemoryChannel if request.param == "memory" else SocketChannel
    assert channel_class() is wanted
    return wanted


Make = Callable[..., Scene]


@pytest.fixture
def make(way: type[MemoryChannel], tmp_path: Path) -> Iterator[Make]:
    with rig() as place:
        yield lambda layout: Scene(place, layout, tmp_path)


@pytest.fixture(params=LAYOUTS)
def scene(request: pytest.FixtureRequest, make: Make) -> Scene:
    return make(request.param)


def side_of(session: Relay, *, backend: bool = False) -> RelaySide:
    side = session.backend_side if backend else session.client
    assert isinstance(side, RelaySide)
    return side


class TestBytes:
    def test_there_and_back_and_both_ends(self, scene: Scene) -> None:
        session, client, backend = scene.joined()
        client.send(b"there")
        scene.until(lambda: backend.got == b"there", client, backend)
        backend.send(b"back")
        scene.until(lambda: client.got == b"back", client, backend)
        client.finish()
        scene.until(lambda: backend.ended, client, backend)
        backend.finish()
        record = scene.over(session, client, backend)
        assert client.ended
        assert (record.outcome, record.bytes_in, record.bytes_out) == ("ok", 5, 4)
        assert (record.tls, record.backend_tls) == (
            "TLSv1.3" if scene.client_speaks else "",
            "TLSv1.3" if scene.backend_speaks else "",
        )

    def test_a_megabyte_each_way_through_small_kernels(self, scene: Scene) -> None:
        session, client, backend = scene.joined(send=8192, receive=8192)
        held: list[int] = []
        spliced: list[int] = []

        def all_there() -> bool:
            held.append(side_of(session).held + side_of(session, backend=True).held)
            spliced.append(scene.place.worker.pipes.in_use)
            return len(backend.got) >= len(MEGABYTE) and len(client.got) >= len(MEGABYTE)

        client.send(MEGABYTE)
        backend.send(MEGABYTE[::-1])
        scene.until(all_there, client, backend)
        assert backend.got == MEGABYTE
        assert client.got == MEGABYTE[::-1]
        assert any(held), "the kernels were never full: this shows nothing"
        assert not any(spliced), "what TLS has to look at cannot go through a pipe"
        client.finish()
        scene.until(lambda: backend.ended, client, backend)
        backend.finish()
        record = scene.over(session, client, backend)
        assert (record.outcome, record.bytes_in, record.bytes_out) == ("ok", len(MEGABYTE), len(MEGABYTE))

    @pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
    def test_bulk_is_copied_and_never_spliced(self, scene: Scene, up: bool) -> None:
        session, client, backend = scene.joined()
        source, target = (client, backend) if up else (backend, client)
        data = MEGABYTE * 4
        source.send(data)

        def arrived() -> bool:
            assert side_of(session).pipe is None
            assert side_of(session, backend=True).pipe is None
            return len(target.got) == len(data)

        scene.until(arrived, client, backend)
        assert target.got == data
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)

    def test_a_hello_byte_by_byte(self, make: Make) -> None:
        scene = make("client")
        scene.backends()
        session, client = scene.accept()
        assert isinstance(client, Secured)
        client.shake()
        hello = client.take()
        for at in range(len(hello) - 1):
            client.sock.send(hello[at : at + 1])  # type: ignore[union-attr]  # it has one
            turn(scene.place.reactor, lambda at=at: side_of(session).keeps == at + 1)  # type: ignore[misc]  # bound early
            assert session.phase == HELLO
        client.unsent = hello[-1:]
        backend = scene.answered_by(client=client)
        client.send(b"there")
        scene.until(lambda: backend.got == b"there", client, backend)
        assert scene.place.gate.handshakes == [("full", "")]


class TestBackPressure:
    @pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
    def test_a_writer_is_not_read_while_the_reader_takes_nothing(self, scene: Scene, up: bool) -> None:
        session, client, backend = scene.joined(send=8192, receive=8192)
        source, target = (client, backend) if up else (backend, client)
        target.idle = True
        source.send(MEGABYTE * 24)
        taking = side_of(session, backend=up)
        scene.until(lambda: taking.held, source)
        for _ in range(50):
            turn(scene.place.reactor)
            source.pump()
            assert taking.held < 200_000, "one buffer, and what TLS makes of it"
            assert scene.place.worker.budget.used < 400_000
        assert source.unsent, "it could not get rid of everything"
        target.idle = False
        scene.until(lambda: len(target.got) == 24 * len(MEGABYTE), client, backend)
        assert target.got == MEGABYTE * 24
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)

    def test_what_is_held_counts_against_the_budget(self, scene: Scene) -> None:
        session, client, backend = scene.joined(send=8192, receive=8192)
        backend.idle = True
        client.send(MEGABYTE * 24)
        scene.until(lambda: side_of(session, backend=True).held, client)
        assert scene.place.worker.budget.used >= side_of(session, backend=True).held
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)

    @pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
    @pytest.mark.parametrize("size", [6 * RECORD, 6 * RECORD + 5])
    def test_the_last_bytes_come_although_no_event_tells_of_them(self, scene: Scene, up: bool, size: int) -> None:
        """While the reader takes nothing all the rest arrives here, the end with it; afterwards nothing more does."""
        session, client, backend = scene.joined(send=8192, receive=8192)
        source, target = (client, backend) if up else (backend, client)
        target.idle = True
        source.send(MEGABYTE[:size])
        source.finish()
        for _ in range(20):
            turn(scene.place.reactor)
            source.pump()
        target.idle = False
        scene.until(lambda: target.ended, client, backend)
        assert target.got == MEGABYTE[:size]
        target.finish()
        assert scene.over(session, client, backend).outcome == "ok"

    def test_everything_in_the_segment_that_ends_the_handshake(self, make: Make) -> None:
        scene = make("client")
        scene.backends()
        session, client = scene.accept()
        assert isinstance(client, Secured)
        assert client.sock is not None
        sock = client.sock
        client.shake()
        client.flush()

        def answered() -> bool:
            client.pull()
            return client.shake()

        turn(scene.place.reactor, answered)
        sock.send(client.take() + client.encrypted(b"all at once") + client.goodbye())
        backend = scene.answered_by()
        scene.until(lambda: backend.ended, backend)
        assert backend.got == b"all at once"
        backend.send(b"answer")
        backend.finish()
        scene.until(lambda: client.ended, client, backend)
        assert client.got == b"answer"
        sock.shutdown(socket.SHUT_WR)
        assert scene.over(session, client, backend).outcome == "ok"

    def test_what_a_client_sends_before_there_is_a_backend_is_kept_within_bounds(self, make: Make) -> None:
        scene = make("client")
        first, _, backend = scene.joined(max_active=1)
        session, client = scene.accept(send=8192, receive=8192)
        scene.until(lambda: session.phase == QUEUE, client)
        client.send(MEGABYTE * 24)
        for _ in range(30):
            turn(scene.place.reactor)
            client.pump()
        assert 0 < side_of(session).keeps <= 64 * 1024
        assert client.unsent
        first.kill(errors.KILLED_BY_OPERATOR)
        backend = scene.answered_by()
        scene.until(lambda: len(backend.got) == 24 * len(MEGABYTE), client, backend)
        assert backend.got == MEGABYTE * 24
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)


class TestEnds:
    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_half_close_is_passed_on_and_the_other_direction_goes_on(self, scene: Scene, who: str) -> None:
        session, client, backend = scene.joined()
        first, second = (client, backend) if who == "client" else (backend, client)
        first.send(b"question")
        first.finish()
        scene.until(lambda: second.ended, client, backend)
        assert second.got == b"question"
        second.send(MEGABYTE)
        scene.until(lambda: len(first.got) == len(MEGABYTE), client, backend)
        assert session.phase == DATA
        second.finish()
        assert scene.over(session, client, backend).outcome == "ok"
        assert first.ended
        assert not first.cut
        assert not second.cut

    @pytest.mark.parametrize("who", ["client", "backend"])
    @pytest.mark.parametrize("size", [0, 5, RECORD, 2 * RECORD])
    def test_a_close_notify_without_fin_is_an_end_already(self, make: Make, who: str, size: int) -> None:
        """It may come in the segment of the last data: TLS has read it then, and the kernel has nothing to tell."""
        scene = make(who)
        session, client, backend = scene.joined()
        speaker, other = (client, backend) if who == "client" else (backend, client)
        assert isinstance(speaker, Secured)
        speaker.unsent += speaker.encrypted(MEGABYTE[:size]) + speaker.goodbye()
        scene.until(lambda: other.ended, client, backend)
        assert other.got == MEGABYTE[:size]
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_an_orderly_end_says_so_and_then_sends_fin(self, make: Make, who: str) -> None:
        scene = make(who)
        session, client, backend = scene.joined()
        speaker, other = (client, backend) if who == "client" else (backend, client)
        assert isinstance(speaker, Secured)
        other.send(b"answer")
        other.finish()
        scene.until(lambda: speaker.ended and speaker.fin, client, backend)
        assert speaker.got == b"answer"
        assert not speaker.torn
        speaker.finish()
        assert scene.over(session, client, backend).outcome == "ok"

    def test_a_killed_session_does_not_say_goodbye(self, scene: Scene) -> None:
        session, client, backend = scene.joined()
        session.kill(errors.KILLED_BY_OPERATOR)
        assert scene.over(session, client, backend).outcome == "killed"
        for peer in (client, backend):
            assert peer.cut, "nobody may take a cut stream for a whole one"
            assert not peer.ended

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reset_is_passed_on_without_a_goodbye(self, scene: Scene, who: str) -> None:
        session, client, backend = scene.joined()
        client.send(b"x")
        backend.send(b"y")
        scene.until(lambda: client.got and backend.got, client, backend)
        first, second = (client, backend) if who == "client" else (backend, client)
        assert first.sock is not None
        reset(first.sock)
        record = scene.over(session, second)
        assert record.outcome == ("client_gone" if who == "client" else "backend_cut")
        assert second.cut
        assert not second.ended

    @pytest.mark.parametrize("who", ["client", "backend"])
    @pytest.mark.parametrize("size", [5, RECORD, 200_000])
    def test_a_truncated_end_delivers_everything_and_then_resets(self, make: Make, who: str, size: int) -> None:
        scene = make(who)
        session, client, backend = scene.joined(send=8192, receive=8192)
        client.send(b"x")
        backend.send(b"y")
        scene.until(lambda: client.got and backend.got, client, backend)
        first, second = (client, backend) if who == "client" else (backend, client)
        first.send(MEGABYTE[:size])
        scene.until(lambda: not first.unsent, client, backend)
        assert first.sock is not None
        first.sock.shutdown(socket.SHUT_WR)
        record = scene.over(session, second)
        assert second.cut
        assert second.got[1:] == MEGABYTE[:size]
        assert not second.ended
        assert (record.outcome, record.state) == ("truncated", "CD--" if who == "client" else "SD--")

    def test_a_damaged_record_resets_the_other_side(self, make: Make) -> None:
        scene = make("client")
        session, client, backend = scene.joined()
        assert isinstance(client, Secured)
        backend.send(b"y")
        scene.until(lambda: client.got, client, backend)
        damaged = bytearray(client.encrypted(b"to be damaged"))
        damaged[-1] ^= 1
        client.unsent = bytes(damaged)
        client.flush()
        record = scene.over(session, backend)
        assert backend.cut
        assert backend.got == b""
        assert (record.outcome, record.tls_error) == ("tls_error", "bad_record")
        assert [word for word, _ in scene.place.gate.complaints] == ["bad_record"]


class TestHandshakesOfClients:
    @pytest.mark.parametrize("how", ["FIN", "reset", "kill", "time"])
    def test_one_that_is_not_finished_gives_everything_back(self, make: Make, how: str) -> None:
        scene = make("client")
        scene.backends()
        session, client = scene.accept()
        assert isinstance(client, Secured)
        assert client.sock is not None
        client.shake()
        client.flush()
        turn(scene.place.reactor, lambda: session.phase == HANDSHAKE)
        assert scene.place.worker.handshakes.under_way == 1
        if how == "FIN":
            client.sock.shutdown(socket.SHUT_WR)
        elif how == "reset":
            reset(client.sock)
        elif how == "kill":
            session.kill(errors.KILLED_BY_OPERATOR)
        else:
            scene.place.passes(10.5)
        record = scene.over(session)
        wanted = {"kill": "killed", "time": "tls_handshake_timeout"}
        assert record.outcome == wanted.get(how, "client_gone")
        assert len(scene.place.gate.handshakes) == 1

    def test_one_that_fails_is_told_why(self, make: Make) -> None:
        scene = make("client")
        scene.backends()
        session, sock = scene.place.accept()
        client = Secured(client_ssl(most=ssl.TLSVersion.TLSv1_2, ciphers="AES128-SHA"), sock)
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            scene.until(client.pump)
        record = scene.over(session)
        assert (record.outcome, record.tls_error) == ("tls_handshake", "no_shared_cipher")
        assert [word for word, _ in scene.place.gate.handshakes] == ["no_shared_cipher"]

    def test_those_beyond_one_turn_are_served_in_later_ones(self, make: Make) -> None:
        scene = make("client")
        scene.backends()
        clients = [scene.accept() for _ in range(20)]
        peers = [client for _, client in clients]
        scene.until(lambda: all(session.tls is not None for session, _ in clients), *peers)
        for session, _ in clients:
            session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(clients[-1][0])

    def test_a_client_that_leaves_while_it_waits_for_its_turn(self, make: Make) -> None:
        scene = make("client")
        scene.backends()
        scene.place.worker.handshakes.limit = 1
        (first, one), (second, two) = scene.accept(), scene.accept()
        for client in (one, two):
            assert isinstance(client, Secured)
            client.shake()
            client.flush()
        turn(scene.place.reactor, lambda: first.phase == second.phase == HANDSHAKE)
        assert scene.place.worker.handshakes.waiting == 1
        second.kill(errors.KILLED_BY_OPERATOR)
        first.kill(errors.KILLED_BY_OPERATOR)
        scene.place.now += 2.0
        turn(scene.place.reactor, lambda: scene.place.worker.handshakes.waiting == 0)
        scene.over(first)

    @pytest.mark.parametrize("expired", [False, True])
    def test_a_certificate_may_expire_before_the_tls_session_that_it_began(
        self, make: Make, tmp_path: Path, expired: bool
    ) -> None:
        """Tickets outlive certificates, and OpenSSL does not look at the dates of one that is resumed."""
        if expired and not binding.AVAILABLE:
            pytest.skip("whether a TLS session was resumed cannot be told")
        scene = make("client")
        clients = Authority("Clients")
        shown = clients.issue(subject="alice", client=True)
        policy = TlsPolicy(client=ClientAuthSettings(clients.write(tmp_path, "clients")))
        trust = Trust((clients.certificate,))
        context = server_context([pair_of(issued())], policy, trust=trust, tickets=True, stapled={}, write_secret=None)
        scene.place.gate.site = Site(context, policy, (), asks=True)
        scene.backends()
        ours = client_ssl()
        ours.load_cert_chain(*shown.write(tmp_path))

        def meet(kept: ssl.SSLSession | None) -> tuple[Relay, Secured]:
            session, sock = scene.place.accept()
            client = Secured(ours, sock, session=kept)
            scene.until(lambda: session.tls is not None or session.phase == OVER, client)
            turn(scene.place.reactor)
            client.pump()  # for the tickets
            return session, client

        first, client = meet(None)
        assert first.tls is not None
        assert first.tls.certificate is not None
        assert (first.tls.verified, first.tls.certificate.common_name) == ("ok", "alice")
        first.kill(errors.KILLED_BY_OPERATOR)
        end = shown.certificate.not_valid_after_utc.timestamp()
        scene.place.worker.wall = lambda: end + (1 if expired else -1)
        second, _ = meet(client.tls.session)
        if expired:
            assert scene.over(second).tls_error == "expired_certificate"
        else:
            assert second.tls is not None
            assert second.tls.certificate == first.tls.certificate
            second.kill(errors.KILLED_BY_OPERATOR)
            scene.over(second)


class TestHandshakesWithBackends:
    def tries(self, scene: Scene, session: Relay) -> list[tuple[str, str | None, str]]:
        session.kill(errors.KILLED_BY_OPERATOR)
        record = scene.over(session)
        return [(one.backend, one.error, one.detail.partition(":")[0]) for one in record.tries]

    def test_one_whom_nobody_vouches_for_is_replaced(self, make: Make) -> None:
        scene = make("backend")
        scene.backends(2)
        session, client = scene.accept()
        bad = scene.answered_by(0, Authority("Others").issue(NAME))
        with contextlib.suppress(ssl.SSLError):  # the alert; where more of it was on its way, the reset is quicker
            scene.until(lambda: session.tries is not None, bad)
        good = scene.answered_by(1)
        client.send(b"hello")
        scene.until(lambda: good.got == b"hello", client, good)
        assert self.tries(scene, session) == [("b0", "tls", "unknown_ca"), ("b1", None, "")]

    def test_one_with_another_name_is_replaced(self, make: Make) -> None:
        scene = make("backend")
        scene.backends(2)
        session, client = scene.accept()
        bad = scene.answered_by(0, issued("other.example"))
        scene.until(lambda: bad.ended or bad.cut or session.tries is not None, bad)
        good = scene.answered_by(1)
        scene.until(lambda: session.phase == DATA, client, good)
        assert self.tries(scene, session) == [("b0", "tls", "wrong_name"), ("b1", None, "")]

    def test_one_that_speaks_before_the_handshake_is_replaced(self, make: Make) -> None:
        scene = make("backend")
        scene.backends(2)
        session, client = scene.accept()
        early, _ = scene.place.listening[0].accept()
        scene.place.sockets.append(early)
        early.send(b"220 ready\r\n")
        turn(scene.place.reactor, lambda: session.tries is not None)
        good = scene.answered_by(1)
        scene.until(lambda: session.phase == DATA, client, good)
        assert self.tries(scene, session) == [("b0", "tls", "early_bytes"), ("b1", None, "")]

    @pytest.mark.parametrize("hard", [False, True], ids=["FIN", "reset"])
    def test_one_that_closes_within_the_handshake_is_replaced(self, make: Make, hard: bool) -> None:
        scene = make("backend")
        scene.backends(2)
        session, client = scene.accept()
        rude = scene.place.answered_by(0)
        if hard:
            reset(rude)
        else:
            rude.shutdown(socket.SHUT_WR)
        turn(scene.place.reactor, lambda: session.tries is not None)
        good = scene.answered_by(1)
        scene.until(lambda: session.phase == DATA, client, good)
        tries = self.tries(scene, session)
        assert [(name, error) for name, error, _ in tries][1:] == [("b1", None)]
        assert tries[0][0] == "b0"
        assert tries[0][1] in {"tls", "reset"}

    def test_one_that_says_nothing_is_replaced_in_its_time(self, way: type[MemoryChannel], tmp_path: Path) -> None:
        with rig(tls_handshake=3.0) as place:
            scene = Scene(place, "backend", tmp_path)
            scene.backends(2)
            session, client = scene.accept()
            scene.place.answered_by(0)
            turn(place.reactor, lambda: session.securing_since >= 0)
            place.passes(3.2)
            good = scene.answered_by(1)
            scene.until(lambda: session.phase == DATA, client, good)
            assert self.tries(scene, session) == [("b0", "tls_timeout", ""), ("b1", None, "")]

    def test_none_left_ends_the_session(self, make: Make) -> None:
        scene = make("backend")
        scene.backends(1)
        session, client = scene.accept()
        bad = scene.answered_by(0, Authority("Others").issue(NAME))
        with contextlib.suppress(ssl.SSLError):
            scene.until(lambda: session.phase == OVER, bad)
        record = scene.over(session, client)
        assert (record.outcome, record.tries[0].error) == ("backend_tls", "tls")
        assert "authority" in record.tries[0].detail

    def test_the_header_goes_in_front_of_the_handshake(self, scene: Scene) -> None:
        """Once, in the clear, before the ClientHello (P7)."""
        scene.backends(send_proxy=SendProxySettings(2, ("authority", "crc32c")))
        session, client = scene.accept()
        backend = scene.answered_by(client=client)
        sock, reader, raw = backend.sock, HeaderReader(), bytearray()
        assert sock is not None

        def header_came() -> bool:
            client.pump()
            more, _ = take_all(sock)
            raw.extend(more)
            return reader.feed(bytes(more)) is not None if more else False

        turn(scene.place.reactor, header_came)
        if isinstance(backend, Secured):
            backend.give(reader.rest)
        else:
            backend.got += reader.rest
        client.send(b"hello")
        scene.until(lambda: backend.got == b"hello", client, backend)
        session.kill(errors.KILLED_BY_OPERATOR)
        scene.over(session)

    def test_a_tls_session_is_taken_up_again(self, make: Make) -> None:
        scene = make("backend")
        scene.backends()
        shared = server_ssl()
        resumed = []
        for _ in range(3):
            session, client = scene.accept()
            backend = Secured(shared, scene.place.answered_by(), server=True)
            scene.until(lambda: session.phase == DATA and backend.pump(), client, backend)  # noqa: B023  # called here
            backend.send(b"x")
            scene.until(lambda: client.got, client, backend)  # noqa: B023  # called here
            client.finish()
            scene.until(lambda: backend.ended, client, backend)  # noqa: B023  # called here
            backend.finish()
            resumed.append(scene.over(session, client, backend).backend_resumed)
        assert resumed == [False, binding.AVAILABLE, binding.AVAILABLE]

    def test_a_backend_that_resets_right_after_its_handshake_is_replaced(self, make: Make) -> None:
        scene = make("backend")
        scene.backends(2)
        session, client = scene.accept()
        rude = scene.answered_by(0)
        scene.until(lambda: session.phase == DATA, client, rude)
        assert rude.sock is not None
        reset(rude.sock)
        good = scene.answered_by(1)
        client.send(b"hello")
        scene.until(lambda: good.got == b"hello", client, good)
        assert self.tries(scene, session) == [("b0", "reset", ""), ("b1", None, "")]
