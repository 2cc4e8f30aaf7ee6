"""The other ends where TLS is spoken: certificates as files, backends and clients on Python's ssl, openssl and HAProxy.

None of it uses a line of lbproxy or pyOpenSSL. A test module asks for the fixtures by importing them under their own
names, as in `from tests.live.tls_peers import authority_fixture as authority_fixture`, and then takes `authority`.
"""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.certificates.making import Authority, Issued, self_signed
from tests.live.harness import until
from tests.live.peers import PATIENCE, Backend, Script

Names = tuple[str, ...]
NEWEST, OLDER = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2


# Certificates.


@dataclass(frozen=True)
class Files:
    """A certificate with its chain, and its key, as paths; `issued` is what is in them."""

    cert: str
    key: str
    issued: Issued


class Papers:
    """An authority, and a directory in which what it issues is written. Every file has a name of its own."""

    def __init__(self, directory: Path, authority: Authority | None = None) -> None:
        self.directory = directory
        self.authority = authority or Authority()
        self._count = 0
        self._known: dict[str, Files] = {}
        self.ca = self.authority.write(directory, self._stem("ca"))

    def _stem(self, what: str) -> str:
        self._count += 1
        return f"{what}{self._count}"

    def issue(self, *names: str, **options: Any) -> Files:
        """A new certificate for these names; `options` are those of Authority.issue."""
        return self.write(self.authority.issue(*names, **options))

    def server(self, name: str = "127.0.0.1") -> Files:
        """A good certificate for `name`, always the same one."""
        if name not in self._known:
            self._known[name] = self.issue(name)
        return self._known[name]

    def write(self, issued: Issued) -> Files:
        """Put a certificate that was made elsewhere into files."""
        return Files(*issued.write(self.directory, self._stem("cert")), issued)

    def self_signed(self, *names: str) -> Files:
        """A certificate that vouches for itself."""
        return self.write(self_signed(*names))

    def crl(self, *revoked: Files, days: float = 30, now: datetime | None = None) -> str:
        """A revocation list in a file; with negative `days` it is out of date."""
        path = self.directory / f"{self._stem('crl')}.pem"
        path.write_bytes(self.authority.crl_pem(*(one.issued for one in revoked), now=now, days=days))
        return str(path)

    def stranger(self) -> Papers:
        """Another authority, which nobody knows, with its files in the same place."""
        directory = self.directory / self._stem("other")
        directory.mkdir()
        return Papers(directory, Authority("Another CA"))


# Connections.


class TlsSocket(socket.socket):
    """A connection with TLS, made of a connected socket, which it takes over.

    It differs from ssl.SSLSocket in that the ends of a TLS connection can be told apart and made: `shutdown` sends
    close_notify and FIN while reading goes on, `cut` sends FIN alone, `recv` gives b"" at close_notify and raises
    ssl.SSLEOFError at FIN without one. One thread may read while another one writes.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        timeout, family, kind = sock.gettimeout(), sock.family, sock.type
        super().__init__(family, kind, fileno=sock.detach())
        self.settimeout(timeout)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_name, session=session
        )
        self._read_ahead = b""
        self._ended = False
        self._openssl = threading.Lock()
        self._order = threading.Lock()

    def handshake(self) -> TlsSocket:
        """The whole handshake; returns itself. Raises ssl.SSLError (the alert has been sent), OSError."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return self

    def client_hello(self) -> bytes:
        """The first bytes of a client's handshake, which are then for the caller to send."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def recv(self, size: int = 65536, flags: int = 0) -> bytes:
        """See the class."""
        while True:
            try:
                with self._openssl:
                    if self._read_ahead:
                        data, self._read_ahead = self._read_ahead[:size], self._read_ahead[size:]
                    else:
                        data = self.tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            else:
                return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it."""
        view = memoryview(data)
        with self._order:
            while view:
                with self._openssl:
                    sent = self.tls.write(view[: 1 << 16])
                    ready = self._out.read()
                super().sendall(ready)
                view = view[sent:]

    def send(self, data: Any, flags: int = 0) -> int:
        """As sendall."""
        self.sendall(data)
        return len(data)

    def send_close_notify(self) -> None:
        """Say that nothing more will be sent; no FIN. A second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        with self._order:
            with self._openssl:
                # What has been received must be read before: OpenSSL looks for the answer at once.
                with contextlib.suppress(ssl.SSLError):
                    while data := self.tls.read(65536):
                        self._read_ahead += data
                with contextlib.suppress(ssl.SSLError):
                    self.tls.unwrap()
                ready = self._out.read()
            super().sendall(ready)

    def shutdown(self, how: int) -> None:
        """The orderly end of our half: close_notify, then FIN."""
        if how != socket.SHUT_RD:
            self.send_close_notify()
        super().shutdown(how)

    def cut(self) -> None:
        """FIN without close_notify, which is what an attacker between can do as well."""
        self._ended = True
        super().shutdown(socket.SHUT_WR)

    def send_plain(self, data: bytes) -> None:
        """Bytes past TLS."""
        super().sendall(data)

    @property
    def resumed(self) -> bool:
        """Whether an earlier TLS session was taken up."""
        return bool(self.tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession:
        """What can be taken up again; in TLS 1.3 only after something was received behind the handshake."""
        session = self.tls.session
        assert session is not None
        return session

    @property
    def peer(self) -> Names:
        """The names in the certificate of the other side, if that was verified."""
        found = self.tls.getpeercert() or {}
        alternative: Any = found.get("subjectAltName", ())
        subject: Any = found.get("subject", ())
        return tuple(name for _, name in alternative) or tuple(pair[0][1] for pair in subject)

    def _flush(self) -> None:
        if self._out.pending:
            with self._order:
                with self._openssl:
                    ready = self._out.read()
                super().sendall(ready)

    def _fill(self) -> None:
        data = super().recv(65536)
        with self._openssl:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()


def server_context(
    files: Files,
    *,
    client_ca: str | None = None,
    alpn: Sequence[str] = (),
    least: ssl.TLSVersion = OLDER,
    most: ssl.TLSVersion = NEWEST,
    tickets: bool = True,
) -> ssl.SSLContext:
    """What a backend serves. With `client_ca` clients must show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = least, most
    context.load_cert_chain(files.cert, files.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def client_context(
    *,
    ca: str | None = None,
    cert: Files | None = None,
    alpn: Sequence[str] = (),
    least: ssl.TLSVersion = OLDER,
    most: ssl.TLSVersion = NEWEST,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """What a client trusts and shows; without `ca` it trusts anybody. A session is taken up again in its context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = least, most
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(ca)
    if cert is not None:
        context.load_cert_chain(cert.cert, cert.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ciphers is not None:
        context.set_ciphers(ciphers)
    return context


def tls_client(
    port: int,
    *,
    host: str = "127.0.0.1",
    server_name: str | None = None,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    timeout: float = PATIENCE,
    handshake: bool = True,
    before: bytes = b"",
    **options: Any,
) -> TlsSocket:
    """A connected client, its handshake done. `before` goes in front of it, as a PROXY header does.

    `options` are those of `client_context`, unless a `context` is given. With a `ca` the name in the certificate is
    verified: `server_name`, else `host`.
    """
    made = context or client_context(**options)
    name = server_name or (host if made.check_hostname else None)
    sock = socket.create_connection((host, port), timeout)
    try:
        if before:
            sock.sendall(before)
        client = TlsSocket(sock, made, server_name=name, session=session)
    except BaseException:
        sock.close()
        raise
    if not handshake:
        return client
    try:
        return client.handshake()
    except BaseException:
        client.close()
        raise


# Backends.


@dataclass(frozen=True)
class Seen:
    """What a backend learnt in a handshake. `before` is what came in front of it, `error` why there was none."""

    server_name: str | None
    version: str = ""
    alpn: str | None = None
    resumed: bool = False
    client: Names = ()
    before: bytes = b""
    error: str = ""


class TlsBackend(Backend):
    """A scripted backend that speaks TLS; each connection follows `script` once its handshake is done, and ends in
    order unless the script has ended it otherwise.

    `next_seen` waits for what the next handshake told; `context` may be exchanged between connections. `header` is how
    many bytes there are in front of the ClientHello.
    """

    def __init__(self, script: Script, context: ssl.SSLContext, *, header: int = 0, **options: Any) -> None:
        self.context = context
        self._then = script
        self._header = header
        self._seen: queue.Queue[Seen] = queue.Queue()
        super().__init__(self._shake, **options)

    def _shake(self, conn: socket.socket) -> None:
        before = b""
        while len(before) < self._header and (data := conn.recv(self._header - len(before))):
            before += data
        asked: list[str | None] = []
        context = self.context
        context.sni_callback = lambda _, name, __: asked.append(name)
        with TlsSocket(conn.dup(), context, server_side=True) as tls:
            tls.settimeout(PATIENCE)
            try:
                tls.handshake()
            except OSError as problem:
                self._seen.put(Seen(asked[0] if asked else None, before=before, error=str(problem)))
                raise
            self._seen.put(
                Seen(
                    asked[0] if asked else None,
                    tls.tls.version() or "",
                    tls.tls.selected_alpn_protocol(),
                    tls.resumed,
                    tls.peer,
                    before,
                )
            )
            self._then(tls)
            tls.send_close_notify()

    @property
    def shaken(self) -> int:
        """How many handshakes have ended and were not asked for with `next_seen` yet."""
        return self._seen.qsize()

    def next_seen(self) -> Seen:
        """What the next handshake told, in the order of their ends."""
        return self._seen.get(timeout=PATIENCE)


def gives_notice(say: bytes = b"") -> Script:
    """A script: say this, then end in order, and read to the end."""

    def run(conn: socket.socket) -> None:
        conn.sendall(say)
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(65536):
            pass

    return run


def cuts_off(say: bytes = b"") -> Script:
    """A script: say this, then FIN without close_notify, and read to the end."""

    def run(conn: socket.socket) -> None:
        assert isinstance(conn, TlsSocket)
        conn.sendall(say)
        conn.cut()
        while conn.recv(65536):
            pass

    return run


# Other programs.


def s_client(port: int, *options: str, host: str = "127.0.0.1", say: bytes = b"", timeout: float = PATIENCE) -> str:
    """What `openssl s_client` prints, both channels in one, after it said `say` and its input ended."""
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", *options]
    done = subprocess.run(
        command, input=say, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
    )
    return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def s_server(files: Files, *options: str) -> Iterator[int]:
    """`openssl s_server` that sends each line back reversed (`-rev`), unless `options` say otherwise; its port."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", files.cert, "-key", files.key]
    command += list(options or ("-rev",))
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # Or it would wait for somebody to read what it prints.
    rest = threading.Thread(target=process.stdout.read, daemon=True)
    try:
        found = next(filter(None, (re.search(rb"ACCEPT .*:(\d+)", line) for line in process.stdout)), None)
        assert found is not None, "openssl s_server listens"
        rest.start()
        yield int(found[1])
    finally:
        process.kill()
        process.wait(PATIENCE)
        if rest.is_alive():
            rest.join(PATIENCE)
        process.stdin.close()
        process.stdout.close()


@contextlib.contextmanager
def haproxy(directory: Path, port: int, bind: str, files: Files, *, to: int, server: str = "") -> Iterator[None]:
    """HAProxy on a `port` of ours, before `to`.

    `bind` are words of its bind line, where {pem} stands for the certificate; `server` are those of its server line.
    """
    pem = directory / f"haproxy-{port}.pem"
    pem.write_bytes(files.issued.certificate_pem + files.issued.key_pem)
    config = directory / f"haproxy-{port}.cfg"
    config.write_text(
        f"""
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend in
    bind 127.0.0.1:{port} {bind.replace("{pem}", str(pem))}
    default_backend out
backend out
    server one 127.0.0.1:{to} {server}
"""
    )
    process = subprocess.Popen(
        ["haproxy", "-db", "-q", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        until(lambda: process.poll() is not None or _listens(port), "HAProxy listens")
        assert process.poll() is None, process.stderr.read().decode()
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stderr.close()


def _listens(port: int) -> bool:
    wanted = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


# Fixtures; see the module.


@pytest.fixture(name="authority", scope="session")
def authority_fixture(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """An authority for all tests of the run."""
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(name="tls_backend")
def tls_backend_fixture(stack: ExitStack) -> Callable[..., TlsBackend]:
    """Starts a backend; the arguments are those of TlsBackend, or `Files` in place of the context."""

    def begin(script: Script, serves: ssl.SSLContext | Files, **options: Any) -> TlsBackend:
        context = server_context(serves) if isinstance(serves, Files) else serves
        server = TlsBackend(script, context, **options)
        stack.callback(server.stop)
        return server

    return begin


@pytest.fixture(name="way", params=["socket", "memory"])
def way_fixture(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each test twice: with OpenSSL on the socket, and the portable way. The environment for `start`."""
    return {} if request.param == "socket" else {"LBPROXY_TLS": "memory"}
