"""How the clients of one pool stay with their backends.

Owns where a client's binding is found (a cookie of ours, or a table by address, field or the application's cookie) and
how it is renewed. The binding itself is judged in `balancing/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.learnt import LearntTable
from lbproxy.balancing.sticky import CookieSeal, Seen
from lbproxy.http.cookies import cookie_values, set_cookie, set_cookie_value, without_cookie
from lbproxy.http.messages import Field, RequestHead, ResponseHead
from lbproxy.model import PoolSettings
from lbproxy.model_http import StickySettings

_NEW = Seen(None, "N")


class Sticking:
    """The bindings of one pool. `seal` is set for cookies of ours, else `table` is."""

    __slots__ = ("_name", "seal", "settings", "table")

    def __init__(self, pool: str, settings: StickySettings, key_of_start: bytes) -> None:
        self.settings = settings
        self.seal = CookieSeal(pool, settings, key_of_start) if settings.kind == "cookie" else None
        self.table = LearntTable(settings.table_size, settings.table_idle)
        self._name = settings.name.encode() if settings.kind == "learnt_cookie" else settings.name.lower().encode()

    def seen(self, head: RequestHead, client_ip: str, backends: Mapping[str, Backend], now: float, wall: float) -> Seen:
        """What this request says of its binding. `now` is monotonic, `wall` POSIX seconds."""
        if self.seal is not None:
            values = [value for raw in _cookies(head) for value in cookie_values(raw, self.seal.name)]
            return self.seal.find(values, backends, wall)
        key = self._key(head, client_ip)
        bound = None if key is None else self.table.get(key, now)
        if bound is None:
            return _NEW
        backend = backends.get(bound)
        if backend is None:
            return Seen(None, "I")
        return Seen(backend, "V") if backend.sticks else Seen(None, "D")

    def bound(self, seen: Seen, backend: Backend, wall: float, *, secure: bool) -> tuple[bytes, bytes, str]:
        """What an answer of `backend` says to a client of ours, as lines and as the value of Set-Cookie (both b"" when
        nothing is said), and the fourth letter of the termination state.
        """
        seal, settings = self.seal, self.settings
        if seal is None:
            return b"", b"", "N"
        if seen.backend is backend and not seen.renew:
            return b"", b"", "N"
        value = seal.issue(backend.id, wall, seen.first if seen.backend is backend else None)
        max_age = None if settings.max_age is None else int(settings.max_age)
        cookie = set_cookie(
            seal.name,
            value,
            max_age=max_age,
            same_site=settings.same_site,
            secure=secure or settings.same_site == "none",
            domain=settings.domain.encode(),
        )
        return b"Set-Cookie: %b\r\n" % cookie, cookie, "U" if seen.backend is backend else "I"

    def learn(
        self, head: RequestHead, answer: ResponseHead | None, client_ip: str, backend: Backend, now: float
    ) -> None:
        """Remember that `backend` answered this client."""
        if self.seal is not None:
            return
        key = self._key(head, client_ip)
        if answer is not None and self.settings.kind == "learnt_cookie":
            for name, raw, _ in answer.fields:
                if name == b"set-cookie":
                    given = set_cookie_value(raw, self._name)
                    if given:
                        key = given
        if key:
            self.table.learn(key, backend.id, now)

    def _key(self, head: RequestHead, client_ip: str) -> bytes | None:
        kind = self.settings.kind
        if kind == "client_ip":
            return client_ip.encode() or None
        if kind == "header":
            return head.authority if self._name == b"host" else head.get(self._name)
        for raw in _cookies(head):
            for value in cookie_values(raw, self._name):
                return value
        return None


def carries(head: RequestHead, names: frozenset[bytes]) -> bool:
    """Whether `cleaned` would take something out."""
    return any(name in raw for raw in _cookies(head) for name in names)


def cleaned(fields: list[Field], names: frozenset[bytes]) -> list[Field]:
    """The fields of a request without our cookies, those of other pools included: they are no backend's business, and
    whoever has one is taken for the client that it was given to.
    """
    kept = []
    for field in fields:
        if field[0] == b"cookie":
            value = field[1]
            for name in names:
                value = without_cookie(value, name)
            if not value:
                continue
            if value != field[1]:
                field = (b"cookie", value, b"Cookie: %b\r\n" % value)
        kept.append(field)
    return kept


def cookie_names(pools: Iterable[PoolSettings]) -> frozenset[bytes]:
    """What our cookies are called, of all pools that have one."""
    return frozenset(
        CookieSeal(pool.name, sticky, b"").name
        for pool in pools
        if (sticky := pool.http.sticky) is not None and sticky.kind == "cookie"
    )


def _cookies(head: RequestHead) -> list[bytes]:
    return [value for name, value, _ in head.fields if name == b"cookie"]
