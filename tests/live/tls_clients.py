"""Clients of TLS listeners: what they ask, what they were served with, and how they were refused."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypedDict

from tests.certificates.making import Authority, Issued
from tests.live.peers import PATIENCE, connect, read_all, read_exactly
from tests.live.tls_peers import TlsSocket

WAYS = ("fast", "memory")


def environment(way: str) -> dict[str, str]:
    """What makes lbproxy go this way with TLS."""
    return {"LBPROXY_TLS": "memory" if way == "memory" else ""}


def trusting(
    authority: Authority,
    *,
    certificate: Issued | None = None,
    alpn: Sequence[str] = (),
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "",
) -> ssl.SSLContext:
    """What a client goes by who trusts `authority`; names are not judged, tests look at certificates themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.pem.decode())
    context.minimum_version, context.maximum_version = least, most
    # Where a stream ends without close_notify, that is what a test wants to see.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if certificate is not None:
        show(context, certificate)
    return context


class Versions(TypedDict):
    """The least and the newest version that a client speaks."""

    least: ssl.TLSVersion
    most: ssl.TLSVersion


def only(version: str) -> Versions:
    """The arguments of `trusting` for one version, "1.2" or "1.3"."""
    number = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    return {"least": number, "most": number}


def show(context: ssl.SSLContext, certificate: Issued) -> None:
    """Let whoever goes by `context` show this certificate; the key goes through a file that nobody else sees."""
    descriptor = os.memfd_create("client")
    try:
        os.write(descriptor, certificate.certificate_pem + certificate.key_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class TlsClient(TlsSocket):
    """A TLS connection to `port` on loopback; nothing is sent until `handshake`, or by the test itself."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        name: str | None = None,
        *,
        session: ssl.SSLSession | None = None,
        receive_buffer: int = 0,
    ) -> None:
        sock = connect(port, receive_buffer=receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, context, server_name=name, session=session)

    def shake(self) -> Self:
        """The whole handshake. Raises ssl.SSLError for an alert, OSError for a lost connection."""
        self.handshake()
        return self

    @property
    def served(self) -> bytes:
        """The DER of the server's certificate."""
        return self.tls.getpeercert(binary_form=True) or b""

    def ask(self, question: bytes) -> bytes:
        """So many bytes as the question has: what an echo answers."""
        self.sendall(question)
        return read_exactly(self, len(question))

    def end(self) -> str:
        """Read to the end: "close_notify", "truncated", "reset", or what OpenSSL says of an alert."""
        try:
            read_all(self)
        except ssl.SSLEOFError:
            return "truncated"
        except ssl.SSLError as problem:
            return _reason(problem)
        except ConnectionError:
            return "reset"
        return "close_notify"


def _reason(problem: ssl.SSLError) -> str:
    # Python has no word for alerts that are younger than its tables.
    return (problem.reason or str(problem)).lower().replace("_", " ")


class Answer(NamedTuple):
    """What a client saw. `served` is the DER of the server's certificate."""

    data: bytes = b""
    served: bytes = b""
    alpn: str | None = None
    resumed: bool = False
    session: ssl.SSLSession | None = None


def ask_tls(
    port: int,
    context: ssl.SSLContext,
    name: str | None = None,
    *,
    question: bytes = b"question",
    session: ssl.SSLSession | None = None,
) -> Answer:
    """Ask an echo something and end in order."""
    with TlsClient(port, context, name, session=session) as client:
        data = client.shake().ask(question)
        found = Answer(data, client.served, client.tls.selected_alpn_protocol(), client.resumed, client.session)
        client.shutdown(socket.SHUT_WR)
        assert client.end() == "close_notify"
        return found


def refusal(
    port: int, context: ssl.SSLContext, name: str | None = None, *, session: ssl.SSLSession | None = None
) -> str:
    """Ask for TLS and nothing else; what the server's alert says. With TLS 1.3 it may come after our part is done."""
    with TlsClient(port, context, name, session=session) as client:
        try:
            client.shake()
        except ssl.SSLError as problem:
            return _reason(problem)
        except ConnectionError:
            return "reset"
        return client.end()


def hello_of(context: ssl.SSLContext, name: str | None = None) -> bytes:
    """A real ClientHello, in its record."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def alert_in(data: bytes) -> int | None:
    """The description of the alert in the clear at the front of `data`, None when there is none."""
    return data[6] if len(data) >= 7 and data[0] == 21 else None


def records_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole TLS records in `data`: type and content."""
    at = 0
    while at + 5 <= len(data):
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5])
        yield data[at], data[at + 5 : end]
        at = end


# The program openssl.


class OpenSsl:
    """`openssl s_client` with its input in our hands: it takes a line for a command only if it reads it alone."""

    def __init__(self, port: int, authority: Path, *options: str) -> None:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(authority), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self.said = self.everything = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def type(self, line: bytes) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    def hear(self, text: bytes) -> bool:
        """Wait until it has said `text`, and forget all up to there; False when it ended instead."""
        stream = self._process.stdout
        assert stream is not None
        deadline = time.monotonic() + PATIENCE
        while text not in self.said:
            readable, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"s_client does not say {text!r}, but {self.said[-500:]!r}"
            data = stream.read(65536)
            if not data:
                return False
            self.said += data
            self.everything += data
        self.said = self.said.partition(text)[2]
        return True

    def rest(self) -> bytes:
        """Everything that it says until it ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert not self.hear(b"\0 no program says this")
        return self.everything
