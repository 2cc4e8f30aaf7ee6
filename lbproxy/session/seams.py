"""What a session needs of the world, as small interfaces: `net/` and `service/` fill them, tests play them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.compress.effort import Effort
from lbproxy.errors import Outcome
from lbproxy.model import Timeouts
from lbproxy.preamble import ClientHello
from lbproxy.routing import Route

if TYPE_CHECKING:
    from lbproxy.http.messages import RequestHead
    from lbproxy.routing.keys import KeyOf
    from lbproxy.session.account import Account
    from lbproxy.session.arrival import Arrival
    from lbproxy.session.conversation import Conversation
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.filling import Filling
    from lbproxy.session.http_seams import Front, HttpClientSide
    from lbproxy.session.mirroring import Copies
    from lbproxy.session.relay import Relay
    from lbproxy.session.seeking import Seeker
    from lbproxy.session.shared_cache import SharedCache
    from lbproxy.session.sticking import Sticking


class Side(Protocol):
    """A session's view of one connection.

    `bytes_in` counts what was read from it. `held` is what it was given and its kernel did not take yet; `dropped`
    is what was held when it was closed. `finished` turns True with the peer's FIN, `shut` with ours. `touched` is the
    coarse time of the last byte read from it, `moved` that of the last byte its kernel took while some were held.
    """

    bytes_in: int
    dropped: int
    finished: bool
    shut: bool
    touched: float
    moved: float

    @property
    def held(self) -> int:
        """Bytes that wait for this side's kernel to take them."""

    def finish(self) -> None:
        """Half-close once all that is held has been taken."""

    def close(self) -> None:
        """Close now; what is held is dropped. A second call changes nothing."""

    def abort(self) -> None:
        """Reset now; what is held is dropped. Nothing happens on a closed side."""

    def still_takes(self) -> bool:
        """Whether the peer has acknowledged bytes since this was asked last, during this stall; then `moved` is now."""

    def watch_over(self) -> None:
        """Have the kernel notice when the peer is gone without a word."""

    def stop_reading(self) -> None:
        """Read no more from this side, whatever comes."""

    def unsent(self) -> int:
        """Bytes, held ones included, that the peer's machine has not acknowledged yet."""


class ClientSide(Side, Protocol):
    """The side that was accepted. Until it is joined it keeps what it reads, one buffer at the most."""

    @property
    def keeps(self) -> int:
        """How many bytes are kept."""

    @property
    def kept(self) -> bytes:
        """The bytes that are kept; they stay."""

    def start_reading(self) -> None:
        """Begin to read."""

    def take_kept(self) -> bytes:
        """Hand over what was kept so far."""

    def keep(self, data: bytes) -> None:
        """Keep `data` in front of what comes."""

    def join(self, backend: Side, preamble: bytes) -> None:
        """Send `preamble` and what was kept to `backend`; from now on each side's bytes go to the other."""

    def part(self) -> None:
        """Undo `join` before any byte of the client went through it."""

    def write(self, data: bytes) -> None:
        """Send something of our own."""

    def close_gently(self) -> None:
        """Close so that what was said last is heard, whatever the client is still sending."""


class Wheel(Protocol):
    """The deadlines of all sessions; see lbproxy/net/wheel.py."""

    def add(self, timed: Arrival, delay: float, /) -> None:
        """Ask `timed.expire` after `delay` seconds."""

    def sooner(self, timed: Arrival, delay: float, /) -> None:
        """Make sure that `timed.expire` is asked within `delay` seconds."""

    def discard(self, timed: Arrival, /) -> None:
        """Ask no more."""


class Factory(Protocol):
    """Finds a backend and connects to it; see lbproxy/net/backend.py."""

    def connect(self, session: Seeker, now: float) -> None:
        """Choose a backend and dial it. The session hears `none_taken`, or `dialling` and what comes of it."""

    def dial(self, session: Seeker, now: float) -> None:
        """Dial the backend that the session holds."""

    def dial_fresh(self, session: Seeker, now: float) -> None:
        """As `dial`, on a new connection."""

    def unreachable(self, backend: Backend) -> None:
        """A try at this backend failed: where its name has several addresses, dial another one next."""


_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Opening:
    """What comes before a session's route is known: a PROXY `header`, a ClientHello that is looked at (`hello`), or
    `tls` that is ended here. `plain` is True for none of them.
    """

    header: bool = False
    hello: bool = False
    tls: bool = False
    timeouts: Timeouts = _TIMEOUTS
    plain: bool = True


class Gate(Protocol):
    """The listener that a session came through. `front` is there where it speaks HTTP."""

    name: str
    opening: Opening
    only_route: Route | None
    front: Front

    @property
    def sessions(self) -> int:
        """How many sessions of this listener are under way."""

    def find_route(self, client_ip: str, server_name: str | None, protocols: tuple[bytes, ...]) -> Route | None:
        """Which pool serves this client, who asked for this name and offers these protocols; see `only_route`."""

    def secure(self, session: Arrival, hello: ClientHello) -> None:
        """Begin TLS with the client: the session hears `secured` or `handshake_failed`."""

    def complain(self, session: Arrival, word: str, message: str) -> None:
        """Have the log tell, now and then, that a client's TLS was cut for `word`."""

    def handshake_ended(self, session: Arrival, result: str, message: str) -> None:
        """Count the end of a handshake: "full", "resumed" or the word of a failure, with a sentence for the log."""

    def admit(self, client_ip: str) -> Outcome | None:
        """Count this client in, or say why it may not come in."""

    def left(self, client_ip: str | None) -> None:
        """A session has ended; its client's address if it was admitted."""


class World(Protocol):
    """All that the sessions of one process share."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds, exact."""

    @property
    def wheel(self) -> Wheel:
        """The deadlines."""

    @property
    def factory(self) -> Factory:
        """Who connects relays to backends."""

    @property
    def http_factory(self) -> Factory:
        """Who finds connections to backends for exchanges."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools by name, as they are configured now."""

    @property
    def wall(self) -> Callable[[], float]:
        """POSIX seconds: what dates mean."""

    @property
    def random(self) -> Callable[[], float]:
        """Floats in [0, 1)."""

    def later(self, delay: float, call: Callable[[], None], /) -> Any:
        """Call after `delay` seconds; what is returned has `cancel`, for before that."""

    def key_of(self, hash_key: str) -> KeyOf:
        """What a hash key of the configuration means for requests."""

    def sticking(self, pool: Pool) -> Sticking:
        """How the clients of this pool stay with their backends."""

    def http_side(self, client: ClientSide | None) -> HttpClientSide:
        """The same side, as one that speaks HTTP."""

    @property
    def copies(self) -> Copies:
        """The mirrored requests under way."""

    @property
    def cache(self) -> SharedCache | None:
        """What answers are stored in; None while no route stores any."""

    @property
    def filling(self) -> Filling:
        """How answers get there."""

    @property
    def effort(self) -> Effort:
        """How busy packing bodies has kept us."""

    def aside(self, call: Callable[[], bytes], then: Callable[[bytes | None], None], /) -> None:
        """Make the call in a thread, then tell what it gave, None if it failed."""

    def mirror(self, exchange: Exchange, head: RequestHead, body: bytes | None) -> None:
        """Make a copy for another pool, if the route still wants one: see mirroring.py."""

    def answered(self, exchange: Account, now: float) -> None:
        """Count the end of an exchange and write its record."""

    def conversation_over(self, conversation: Conversation) -> None:
        """A client that spoke HTTP has left."""

    def new_id(self) -> str:
        """A name for a session, unique for this instance."""

    def ended(self, session: Relay | Conversation, now: float) -> None:
        """Count the end of a session and write its record; a conversation has one where it ended in its opening."""

    def fault(self, problem: BaseException) -> None:
        """Log and count a fault of ours that ended one session."""
