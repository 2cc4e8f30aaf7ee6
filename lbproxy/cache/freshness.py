"""How long an answer is fresh, and what may be done with it afterwards (RFC 9111, section 4.2; RFC 5861).

Owns the arithmetic of ages and lifetimes. Refuses to know whether the answer may be stored. It is worked out once,
when the answer comes; whoever serves it compares two numbers.
"""

from __future__ import annotations

from lbproxy.cache.directives import Directives, read_seconds
from lbproxy.cache.values import ALWAYS_ASK, GUESSED, NEVER_STALE, Freshness
from lbproxy.http.dates import read_date
from lbproxy.http.lines import BLANKS
from lbproxy.http.messages import ResponseHead
from lbproxy.model_cache import RouteCacheSettings

# Answers that need not say how long they are fresh (RFC 9110, 15.1): those that we store without being told.
UNTOLD = frozenset((200, 203, 204, 300, 301, 308, 404, 410))
# RFC 9111, 4.2.2, leaves these to us; a tenth is what it calls typical.
GUESSED_SHARE = 0.1
MOST_GUESSED = 86400.0


def freshness(
    answer: ResponseHead,
    directives: Directives,
    settings: RouteCacheSettings,
    *,
    asked_at: float,
    received_at: float,
    expires_counts: bool,
) -> Freshness | None:
    """The freshness of an answer that was asked for at `asked_at` and came at `received_at`; None when nothing tells
    how long it is fresh.

    A lifetime of 0 is a result: the answer may still be confirmed, or served stale where that is allowed. With
    `no-cache` it is what there is without any other. `expires_counts` is False where another field overrules Expires.
    """
    date = date_of(answer, received_at)
    dated = int(received_at) if date is None else date
    lifetime, flags = _lifetime(answer, directives, settings, dated, received_at, expires_counts=expires_counts)
    if lifetime is None:
        return None
    if settings.max_ttl is not None and lifetime > settings.max_ttl:
        lifetime = settings.max_ttl
    while_revalidate = _either(directives.stale_while_revalidate, settings.stale_while_revalidate)
    if_error = _either(directives.stale_if_error, settings.stale_if_error)
    # That s-maxage forbids stale answers (RFC 9111, 5.2.2.10) is not meant by an answer that allows them in words.
    allowed = directives.stale_while_revalidate is not None or directives.stale_if_error is not None
    if directives.must_revalidate or directives.proxy_revalidate or (directives.s_maxage is not None and not allowed):
        flags |= NEVER_STALE
    if directives.no_cache:
        flags |= ALWAYS_ASK
    if flags & (NEVER_STALE | ALWAYS_ASK):
        while_revalidate = if_error = 0.0
    born = received_at - _initial_age(answer, date, asked_at, received_at)
    return Freshness(born, born + lifetime, while_revalidate, if_error, flags)


def date_of(answer: ResponseHead, received_at: float) -> float | None:
    """What its Date says, None when it says nothing that can be read."""
    value = answer.get(b"date")
    return None if value is None else read_date(value, received_at)


def stated(
    answer: ResponseHead, directives: Directives, dated: float, received_at: float, *, expires_counts: bool
) -> float | None:
    """The lifetime that the answer states, in seconds, None for none (RFC 9111, 4.2.1). An Expires that cannot be read
    is in the past (5.3), and so are several that differ.
    """
    if directives.s_maxage is not None:
        return directives.s_maxage
    if directives.max_age is not None:
        return directives.max_age
    expires = {value for name, value, _ in answer.fields if name == b"expires"} if expires_counts else None
    if not expires:
        return None
    until = read_date(expires.pop(), received_at) if len(expires) == 1 else None
    return 0.0 if until is None else max(0.0, until - dated)


def _lifetime(
    answer: ResponseHead,
    directives: Directives,
    settings: RouteCacheSettings,
    dated: float,
    received_at: float,
    *,
    expires_counts: bool,
) -> tuple[float | None, int]:
    """The lifetime in seconds, and whether it was guessed, as a flag."""
    told = stated(answer, directives, dated, received_at, expires_counts=expires_counts)
    if told is not None:
        return (told if settings.ttl is None else settings.ttl), 0
    # RFC 9111, 4.2.2: what is marked as public is as good as the statuses that need no mark.
    if answer.status in UNTOLD or directives.public:
        configured = settings.ttl if settings.default_ttl is None else settings.default_ttl
        if configured is not None:
            return configured, 0
        guessed = _guess(answer, dated, received_at) if settings.heuristic else None
        if guessed is not None:
            return guessed, GUESSED
        if directives.no_cache:
            return 0.0, 0
    return None, 0


def _guess(answer: ResponseHead, dated: float, received_at: float) -> float | None:
    """A lifetime from how long the answer had not changed, None when that cannot be told."""
    value = answer.get(b"last-modified")
    modified = None if value is None else read_date(value, received_at)
    if modified is None or modified > dated:
        return None
    return min((dated - modified) * GUESSED_SHARE, MOST_GUESSED)


def _initial_age(answer: ResponseHead, date: float | None, asked_at: float, received_at: float) -> float:
    """How old the answer was when it came (RFC 9111, 4.2.3). Of an Age with several members the first counts, and one
    that is no number is not there (5.1).
    """
    value = answer.get(b"age")
    said = None if value is None else read_seconds(value.partition(b",")[0].strip(BLANKS))
    corrected = (said or 0.0) + max(0.0, received_at - asked_at)
    # Date has whole seconds: compared with more, every answer would be old already.
    return corrected if date is None else max(corrected, float(int(received_at)) - date)


def _either(said: float | None, configured: float | None) -> float:
    return said if said is not None else configured or 0.0
