"""A CertificateService on a clock that is turned by hand, with what it says, and clients that shake hands in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import Logger

from lbproxy.addresses import Address
from lbproxy.model import Configuration, ListenerSettings, PoolSettings
from lbproxy.model_tls import CertificateSettings, TlsSettings
from lbproxy.net.tls.sites import Site, Sites
from lbproxy.preamble import ClientHello
from lbproxy.service import certificate_news, expiring, keylog, ocsp, watching
from lbproxy.service.certificates import CertificateService
from lbproxy.service.counters import Counters
from tests.certificates.making import Issued

T = TypeVar("T")


class Said:
    """What went to the log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[dict[str, Any]] = []
        observer: Any = self.events.append
        for owner in (
            certificate_news.News,
            expiring.Reminders,
            keylog.KeyLogs,
            ocsp.Stapler,
            watching.Watch,
        ):
            monkeypatch.setattr(owner, "log", Logger("lbproxy.test", observer=observer))

    def take(self, level: str) -> list[str]:
        """The lines of this level since the last time."""
        found = [event for event in self.events if event["log_level"].name == level]
        self.events[:] = [event for event in self.events if event["log_level"].name != level]
        return [str(event["log_format"]).format(**event) for event in found]


def at_once(call: Callable[[], T]) -> Deferred[T]:
    """Another thread that has all the time in the world."""
    return execute(call)


class Aside:
    """A thread that works when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, call: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self.waiting.append(lambda: execute(call).chainDeferred(done))
        return done

    def work(self) -> None:
        """Do all that waits."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one()


@dataclass
class Asked:
    """The OCSP responders of the world."""

    questions: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[Deferred[bytes]] = field(default_factory=list)

    def __call__(self, url: str, request: bytes) -> Deferred[bytes]:
        self.questions.append((url, request))
        answer: Deferred[bytes] = Deferred()
        self.answers.append(answer)
        return answer


class Place:
    """The service, its clock, its log, and what its listeners were told."""

    def __init__(self, said: Said, aside: Any = at_once, now: datetime | None = None) -> None:
        self.clock = Clock()
        self.said = said
        self.began = (now or datetime.now(UTC)).timestamp()
        self.asked = Asked()
        self.counters = Counters()
        self.swaps: list[Mapping[str, Sites]] = []
        self.service = CertificateService(
            self.clock,
            self.counters,
            self.swaps.append,
            wall=lambda: self.began + self.clock.seconds(),
            aside=aside,
            ask=self.asked,
        )

    def go(self, configuration: Configuration) -> None:
        """Start or reload."""
        self.service.commit(self.service.prepare(configuration))
        if not self.service.running:
            self.service.startService()

    def wait(self, seconds: float) -> None:
        """So much time passes, in small steps."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    def served(self, name: str, listener: str = "in") -> str:
        """The fingerprint of the certificate that a client gets who asks for this name."""
        return visit(self.site(name, listener)).fingerprint

    def site(self, name: str, listener: str = "in") -> Site:
        """What that client is served with."""
        site = self.service.sites[listener].choose(ClientHello(server_name=name, named=True))
        assert isinstance(site, Site)
        return site


@dataclass
class Visit:
    """What a client found: the certificate, and the OCSP response beside it."""

    fingerprint: str
    ocsp: bytes
    client: SSL.Connection


def visit(site: Site, shown: Issued | None = None) -> Visit:
    """A handshake in memory. Raises SSL.Error when it fails on either side."""
    stapled: list[bytes] = []
    trusting = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def note(_: SSL.Connection, response: bytes, __: object) -> bool:
        stapled.append(response)
        return True

    trusting.set_ocsp_client_callback(note)
    if shown is not None:
        trusting.use_certificate(shown.certificate)
        trusting.use_privatekey(shown.key)
    client, server = SSL.Connection(trusting, None), SSL.Connection(site.openssl, None)
    client.request_ocsp()
    client.set_connect_state()
    server.set_accept_state()
    server.set_app_data([])
    waiting = [client, server]
    while waiting:
        before = len(waiting)
        for one in list(waiting):
            try:
                one.do_handshake()
                waiting.remove(one)
            except SSL.WantReadError:
                pass
        moved = carry(client, server) + carry(server, client)
        assert moved or len(waiting) < before, "the handshake is stuck"
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return Visit(sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), b"".join(stapled), client)


def carry(source: SSL.Connection, target: SSL.Connection) -> int:
    """Bring over what one side has written."""
    try:
        data = source.bio_read(1 << 20)
    except SSL.WantReadError:
        return 0
    target.bio_write(data)
    return len(data)


def tls(*paths: Path | str, **rest: Any) -> TlsSettings:
    """A listener's TLS with certificates at these paths."""
    return TlsSettings(tuple(CertificateSettings(str(path)) for path in paths), **rest)


def configured(*pools: PoolSettings, **listeners: TlsSettings) -> Configuration:
    """Listeners by name with their TLS."""
    return Configuration(
        tuple(
            ListenerSettings(name, (Address("ip", "127.0.0.1", 1),), pool="web", tls=settings)
            for name, settings in listeners.items()
        ),
        pools or (PoolSettings("web", ()),),
    )


def put(path: Path | str, *parts: bytes) -> None:
    """Have another file at this path, at once, as a careful program does it."""
    fresh = Path(f"{path}.new")
    fresh.write_bytes(b"".join(parts))
    os.replace(fresh, path)


def renew(path: Path | str, issued: Issued) -> None:
    """Have this certificate and its key in the file."""
    put(path, issued.certificate_pem, issued.key_pem)


__all__ = ["Aside", "Place", "Said", "Visit", "at_once", "configured", "put", "renew", "tls", "visit"]
