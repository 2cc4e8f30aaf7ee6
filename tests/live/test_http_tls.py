"""HTTP on TLS: clients by https, backends by TLS, both at once; a sample of each theme, and what only TLS brings."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.live.http_peers import Answer, RawClient, chunked, http_listener, http_pool, request, upgraded
from tests.live.http_scripts import OK, Live, Pushing, Recording, all_at_once, blocks, digest, large, rest_of, upload
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE
from tests.live.tls_peers import Papers, TlsBackend, TlsSocket, client_context, server_context
from tests.live.tls_peers import authority_fixture as authority_fixture

SITE = "lbproxy.test"


class Site:
    """A listener with TLS before a pool in clear, or with TLS as well."""

    def __init__(self, live: Live, papers: Papers, *, inner: bool = False) -> None:
        self.live = live
        self.papers = papers
        self.inner = inner
        self.context = client_context(ca=papers.ca)

    def serve(self, *backends: object, listener: str = "", tls: str = "", pool: str = "", more: str = "") -> int:
        """Go over to this; `tls` are further keys of the listener's TLS."""
        files = self.papers.server(SITE)
        self.live.port = self.live.ports.reserve()
        if self.inner:
            pool += f'\ntls = {{ ca = "{self.papers.ca}" }}'
        text = http_listener(self.live.port, more=f'pool = "out"\n{listener}')
        text += f'[listener.tls]\ncert = "{files.cert}"\nkey = "{files.key}"\n{tls}\n'
        return self.live.serve_text(text + http_pool("out", *backends, more=pool) + more)

    def recording(self, answers: object = None, **options: object) -> Recording:
        """A backend that speaks what the pool does."""
        if self.inner:
            options["tls"] = server_context(self.papers.server())
        return self.live.recording(answers, **options)

    def client(self, name: str | None = SITE, context: ssl.SSLContext | None = None) -> RawClient:
        """A client with its handshake done."""
        sock = socket.create_connection(("127.0.0.1", self.live.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = TlsSocket(sock, context or self.context, server_name=name).handshake()
        self.live.stack.callback(tls.close)
        return RawClient(sock=tls)


@pytest.fixture(params=[False, True], ids=["clear behind", "TLS behind"])
def site(request: pytest.FixtureRequest, live: Live, authority: Papers) -> Site:
    """Both kinds."""
    return Site(live, authority, inner=request.param)


class TestBothSides:
    def test_requests_follow_each_other(self, site: Site) -> None:
        backend = site.recording({"/chunks": Answer(body=b"c" * 50_000, framing="chunked", piece=777)})
        site.serve(backend.address)
        client = site.client()
        for _ in range(3):
            assert client.ask().body == b"ok"
            assert client.ask(b"POST", body=b"x" * 100_000).status == 200
            assert client.ask(b"HEAD").body == b""
            assert client.ask(target=b"/chunks").body == b"c" * 50_000
        client.send(request() * 20)
        assert [client.answer().status for _ in range(20)] == [200] * 20
        asked = backend.wait_for(32)
        assert {one.connection for one in asked} == {1}
        assert {one.get(b"x-forwarded-proto") for one in asked} == {b"https"}
        record = site.live.records(32)[0]
        assert (record["outcome"], record["tls"][:3], record["sni"]) == ("ok", "TLS", SITE)

    def test_bodies_both_ways(self, site: Site) -> None:
        backend = site.recording(lambda asked: large(3_000_000, framing="chunked" if asked.path == "/c" else "length"))
        site.serve(backend.address)

        def go() -> None:
            client = site.client()
            for target in (b"/", b"/c"):
                upload(client, request(b"PUT", target, ((b"Content-Length", b"2000000"),)), 2_000_000)
                assert hashlib.sha256(client.answer().body).hexdigest() == digest(3_000_000)

        all_at_once([go] * 3)
        assert {asked.digest for asked in backend.wait_for(6)} == {digest(2_000_000)}

    def test_byte_by_byte_and_in_one_record(self, site: Site) -> None:
        """Scenarios 56 and 57: a record for each byte, and many requests in one record"""
        backend = site.recording(default=Answer(body=b"answer" * 30, piece=1, framing="chunked"))
        site.serve(backend.address)
        client = site.client()
        body = chunked(b"abc", b"d" * 20)
        whole = request(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), body) + request()
        client.send_bytewise(whole)
        client.send(whole * 5)
        assert [client.answer().body for _ in range(12)] == [b"answer" * 30] * 12
        assert [asked.size for asked in backend.wait_for(12)] == [23, 0] * 6

    def test_the_keep_alive_race_and_early_answers(self, site: Site) -> None:
        backend = site.recording({"/big": Answer(413, body=b"no", early=True, end="close")}, most=2, idle=0.02)
        site.serve(backend.address, pool="outlier = false")
        for _ in range(5):
            client = site.client()
            for _ in range(5):
                assert client.ask().status == 200
            client.send(request(b"POST", b"/big", ((b"Content-Length", b"5000000"),)))
            sending = Pushing(client, blocks(5_000_000))
            assert client.answer().status == 413
            sending.hang_up()

    def test_a_slow_reader_keeps_memory_flat(self, site: Site) -> None:
        backend = site.recording(default=large(60_000_000))
        site.serve(backend.address)
        before = site.live.proxy.resident_bytes()
        client = site.client()
        client.send(request())
        found, most = hashlib.sha256(), 0
        assert b"\r\n\r\n" in _head(client)
        for _ in range(5):
            found.update(client.take(1000))
            time.sleep(0.05)
            most = max(most, site.live.proxy.resident_bytes())
        left = 60_000_000 - 5000
        while left:
            data = client.take(min(left, 1 << 18))
            assert data
            found.update(data)
            left -= len(data)
        assert found.hexdigest() == digest(60_000_000)
        assert max(most, site.live.proxy.resident_bytes()) - before < 10_000_000

    def test_a_tunnel(self, site: Site) -> None:
        backend = site.recording(default=upgraded())
        site.serve(backend.address)
        client = site.client()
        client.send(request(fields=((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))) + b"early")
        assert client.answer(upgrade=True).status == 101
        assert client.take(5) == b"early"
        body = b"".join(blocks(3_000_000))
        sending = threading.Thread(target=client.sock.sendall, args=(body,))
        sending.start()
        assert client.take(len(body)) == body
        sending.join(PATIENCE)
        client.sock.close()

    def test_a_cut_body_is_seen(self, site: Site) -> None:
        """B5: reset, not a close_notify behind the fragment"""
        backend = site.recording(default=Answer(body=b"x" * 100_000, cut=90_000))
        site.serve(backend.address, pool="outlier = false")
        client = site.client()
        client.send(request())
        with pytest.raises((ConnectionError, ssl.SSLError)):
            while client.sock.recv(65_536):
                pass

    def test_a_client_that_leaves_frees_everything(self, site: Site) -> None:
        backend = site.recording(default=large(50_000_000))
        site.serve(backend.address)
        client = site.client()
        client.send(request())
        assert client.take(1000)
        client.sock.close()
        assert site.live.record()["outcome"] == "client_gone"


class TestListener:
    def test_an_orderly_close_has_a_close_notify(self, live: Live, authority: Papers) -> None:
        site = Site(live, authority)
        site.serve(live.recording().address)
        client = site.client()
        assert client.ask(fields=((b"Connection", b"close"),)).status == 200
        assert client.sock.recv(1) == b"", "b'' is close_notify; FIN alone would raise"

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_curl(self, live: Live, authority: Papers, tmp_path: Path) -> None:
        site = Site(live, authority)
        port = site.serve(live.recording(default=large(1_000_000)).address, listener="http = { hsts = '1h' }")
        base = ["curl", "-sS", "--cacert", authority.ca, "--connect-to", f"{SITE}:{port}:127.0.0.1:{port}"]
        done = subprocess.run(
            [*base, "-D", str(tmp_path / "head"), f"https://{SITE}:{port}/", f"https://{SITE}:{port}/"],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        assert done.stdout == b"".join(blocks(1_000_000)) * 2
        assert (tmp_path / "head").read_text().count("Strict-Transport-Security: max-age=3600") == 2

    def test_http_on_the_tls_port_gets_no_traceback(self, live: Live, authority: Papers) -> None:
        """L10"""
        site = Site(live, authority)
        site.serve(live.recording().address)
        with live.client() as client:
            client.send(request())
            wire, _ = rest_of(client.sock)
            assert not wire.startswith(b"HTTP/1.1 200")

    def test_the_cookie_is_secure_and_clear_is_redirected(self, live: Live, authority: Papers) -> None:
        site = Site(live, authority)
        clear = live.ports.reserve()
        redirect = http_listener(clear, name="clear", more="http = { redirect_https = true }")
        site.serve(live.recording().address, pool='sticky = "cookie"', more=redirect)
        answer = site.client().ask()
        assert b"; Secure" in (answer.get(b"set-cookie") or b"")
        with RawClient(clear) as client:
            answer = client.ask(target=b"/a?b=c")
            assert (answer.status, answer.get(b"location")) == (308, b"https://lbproxy.test/a?b=c")

    def test_the_certificate_of_a_client_is_told_and_not_believed(self, live: Live, authority: Papers) -> None:
        site = Site(live, authority)
        backend = live.recording()
        site.serve(backend.address, listener="http = { client_cert = true }", tls=f'client_ca = "{authority.ca}"')
        mine = authority.issue(subject="me", client=True)
        client = site.client(context=client_context(ca=authority.ca, cert=mine))
        lies = (
            (b"Client-Cert", b"falsehood"),
            (b"X-Client-Cert-Subject", b"falsehood"),
            (b"X_Client_Cert_Verify", b"falsehood"),
        )
        assert client.ask(fields=lies).status == 200
        (asked,) = backend.wait_for(1)
        assert b"falsehood" not in asked.head
        assert asked.get(b"x-client-cert-subject") == b"CN=me"


class TestBackends:
    def test_a_wrong_certificate_is_a_502(self, live: Live, authority: Papers) -> None:
        """L14"""
        backend = live.recording(tls=server_context(authority.stranger().server()))
        live.serve(backend.address, pool=f'outlier = false\ntls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            for method in (b"GET", b"POST"):
                answer = client.ask(method)
                assert answer.status == 502
                assert b"tls" in (answer.get(b"proxy-status") or b"")
        assert {record["outcome"] for record in live.records(2)} == {"backend_tls"}
        assert backend.requests == []
        backend.faults.clear()

    def test_a_backend_without_tls_is_a_502(self, live: Live, authority: Papers) -> None:
        backend = live.evil((0.05, OK))
        live.serve(backend.address, pool=f'outlier = false\ntls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            assert client.ask().status == 502

    @pytest.mark.parametrize("polite", [True, False])
    def test_a_body_that_ends_with_the_connection_needs_a_close_notify(
        self, live: Live, authority: Papers, polite: bool
    ) -> None:
        """L15, scenario 11"""

        def serve(conn: socket.socket) -> None:
            assert isinstance(conn, TlsSocket)
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += conn.recv(65536)
            conn.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            if polite:
                conn.send_close_notify()
            else:
                conn.cut()

        backend = TlsBackend(serve, server_context(authority.server()))
        live.stack.callback(backend.stop)
        live.serve(backend.address, pool=f'outlier = false\ntls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            if polite:
                assert client.ask().body == b"all of it"
            else:
                client.send(request())
                wire, was_reset = rest_of(client.sock)
                assert was_reset
                assert not wire.endswith(b"0\r\n\r\n")
        assert live.record()["outcome"] == ("ok" if polite else "backend_cut")

    def test_connections_are_kept_apart_by_their_tls(self, live: Live, authority: Papers) -> None:
        """L16: the same backend in two pools, with and without verification"""
        context = server_context(authority.server())
        backend = live.recording(tls=context)
        live.port = live.ports.reserve()
        route = '[[route]]\nlistener = "in"\npath = "/other"\npool = "other"\n'
        text = http_listener(live.port, more='pool = "out"') + route
        text += http_pool("out", backend.address, more=f'tls = {{ ca = "{authority.ca}" }}')
        text += http_pool("other", backend.address, more="tls = { verify = false }")
        live.serve_text(text)
        with live.client() as client:
            for target in (b"/", b"/other") * 3:
                assert client.ask(target=target).status == 200
        by_path: dict[bytes, set[int]] = {}
        for asked in backend.wait_for(6):
            by_path.setdefault(asked.target, set()).add(asked.connection)
        assert by_path[b"/"].isdisjoint(by_path[b"/other"])
        assert all(len(connections) == 1 for connections in by_path.values())


def _head(client: RawClient) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.take(1)
    return head
