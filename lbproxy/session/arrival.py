"""A client that has arrived: from its acceptance until all is known that its opening tells.

Owns what every session begins with (who it is, through which gate it came, PROXY header, ClientHello, TLS) and the
few ways in which it may end before it has begun. What follows is told by `proceed`: a relay chooses its route, an HTTP
conversation waits for requests. What comes before that is read in `session/opening.py`.
"""

from __future__ import annotations

from lbproxy import errors
from lbproxy.errors import Outcome
from lbproxy.model import Timeouts
from lbproxy.preamble import ClientHello, HeaderReader, HelloReader, ProxyHeader
from lbproxy.session.opening import begin as begin_opening
from lbproxy.session.opening import opening_arrived
from lbproxy.session.phases import CONNECT, HANDSHAKE, HEADER, HELLO, OVER
from lbproxy.session.seams import ClientSide, Gate, World
from lbproxy.session.secured import TlsFacts

_DEFAULTS = Timeouts()

Endpoint = tuple[str, int]


class Arrival:
    """One client's connection. Times are monotonic seconds; -1.0 where a phase was never reached.

    `peer` is the socket's address, `source` the client's (the same unless a PROXY header told otherwise),
    `local` the address that was connected to; ports are 0 and hosts "" for UNIX sockets.
    """

    __slots__ = (
        "admitted",
        "client",
        "gate",
        "header",
        "hello",
        "hello_began",
        "hello_reader",
        "id",
        "local",
        "opening",
        "outcome",
        "peer",
        "phase",
        "reader",
        "rule",
        "slot",
        "source",
        "started",
        "timeouts",
        "timer",
        "tls",
        "tls_error",
        "world",
    )

    def __init__(self, world: World, gate: Gate, peer: Endpoint, local: Endpoint, now: float) -> None:
        self.world = world
        self.gate = gate
        self.opening = gate.opening
        self.peer = peer
        self.source = peer
        self.local = local
        self.started = now
        self.admitted: str | None = None
        self.client: ClientSide | None = None
        self.id = ""
        self.phase = CONNECT
        self.outcome: Outcome = errors.OK
        self.timer = ""
        self.rule = ""
        self.slot = -1
        self.timeouts = _DEFAULTS
        self.reader: HeaderReader | None = None
        self.header: ProxyHeader | None = None
        self.hello_reader: HelloReader | None = None
        self.hello: ClientHello | None = None
        self.hello_began = -1.0
        self.tls: TlsFacts | None = None
        self.tls_error = ""

    # What subclasses say.

    def proceed(self) -> None:
        """All is known that the opening tells; the client's bytes come from here on."""
        raise NotImplementedError

    def expire(self, now: float) -> float | None:
        """See net/wheel.py: act on what is due, tell when to be asked again."""
        raise NotImplementedError

    def over(self, outcome: Outcome, *, reset: bool = False, gently: bool = False) -> None:
        """Close everything, give everything back, write the record. Nothing happens to a session after this.

        `reset` cuts, `gently` lets the client hear what it was told.
        """
        raise NotImplementedError

    @property
    def holds(self) -> int:
        """Bytes that this session makes the process hold."""
        raise NotImplementedError

    # Beginning.

    def begin(self, client: ClientSide) -> None:
        """Start with an accepted `client`, admitted already unless a PROXY header comes first and tells who asks for
        admission.
        """
        self.client = client
        if self.opening.plain:
            self.admitted = self.peer[0]
            self.proceed()
        else:
            begin_opening(self, client)

    def arrived(self) -> None:
        """The client sent bytes while no backend was joined; they are kept by its side."""
        if self.phase in (HEADER, HELLO) and self.client is not None:
            opening_arrived(self, self.client)

    def refuse_handshake(self, word: str, message: str, answer: bytes) -> None:
        """The client is turned away before OpenSSL hears of it; `answer` tells it why."""
        client = self.client
        assert client is not None  # nobody else is asked to be refused
        client.take_kept()
        if answer:
            client.write(answer)
        self.handshake_failed(word, message)

    def handshake_failed(self, word: str, message: str) -> None:
        """TLS with the client came to nothing."""
        self.tls_error = word
        self.gate.handshake_ended(self, word, message)
        self.over(errors.TLS_HANDSHAKE, gently=True)

    def gave_way(self) -> None:
        """The client let us wait within its handshake while others waited for their turn."""
        self.time_out("tls_handshake", errors.TLS_HANDSHAKE_TIMEOUT)

    def secured(self, facts: TlsFacts) -> None:
        """TLS with the client stands."""
        self.tls = facts
        self.gate.handshake_ended(self, "resumed" if facts.resumed else "full", "")
        self.proceed()

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for, None when it named none."""
        if self.hello is not None:
            return self.hello.server_name
        return None if self.header is None else self.header.authority

    @property
    def agreed(self) -> bool:
        """Whether `protocols` is what client and proxy have agreed on, not just an offer."""
        return self.tls is not None or self.hello is None

    @property
    def protocols(self) -> tuple[bytes, ...]:
        """The protocols that routes go by: the one agreed on, else those that are offered."""
        if self.tls is not None:
            return (self.tls.alpn.encode("ascii", "backslashreplace"),) if self.tls.alpn else ()
        if self.hello is not None:
            return self.hello.alpn
        return (self.header.alpn,) if self.header is not None and self.header.alpn else ()

    def unique_id(self) -> str:
        """The name of this session, the same in its record and in what backends are told."""
        if not self.id:
            self.id = self.world.new_id()
        return self.id

    # The end.

    def time_out(self, timer: str, outcome: Outcome) -> None:
        """A deadline has passed: end, and let the record name the timer."""
        self.timer = timer
        self.over(outcome)

    def kill(self, outcome: Outcome) -> None:
        """End now, with a reset: nobody may take a cut stream for a whole one."""
        if self.phase != OVER:
            self.over(outcome, reset=True)

    def broken(self, problem: BaseException) -> None:
        """A fault of ours: this session ends, no other does."""
        self.world.fault(problem)
        self.kill(errors.INTERNAL)

    def breaks_rules(self, word: str, message: str) -> None:
        """The client's TLS was cut for `word`."""
        self.tls_error = word
        if word == "control_flood":
            self.rule = "L8"
        self.gate.complain(self, word, message)

    def opening_ended(self, outcome: Outcome) -> None:
        """The session ends within its opening: count a handshake that was never completed."""
        if self.phase in (HELLO, HANDSHAKE) and self.opening.tls and not self.tls_error:
            gone = outcome is errors.CLIENT_GONE_IN_HEADER
            self.tls_error = "timeout" if self.timer else "client_gone" if gone else "cut"
            self.gate.handshake_ended(self, self.tls_error, "")
