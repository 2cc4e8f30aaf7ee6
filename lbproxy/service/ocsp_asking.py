"""One question to an OCSP responder over HTTP (RFC 6960 appendix A), with bounds on time and size.

Refuses to know what is in question and answer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from lbproxy.service.ocsp_answers import OcspError
from lbproxy.service.ocsp_seams import Ask

SECONDS = 10.0
MOST_BYTES = 64 * 1024

_HEADERS = Headers({b"Content-Type": [b"application/ocsp-request"], b"Accept": [b"application/ocsp-response"]})


def asking(reactor: Any) -> Ask:
    """Asks by `reactor`; an answer that takes longer than SECONDS fails with twisted's TimeoutError."""
    agent = Agent(reactor, connectTimeout=SECONDS)

    def ask(url: str, request: bytes) -> Deferred[bytes]:
        try:
            asked: Deferred[Any] = agent.request(b"POST", url.encode("ascii"), _HEADERS, _Body(request))
        except ValueError:
            raise OcspError("the certificate names a responder by a URL that is none") from None
        return asked.addCallback(_body).addTimeout(SECONDS, reactor)

    return ask


@implementer(IBodyProducer)
class _Body:
    """A request that is written at once."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See IBodyProducer."""
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """See IBodyProducer: nothing is left by then."""

    def resumeProducing(self) -> None:
        """See IBodyProducer."""

    def stopProducing(self) -> None:
        """See IBodyProducer."""


def _body(response: IResponse) -> Deferred[bytes]:
    gathering = _Gathering()
    if response.code != 200:
        gathering.refuse(f"the responder answered with HTTP status {response.code}")
    response.deliverBody(gathering)
    return gathering.done


class _Gathering(Protocol):
    """Takes a body, as far as it is not too large; fires `done` once."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._over = False
        self.done: Deferred[bytes] = Deferred(lambda _: self._end())

    def connectionMade(self) -> None:
        """See IProtocol."""
        if self._over:
            self._end()

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        self._body += data
        if len(self._body) > MOST_BYTES:
            self.refuse(f"the answer is larger than {MOST_BYTES >> 10} KiB")

    def refuse(self, why: str) -> None:
        """Take no more."""
        if not self._over:
            self._end()
            self.done.errback(OcspError(why))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See IProtocol."""
        if self._over:
            return
        self._over = True
        # One without a length ends with its connection; whether it is whole is seen in its signature.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._body))
        else:
            self.done.errback(OcspError("the answer broke off"))

    def _end(self) -> None:
        self._over = True
        if self.transport is not None:
            self.transport.loseConnection()
