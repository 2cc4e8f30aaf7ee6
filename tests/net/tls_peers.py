"""The other end of a TLS connection: Python's own `ssl`, whose ciphertext is in the test's hand.

Another library with another OpenSSL in it than the one that is tested. Nothing here blocks: bytes move when a test
says so.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lbproxy.certificates import Pair, load_pair
from lbproxy.model_tls import CertificateSettings
from lbproxy.net.tls import binding
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.socket_channel import SocketChannel
from tests.certificates.making import Authority, Issued

WAYS = [
    pytest.param(MemoryChannel, id="memory"),
    pytest.param(
        SocketChannel,
        id="socket",
        marks=pytest.mark.skipif(not binding.AVAILABLE, reason="the binding lacks what the fast way needs"),
    ),
]
NAME = "a.example"


@cache
def authority() -> Authority:
    """Everybody's authority; one for all tests, since making keys takes time."""
    return Authority()


def issued(*names: str, kind: Any = "ECDSA") -> Issued:
    """The certificate for these names, else for NAME; the same one whenever it is asked for."""
    return _issued(names or (NAME,), kind)


@cache
def _issued(names: tuple[str, ...], kind: Any) -> Issued:
    return authority().issue(*names, kind=kind)


def pair_of(one: Issued) -> Pair:
    """As it is read from a file."""
    with TemporaryDirectory() as directory:
        path, key = one.write(directory)
        return load_pair(CertificateSettings(path, key))


def client_ssl(**rest: Any) -> ssl.SSLContext:
    """A client that trusts our authority; see `_set` for the rest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority().pem.decode())
    return _set(context, **rest)


def server_ssl(one: Issued | None = None, **rest: Any) -> ssl.SSLContext:
    """A server that serves `one`, else the certificate for NAME."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:
        context.load_cert_chain(*(one or issued()).write(Path(directory)))
    return _set(context, **rest)


def _set(
    context: ssl.SSLContext,
    *,
    least: ssl.TLSVersion | None = None,
    most: ssl.TLSVersion | None = None,
    ciphers: str = "",
    alpn: tuple[str, ...] = (),
) -> ssl.SSLContext:
    with warnings.catch_warnings():
        # It warns of old versions; to see them refused somebody must offer them.
        warnings.simplefilter("ignore", DeprecationWarning)
        if least is not None:
            context.minimum_version = least
        if most is not None:
            context.maximum_version = most
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsPeer:
    """A TLS connection of Python's over a non-blocking socket, or over none.

    `take` and `give` move ciphertext from and to TLS by hand; `pump` moves what the socket has and takes.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        sock: socket.socket | None = None,
        *,
        server: bool = False,
        name: str | None = NAME,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context.check_hostname = context.check_hostname and name is not None
        self.tls = context.wrap_bio(
            self._in, self._out, server_side=server, server_hostname=None if server else name, session=session
        )
        self.unsent = b""
        self.got = bytearray()
        self.established = False
        self.closed = False  # close_notify came
        self.fin = False

    # Ciphertext.

    def take(self) -> bytes:
        """What TLS wants sent."""
        return self._out.read()

    def give(self, data: bytes) -> None:
        """Ciphertext that came."""
        self._in.write(data)

    def shake(self) -> bool:
        """Go on with the handshake as far as it goes."""
        if not self.established:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.established = True
        return True

    def read(self) -> None:
        """Decrypt what is there, into `got`. Raises ssl.SSLError."""
        while not self.closed:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self.closed = True
            self.got += data

    def encrypted(self, data: bytes) -> bytes:
        """Records of this, to be sent by hand."""
        at = 0
        while at < len(data):
            at += self.tls.write(data[at:])
        return self.take()

    def goodbye(self) -> bytes:
        """The record of close_notify, to be sent by hand."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.take()

    # The socket.

    def flush(self) -> bool:
        """Send what waits; whether nothing is left."""
        assert self.sock is not None
        self.unsent += self.take()
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return False
        return True

    def pull(self) -> None:
        """Take what the socket has, as far as it goes."""
        assert self.sock is not None
        while not self.fin:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            if not data:
                self.fin = True
                self._in.write_eof()
            else:
                self.give(data)

    def pump(self) -> bool:
        """Everything that can be done now; whether the handshake is over."""
        self.pull()
        done = self.shake()
        if done:
            self.read()
        self.flush()
        return done

    def send(self, data: bytes) -> None:
        """Encrypt and send as far as the socket takes it; `pump` sends the rest."""
        self.unsent += self.encrypted(data)
        self.flush()
