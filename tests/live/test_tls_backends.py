"""TLS to backends, on a real lbproxy: whom it trusts, what it says and shows, and what becomes of bad TLS.

The other ends are Python's ssl, `openssl s_server` and HAProxy.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, Record, one_pool, until
from tests.live.peers import PATIENCE, Backend, Script, Sink, connect
from tests.live.tls_peers import (
    NEWEST,
    OLDER,
    Files,
    Papers,
    TlsBackend,
    TlsSocket,
    cuts_off,
    gives_notice,
    haproxy,
    s_server,
    server_context,
    tls_client,
)
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.tls_peers import way_fixture as way_fixture

MEGABYTES = 6 * 1024 * 1024 + 321
CHECKED = "check = { interval = '100ms', timeout = '400ms', rise = 1, fall = 1 }"


class Scene:
    """Backends with and without TLS, and an lbproxy in front of them whose pool trusts the authority of the tests."""

    def __init__(self, papers: Papers, ports: Ports, stack: ExitStack, way: dict[str, str]) -> None:
        self.papers = papers
        self.ports = ports
        self.stack = stack
        self.port = ports.reserve()
        self.proxy: Lbproxy
        self._way = way

    def serve(self, script: Script, serves: Files | ssl.SSLContext | None = None, **options: Any) -> TlsBackend:
        """A TLS backend, with a good certificate unless told otherwise."""
        context = serves if isinstance(serves, ssl.SSLContext) else server_context(serves or self.papers.server())
        backend = TlsBackend(script, context, **options)
        self.stack.callback(backend.stop)
        return backend

    def serve_plain(self, script: Script, **options: Any) -> Backend:
        """A backend without TLS."""
        backend = Backend(script, **options)
        self.stack.callback(backend.stop)
        return backend

    def text(
        self,
        *backends: object,
        tls: str = "",
        policy: str = "first",
        more: str = "",
        pool: str = "",
        listener: str = "",
    ) -> str:
        """A configuration; `tls` are further keys of the pool's TLS, without `ca` it is the authority of the tests."""
        if "ca =" not in tls and "verify = false" not in tls:
            tls += f'\nca = "{self.papers.ca}"'
        addresses = [getattr(one, "address", one) for one in backends]
        more = f"[pool.out.tls]\n{tls}\n{more}"
        pool = f'policy = "{policy}"\noutlier = false\n{pool}'
        return one_pool(self.port, *addresses, pool=pool, listener=listener, more=more)

    def start(self, *backends: object, **options: str) -> Lbproxy:
        """Start it; the arguments are those of `text`."""
        self.proxy = Lbproxy(self.text(*backends, **options), environment=self._way)
        self.stack.callback(self.proxy.end)
        return self.proxy

    def change(self, *backends: object, **options: str) -> None:
        """Go over to another configuration; the arguments are those of `text`."""
        self.proxy.change(self.text(*backends, **options))

    def refused(self) -> tuple[str, str]:
        """Connect as a client, who gets nothing: the outcome, and the word about the one try."""
        count = len(self.proxy.records())
        assert peers.fetch(self.port) == b""
        record = self.proxy.records(count + 1)[-1]
        assert record["tries"][0]["error"] == "tls"
        return record["outcome"], _words(record)[0]

    def works(self) -> Record:
        """Ask the echo behind it; the record."""
        count = len(self.proxy.records())
        assert peers.ask(self.port, b"hello") == b"hello"
        return self.proxy.records(count + 1)[-1]


def _words(record: Record) -> list[str]:
    return [one["detail"].partition(":")[0] for one in record["tries"]]


@pytest.fixture
def scene(authority: Papers, ports: Ports, stack: ExitStack, way: dict[str, str]) -> Scene:
    return Scene(authority, ports, stack, way)


# Bytes.


def test_an_echo_over_tls(scene: Scene) -> None:
    backend = scene.serve(peers.echo)
    scene.start(backend)
    record = scene.works()
    assert record["outcome"] == "ok"
    assert record["backend_tls"] == "TLSv1.3"
    assert record["backend_cipher"].startswith("TLS_")
    assert record["backend_resumed"] is False
    assert (record["tls"], record["bytes_in"], record["bytes_out"]) == ("", 5, 5)


@pytest.mark.parametrize("most", [OLDER, NEWEST], ids=["1.2", "1.3"])
def test_bulk_both_ways_arrives_whole(scene: Scene, most: ssl.TLSVersion) -> None:
    backend = scene.serve(peers.echo, server_context(scene.papers.server(), most=most))
    scene.start(backend)
    with connect(scene.port) as client:
        writer = threading.Thread(target=_pour, args=(client,))
        writer.start()
        assert peers.digest_of(client) == (peers.digest(MEGABYTES), MEGABYTES)
        writer.join(PATIENCE)
    record = scene.proxy.record()
    assert (record["outcome"], record["bytes_in"], record["bytes_out"]) == ("ok", MEGABYTES, MEGABYTES)


def _pour(client: socket.socket) -> None:
    for block in peers.blocks(MEGABYTES):
        client.sendall(block)
    client.shutdown(socket.SHUT_WR)


def test_an_upload_ends_with_close_notify_and_its_answer_still_comes(scene: Scene) -> None:
    sink = Sink(b"got it")
    scene.start(scene.serve(sink))
    with connect(scene.port) as client:
        _pour(client)
        assert peers.read_all(client) == b"got it"
    assert (sink.digest, sink.broken) == (peers.digest(MEGABYTES), False)
    assert scene.proxy.record()["outcome"] == "ok"


def test_a_download_from_a_slow_reader_is_whole(scene: Scene) -> None:
    scene.start(scene.serve(peers.source(MEGABYTES)))
    with connect(scene.port, receive_buffer=8192) as client:
        assert peers.digest_of(client) == (peers.digest(MEGABYTES), MEGABYTES)


def test_openssl_s_server_is_a_backend(scene: Scene) -> None:
    port = scene.stack.enter_context(s_server(scene.papers.server()))
    scene.start(f"127.0.0.1:{port}")
    with connect(scene.port) as client:
        client.sendall(b"drawer\n")
        assert peers.read_exactly(client, 7) == b"reward\n"


def test_haproxy_takes_the_proxy_header_in_front_of_the_client_hello(scene: Scene, tmp_path: Path) -> None:
    behind = scene.serve_plain(peers.echo)
    port = scene.ports.reserve()
    files = scene.papers.server()
    scene.stack.enter_context(
        haproxy(tmp_path, port, "accept-proxy ssl crt {pem}", files, to=behind.port, server="send-proxy")
    )
    scene.start(f"127.0.0.1:{port}", pool="send_proxy = { version = 2 }\n" + CHECKED)
    scene.proxy.wait_for_log(f"backend out/127.0.0.1:{port} is up (was unknown): L6OK")
    with connect(scene.port) as client:
        client.sendall(b"hello\n")
        line = client.makefile("rb").readline()
        assert line == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (client.getsockname()[1], scene.port)


def test_tls_ends_here_and_begins_again(scene: Scene) -> None:
    backend = scene.serve(peers.echo)
    front = scene.papers.issue("front.example")
    listener = f'tls = {{ cert = "{front.cert}", key = "{front.key}" }}'
    scene.start(backend, listener=listener)
    with tls_client(scene.port, server_name="front.example", ca=scene.papers.ca) as client:
        writer = threading.Thread(target=_pour, args=(client,))
        writer.start()
        assert peers.digest_of(client) == (peers.digest(MEGABYTES), MEGABYTES)
        writer.join(PATIENCE)
    record = scene.proxy.record()
    assert (record["outcome"], record["tls"], record["backend_tls"]) == ("ok", "TLSv1.3", "TLSv1.3")
    assert record["sni"] == "front.example"
    assert backend.next_seen().server_name is None, "the client's name is not the backend's"


# Whom it trusts (L14).


def test_a_wrong_name_is_passed_over(scene: Scene) -> None:
    wrong, good = scene.serve(peers.echo, scene.papers.server("other.example")), scene.serve(peers.echo)
    scene.start(wrong, good)
    record = scene.works()
    assert (record["outcome"], record["retries"], record["backend"]) == ("ok", 1, good.address)
    assert [one["error"] for one in record["tries"]] == ["tls", None]
    assert _words(record) == ["wrong_name", ""]


def test_a_wrong_name_is_never_told_what_the_client_said(scene: Scene) -> None:
    sink = Sink()
    scene.start(scene.serve(sink, scene.papers.server("other.example")))
    with connect(scene.port) as client:
        client.sendall(b"secret")
        assert peers.closed_quietly(client)
    assert sink.ended.wait(PATIENCE)
    assert sink.count == 0
    record = scene.proxy.record()
    assert (record["outcome"], _words(record)) == ("backend_tls", ["wrong_name"])
    assert (record["backend_tls"], record["bytes_out"]) == ("", 0)


def _expired(papers: Papers) -> Files:
    return papers.issue("127.0.0.1", days=-1)


def _self_signed(papers: Papers) -> Files:
    return papers.self_signed("127.0.0.1")


def _by_a_stranger(papers: Papers) -> Files:
    return papers.stranger().server()


def _for_clients(papers: Papers) -> Files:
    return papers.issue("127.0.0.1", client=True)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (_expired, "expired_certificate"),
        (_self_signed, "unknown_ca"),
        (_by_a_stranger, "unknown_ca"),
        (_for_clients, "bad_certificate"),
    ],
)
def test_a_bad_certificate_is_refused(scene: Scene, make: Callable[[Papers], Files], word: str) -> None:
    scene.start(scene.serve(peers.echo, make(scene.papers)))
    assert scene.refused() == ("backend_tls", word)


def test_a_revoked_certificate_is_refused_and_another_one_is_not(scene: Scene) -> None:
    bad, good = scene.papers.issue("127.0.0.1"), scene.papers.issue("127.0.0.1")
    for revocation in ("hard", "soft"):
        backends = scene.serve(peers.echo, bad), scene.serve(peers.echo, good)
        tls = f'crl = "{scene.papers.crl(bad)}"\nrevocation = "{revocation}"'
        if revocation == "hard":
            scene.start(*backends, tls=tls)
        else:
            scene.change(*backends, tls=tls)
        assert _words(scene.works()) == ["revoked_certificate", ""]


def test_a_revocation_list_out_of_date_refuses_all_unless_it_is_soft(scene: Scene) -> None:
    """L13."""
    bad = scene.papers.issue("127.0.0.1")
    backends = scene.serve(peers.echo), scene.serve(peers.echo, bad)
    crl = f'crl = "{scene.papers.crl(bad, days=-1)}"\n'
    scene.start(backends[0], tls=crl)
    assert scene.refused() == ("backend_tls", "crl_unavailable")
    scene.change(backends[0], tls=crl + 'revocation = "soft"')
    scene.works()
    scene.change(backends[1], tls=crl + 'revocation = "soft"')
    assert scene.refused() == ("backend_tls", "revoked_certificate"), "the old list still counts"


def test_without_verification_anybody_serves_and_the_start_warns(scene: Scene) -> None:
    scene.start(scene.serve(peers.echo, scene.papers.self_signed("nobody.example")), tls="verify = false")
    scene.works()
    assert "NO BACKEND HAS TO PROVE WHO IT IS" in scene.proxy.log


def test_verification_is_on_unless_switched_off(scene: Scene) -> None:
    """By the system's authorities, which do not know ours."""
    backend = scene.serve(peers.echo)
    scene.proxy = Lbproxy(one_pool(scene.port, backend.address, pool="tls = true"))
    scene.stack.callback(scene.proxy.end)
    assert scene.refused() == ("backend_tls", "unknown_ca")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_backend_by_address_needs_the_address_in_its_certificate(scene: Scene, host: str) -> None:
    good = scene.serve(peers.echo, scene.papers.server(host), host=host)
    named = scene.serve(peers.echo, scene.papers.server("localhost"), host=host)
    scene.start(named, good)
    assert _words(scene.works()) == ["wrong_name", ""]
    assert good.next_seen().server_name is None, "addresses are no server names (RFC 6066, 3)"


def test_a_backend_by_name_is_asked_for_by_name(scene: Scene) -> None:
    backend = scene.serve(peers.echo, scene.papers.server("localhost"))
    scene.start(f"localhost:{backend.port}", pool=CHECKED)
    scene.proxy.wait_for_log("L6OK")
    scene.works()
    assert backend.next_seen().server_name == "localhost"


def test_another_name_is_sent_and_verified(scene: Scene) -> None:
    backend = scene.serve(peers.echo, scene.papers.server("app.example"))
    scene.start(backend, tls='server_name = "app.example"')
    scene.works()
    assert backend.next_seen().server_name == "app.example"
    scene.change(backend, tls='server_name = "app2.example"')
    assert scene.refused() == ("backend_tls", "wrong_name")
    assert backend.next_seen().server_name == "app2.example"


# What it shows and offers.


@pytest.mark.parametrize("most", [OLDER, NEWEST], ids=["1.2", "1.3"])
def test_our_certificate_is_shown_to_a_backend_that_asks(scene: Scene, most: ssl.TLSVersion) -> None:
    ours = scene.papers.issue("lbproxy.example", client=True)
    context = server_context(scene.papers.server(), client_ca=scene.papers.ca, most=most)
    backend = scene.serve(peers.echo, context)
    scene.start(backend, tls=f'cert = "{ours.cert}"\nkey = "{ours.key}"')
    scene.works()
    assert backend.next_seen().client == ("lbproxy.example",)


def test_without_a_certificate_of_ours_such_a_backend_is_bad_tls(scene: Scene) -> None:
    context = server_context(scene.papers.server(), client_ca=scene.papers.ca, most=OLDER)
    good = scene.serve(peers.echo)
    scene.start(scene.serve(peers.echo, context), good)
    assert _words(scene.works()) == ["peer_alert", ""]


def test_such_a_backend_is_no_good_with_tls_1_3_either(scene: Scene) -> None:
    """There it says so behind the handshake (RFC 8446, 4.4.2.4), when the session has been joined already."""
    scene.start(scene.serve(peers.echo, server_context(scene.papers.server(), client_ca=scene.papers.ca)))
    with connect(scene.port) as client:
        assert peers.closed_quietly(client)
    record = scene.proxy.record()
    assert record["outcome"] not in ("ok", "internal")
    assert (record["backend_tls"], record["bytes_out"]) == ("TLSv1.3", 0)


def test_protocols_are_offered_in_order(scene: Scene) -> None:
    backend = scene.serve(peers.echo, server_context(scene.papers.server(), alpn=["h2", "http/1.1", "imap"]))
    for protocols, agreed in (('["http/1.1", "imap"]', "http/1.1"), ('["imap", "h2"]', "h2"), (None, None)):
        tls = "" if protocols is None else f"alpn = {protocols}"
        if not hasattr(scene, "proxy"):
            scene.start(backend, tls=tls)
        else:
            scene.change(backend, tls=tls)
        scene.works()
        assert backend.next_seen().alpn == agreed


def test_an_old_backend_is_refused_by_the_modern_profile(scene: Scene) -> None:
    backend = scene.serve(peers.echo, server_context(scene.papers.server(), most=OLDER))
    scene.start(backend, tls='profile = "modern"')
    assert scene.refused()[0] == "backend_tls"
    scene.change(backend)
    assert scene.works()["backend_tls"] == "TLSv1.2"


# Sessions that are taken up again.


@pytest.mark.parametrize("most", [OLDER, NEWEST], ids=["1.2", "1.3"])
def test_the_second_connection_resumes(scene: Scene, most: ssl.TLSVersion) -> None:
    backend = scene.serve(peers.echo, server_context(scene.papers.server(), most=most))
    scene.start(backend)
    records = [scene.works() for _ in range(3)]
    assert [record["backend_resumed"] for record in records] == [False, True, True]
    assert [backend.next_seen().resumed for _ in records] == [False, True, True]


def test_no_session_is_resumed_where_that_is_switched_off(scene: Scene) -> None:
    backend = scene.serve(peers.echo)
    scene.start(backend, tls="sessions = false")
    assert [scene.works()["backend_resumed"] for _ in range(2)] == [False, False]


@pytest.mark.parametrize("tls", ['server_name = "127-0-0-1.example"', 'alpn = ["h2"]', "cert", "ca"])
def test_other_settings_take_up_no_old_session(scene: Scene, tls: str) -> None:
    """L16."""
    backend = scene.serve(peers.echo, scene.papers.issue("127.0.0.1", "127-0-0-1.example"))
    if tls == "cert":
        ours = scene.papers.issue("lbproxy.example", client=True)
        tls = f'cert = "{ours.cert}"\nkey = "{ours.key}"'
    stranger = scene.papers.stranger()
    scene.start(backend)
    assert [scene.works()["backend_resumed"] for _ in range(2)] == [False, True]
    if tls == "ca":
        scene.change(backend, tls=f'ca = "{stranger.ca}"')
        assert scene.refused() == ("backend_tls", "unknown_ca")
        return
    scene.change(backend, tls=tls)
    assert scene.works()["backend_resumed"] is False
    assert [backend.next_seen().resumed for _ in range(3)] == [False, True, False]


def test_a_session_of_one_backend_is_not_offered_to_another(scene: Scene) -> None:
    """Both serve by the same context, so that the second one would take up what the first one gave."""
    context = server_context(scene.papers.server())
    first, second = scene.serve(peers.echo, context), scene.serve(peers.echo, context)
    scene.start(first, second, policy="round-robin")
    found = [scene.works() for _ in range(4)]
    assert {record["backend"] for record in found} == {first.address, second.address}
    assert [record["backend_resumed"] for record in found] == [False, False, True, True]


# What is no TLS, or ends wrongly (L14, L15).


def _speaks_first(banner: bytes) -> Script:
    def run(conn: socket.socket) -> None:
        conn.sendall(banner)
        peers.hold(conn)

    return run


def _answers_the_hello(answer: bytes) -> Script:
    def run(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(answer)
        peers.hold(conn)

    return run


@pytest.mark.parametrize("script", [_speaks_first, _answers_the_hello])
@pytest.mark.parametrize("plain", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\0" * 300])
def test_plain_bytes_are_bad_tls_and_reach_no_client(
    scene: Scene, script: Callable[[bytes], Script], plain: bytes
) -> None:
    backend = scene.serve_plain(script(plain))
    scene.start(backend)
    outcome, word = scene.refused()
    assert outcome == "backend_tls"
    assert word in ("early_bytes", "not_tls", "protocol_version", "protocol", "bad_record")
    scene.change(backend, scene.serve(peers.echo))
    assert scene.works()["retries"] == 1


def test_plain_bytes_in_front_of_a_good_handshake_are_bad_tls(scene: Scene) -> None:
    """What an attacker between could put in front of a backend that is whom we meant."""
    context = server_context(scene.papers.server())

    def inject(conn: socket.socket) -> None:
        conn.sendall(b"220 injected\r\n")
        with TlsSocket(conn.dup(), context, server_side=True) as tls:
            tls.handshake()

    scene.start(scene.serve_plain(inject))
    assert scene.refused()[0] == "backend_tls"


@pytest.mark.parametrize("end", [lambda conn: None, lambda conn: conn.recv(65536), peers.reset])
def test_a_backend_that_closes_in_the_handshake_is_passed_over(scene: Scene, end: Script) -> None:
    scene.start(scene.serve_plain(end), scene.serve(peers.echo))
    record = scene.works()
    assert record["retries"] == 1
    # A reset may be there before the connection was seen to stand.
    assert record["tries"][0]["error"] in (("tls", "reset") if end is peers.reset else ("tls",))


def test_a_backend_that_says_nothing_has_its_time_and_is_passed_over(scene: Scene) -> None:
    scene.start(scene.serve_plain(peers.hold), scene.serve(peers.echo), more="[timeouts]\ntls_handshake = '500ms'")
    record = scene.works()
    assert [one["error"] for one in record["tries"]] == ["tls_timeout", None]
    assert 490 <= record["tries"][0]["ms"] < 500 + 400, "one deadline and two ticks of the wheel"


def test_only_silent_backends_end_in_a_timeout(scene: Scene) -> None:
    scene.start(scene.serve_plain(peers.hold), more="[timeouts]\ntls_handshake = '500ms'")
    assert peers.fetch(scene.port) == b""
    record = scene.proxy.record()
    assert record["outcome"] == "connect_timeout"
    assert record["timer"] == "tls_handshake"


@pytest.mark.parametrize("most", [OLDER, NEWEST], ids=["1.2", "1.3"])
def test_fin_without_close_notify_is_truncation(scene: Scene, most: ssl.TLSVersion) -> None:
    """L15."""
    said = b"".join(peers.blocks(MEGABYTES))
    scene.start(scene.serve(cuts_off(said), server_context(scene.papers.server(), most=most)))
    with connect(scene.port) as client:
        assert peers.read_exactly(client, MEGABYTES) == said
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    record = scene.proxy.record()
    assert (record["outcome"], record["state"], record["bytes_out"]) == ("truncated", "SD--", MEGABYTES)


def test_a_client_that_reads_late_gets_all_that_came_before_the_reset(scene: Scene) -> None:
    """More than its receive buffer takes: the rest is in the queue of our kernel when the end is seen to be bad."""
    said = next(peers.blocks(20_000))
    gone = threading.Event()

    def cut(conn: socket.socket) -> None:
        try:
            cuts_off(said)(conn)
        finally:
            gone.set()

    scene.start(scene.serve(cut))
    with connect(scene.port, receive_buffer=4096) as client:
        assert gone.wait(PATIENCE), "lbproxy has seen the end"
        assert peers.read_exactly(client, len(said)) == said
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert scene.proxy.record()["outcome"] == "truncated"


def test_close_notify_is_the_orderly_end(scene: Scene) -> None:
    said = b"".join(peers.blocks(MEGABYTES))
    scene.start(scene.serve(gives_notice(said)))
    with connect(scene.port) as client:
        assert peers.read_exactly(client, MEGABYTES) == said
        assert client.recv(1) == b""
    record = scene.proxy.record()
    assert (record["outcome"], record["bytes_out"]) == ("ok", MEGABYTES)


def test_after_the_backends_close_notify_the_client_can_go_on_sending(scene: Scene) -> None:
    sink = Sink()

    def notice_then_listen(conn: socket.socket) -> None:
        conn.shutdown(socket.SHUT_WR)
        sink(conn)

    scene.start(scene.serve(notice_then_listen))
    with connect(scene.port) as client:
        assert client.recv(1) == b""
        _pour(client)
        assert sink.ended.wait(PATIENCE)
    assert (sink.digest, sink.broken) == (peers.digest(MEGABYTES), False)
    assert scene.proxy.record()["outcome"] == "ok"


# Health.


def test_a_good_backend_is_up_and_a_bad_one_is_down_with_the_reason(scene: Scene) -> None:
    good, wrong = scene.serve(peers.echo), scene.serve(peers.echo, scene.papers.server("other.example"))
    scene.start(good, wrong, pool=CHECKED)
    scene.proxy.wait_for_log(f"backend out/{good.address} is up (was unknown): L6OK")
    scene.proxy.wait_for_log(
        f"backend out/{wrong.address} is down (was unknown): L6RSP, 1 of 1 checks in a row failed: wrong_name: "
        "its certificate is not for 127.0.0.1 (rule=L14)"
    )
    assert scene.proxy.backend(wrong.address)["state"] == "down"
    assert scene.works()["retries"] == 0


def test_a_silent_backend_is_down(scene: Scene) -> None:
    silent = scene.serve_plain(peers.hold)
    scene.start(silent, pool=CHECKED)
    scene.proxy.wait_for_log(f"backend out/{silent.address} is down (was unknown): L6TOUT")


def test_without_tls_a_check_only_connects(scene: Scene) -> None:
    silent = scene.serve_plain(peers.hold)
    scene.start(silent, pool=CHECKED.replace("{", "{ tls = false,"))
    scene.proxy.wait_for_log(f"backend out/{silent.address} is up (was unknown): L4OK")


def test_a_check_speaks_over_tls(scene: Scene) -> None:
    def pong(conn: socket.socket) -> None:
        if conn.recv(6) == b"PING\r\n":
            conn.sendall(b"+PONG\r\n")
            peers.hold(conn)

    good, deaf = scene.serve(pong), scene.serve(peers.hold)
    check = CHECKED.replace("{", r'{ send = "PING\r\n", expect = "+PONG",')
    scene.start(good, deaf, pool=check)
    scene.proxy.wait_for_log(f"backend out/{good.address} is up (was unknown): L7OK")
    scene.proxy.wait_for_log(f"backend out/{deaf.address} is down (was unknown): L7TOUT")


def test_checks_follow_a_reload(scene: Scene) -> None:
    backend = scene.serve(peers.echo, scene.papers.server("app.example"))
    scene.start(backend, pool=CHECKED)
    scene.proxy.wait_for_log(f"backend out/{backend.address} is down (was unknown): L6RSP")
    scene.change(backend, pool=CHECKED, tls='server_name = "app.example"')
    scene.proxy.wait_for_log(f"backend out/{backend.address} is up (was down): L6OK")
    scene.change(backend, pool=CHECKED, tls=f'server_name = "app.example"\nca = "{scene.papers.stranger().ca}"')
    scene.proxy.wait_for_log(f"backend out/{backend.address} is down (was up): L6RSP")
    assert "checks in a row failed: unknown_ca" in scene.proxy.log


def test_checks_leave_sessions_something_to_resume(scene: Scene) -> None:
    backend = scene.serve(peers.echo)
    scene.start(backend, pool=CHECKED)
    scene.works()
    enough = backend.connections + 3
    until(lambda: backend.connections >= enough, "three more checks")
    assert scene.works()["backend_resumed"] is True
