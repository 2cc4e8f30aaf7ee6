"""Which backend a client is bound to, by a sealed value that it brings along.

Owns what the value holds, its keys and its limits of age. Refuses to know cookies, how the value travels and what
becomes of a session whose backend cannot serve it. `learnt.py` has the other way: a table of what clients did.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

from lbproxy.balancing.backend import Backend
from lbproxy.model_http import StickySettings

# The third letter of the termination state, see `Seen`.
SeenState = Literal["N", "I", "V", "D", "E", "O"]

_VERSION = b"v1."
_SIZE = 16
# A value with times: its beginning up to the signature, and the four parts.
_TIMED = re.compile(rb"((v1\.[A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([0-9]{1,12}))\.([A-Za-z0-9_-]{22})")
_PLAIN, _LONGEST = 25, 80
# Whoever sends more values than this of one name is not helped by reading on.
_MOST_VALUES = 8
# The time of last use is written anew once it is a tenth of the allowed idleness old: then most answers need no
# cookie, and a client loses its backend at most so much early.
_FRESH = 0.1


class Seen(NamedTuple):
    """What a client's value says.

    `state`: "N" there was none, "I" invalid (also: of a backend that is no more), "V" valid, "D" its backend may not
    serve bound sessions, "E" not used for too long, "O" too old. `backend` is set for "V" alone. `first` is when the
    binding began (seconds since the epoch), None where that is not limited; it is handed on to `issue`. `renew` asks
    for a new value to the same backend: this one's time of use has aged, or its key is not the first any more.
    """

    backend: Backend | None
    state: SeenState
    first: float | None = None
    renew: bool = False


class _Token(NamedTuple):
    backend_id: str
    key: bytes
    current: bool


_NONE = Seen(None, "N")
_INVALID = Seen(None, "I")


class CookieSeal:
    """Seals the ids of one pool's backends into values that tell nobody what they stand for, and reads them.

    `name` is what the cookie is called. A value is `v1.` and the first 16 bytes of an HMAC-SHA256 over pool and
    backend id; with a limit of age follow the times of the first and the last use and an HMAC over all of that.
    """

    __slots__ = ("_issued", "_keys", "_known", "_pool", "_settings", "_timed", "_tokens", "name")

    def __init__(self, pool: str, settings: StickySettings, key_of_start: bytes) -> None:
        """`key_of_start` is a secret of this process, for settings without keys."""
        self.name = (settings.name or f"lb_{sha256(pool.encode()).hexdigest()[:8]}").encode("ascii")
        self._pool = pool.encode()
        self._settings = settings
        self._keys = settings.keys or (key_of_start,)
        self._timed = settings.max_idle is not None or settings.max_life is not None
        self._known: set[str] = set()
        self._tokens: dict[bytes, _Token] = {}
        self._issued: dict[str, bytes] = {}

    def issue(self, backend_id: str, wall: float, first: float | None) -> bytes:
        """The value that binds to this backend. `wall` is seconds since the epoch; `first` is None for a new binding,
        else what was `Seen`.
        """
        value = self._issued.get(backend_id)
        if value is None:
            value = self._issued[backend_id] = self._token(backend_id, self._keys[0])
        if not self._timed:
            return value
        value += b".%d.%d" % (wall if first is None else first, wall)
        return value + b"." + _mac(self._keys[0], value)

    def read(self, value: bytes | None, backends: Mapping[str, Backend], wall: float) -> Seen:
        """What this value says now, among the pool's `backends`; None when the client brought none."""
        if value is None:
            return _NONE
        first = last = None
        if len(value) > _LONGEST:
            return _INVALID
        found = None if len(value) == _PLAIN else _TIMED.fullmatch(value)
        token = self._find(found[2] if found else value, backends)
        if token is None or (found is None and self._timed):
            return _INVALID
        if found:
            if not hmac.compare_digest(_mac(token.key, found[1]), found[5]):
                return _INVALID
            first, last = int(found[3]), int(found[4])
        backend = backends.get(token.backend_id)
        if backend is None:
            return _INVALID
        idle, life = self._settings.max_idle, self._settings.max_life
        if last is not None and idle is not None and wall - last > idle:
            return Seen(None, "E")
        if first is not None and life is not None and wall - first > life:
            return Seen(None, "O")
        if not backend.sticks:
            return Seen(None, "D")
        aged = last is not None and idle is not None and wall - last >= max(1.0, idle * _FRESH)
        return Seen(backend, "V", first, aged or not token.current)

    def find(self, values: Sequence[bytes], backends: Mapping[str, Backend], wall: float) -> Seen:
        """What several values of the same name say: the first valid one, else the first; only so many are read."""
        first = _NONE
        for value in values[:_MOST_VALUES]:
            seen = self.read(value, backends, wall)
            if seen.state == "V":
                return seen
            if first is _NONE:
                first = seen
        return first

    def __repr__(self) -> str:
        return f"<CookieSeal {self.name.decode()} of {len(self._keys)} keys>"

    def _find(self, value: bytes, backends: Mapping[str, Backend]) -> _Token | None:
        """Whose value it is. One look-up, and no comparison of secrets that could be timed: the dictionary compares
        bytes only where a keyed hash of all of them agrees.
        """
        token = self._tokens.get(value)
        if token is None and backends.keys() != self._known:
            self._prepare(backends)
            token = self._tokens.get(value)
        return token

    def _prepare(self, backends: Mapping[str, Backend]) -> None:
        """Work out the values of these backends; what stands for one that is no more is forgotten."""
        self._known = set(backends)
        self._tokens = {
            self._token(backend_id, key): _Token(backend_id, key, key == self._keys[0])
            for key in self._keys
            for backend_id in backends
        }
        self._issued = {token.backend_id: value for value, token in self._tokens.items() if token.current}

    def _token(self, backend_id: str, key: bytes) -> bytes:
        return _VERSION + _mac(key, b"sticky\0" + self._pool + b"\0" + backend_id.encode())


def _mac(key: bytes, message: bytes) -> bytes:
    """16 bytes of HMAC-SHA256, in base64url without padding: always 22 characters."""
    return urlsafe_b64encode(hmac.digest(key, message, "sha256")[:_SIZE]).rstrip(b"=")
