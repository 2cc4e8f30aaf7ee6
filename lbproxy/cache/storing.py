"""Whether an answer may be stored, and what of it (RFC 9111, section 3).

Owns the rules and the words for what breaks them. Refuses to know about sizes, keys, and bodies that do not end well.
Only fields decide, never what a path looks like (K2).
"""

from __future__ import annotations

from lbproxy.cache.directives import Directives, request_directives, response_directives
from lbproxy.cache.freshness import date_of, freshness
from lbproxy.cache.tags import tags_of
from lbproxy.cache.values import ALWAYS_ASK, Freshness
from lbproxy.cache.vary import unseen
from lbproxy.http.dates import date_line
from lbproxy.http.lines import TOKEN, elements
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.model_cache import RouteCacheSettings

# What the request provoked, what is only for it, and what says that the backend is unwell (K8).
NEVER_STORED = frozenset(
    (304, 400, 407, 408, 412, 413, 414, 416, 417, 421, 425, 426, 429, 431, 501, 502, 503, 504),
)
# The statuses whose rules we follow; `must-understand` asks for that (RFC 9111, 5.2.2.3).
UNDERSTOOD = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410))
# Fields that ask for another method than the one in the request line: what the answer is to, nobody can tell (K3).
OVERRIDES = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))
# Fields that say who asks, which we write ourselves and never compare.
ABOUT_CLIENTS = frozenset((b"forwarded", b"true-client-ip", b"x-forwarded-for", b"x-real-ip", b"x-request-id"))

# Beside hop-by-hop fields, which are gone already: what is worked out anew each time, and a proxy's own (3.1).
_NOT_KEPT = frozenset((b"age", b"proxy-authentication-info"))
_LASTING = frozenset(
    (
        "content-encoding",
        "must-understand",
        "no freshness",
        "no-cache",
        "no-store",
        "private",
        "Set-Cookie",
        "stale",
    )
)


class Storable:
    """What is stored of an answer beside its body; see Stored.

    `vary` are the names that Vary has, in lower case and in their order, () for none.
    """

    __slots__ = ("coding", "freshness", "lines", "tags", "vary")

    def __init__(
        self,
        freshness: Freshness,
        vary: tuple[bytes, ...],
        lines: bytes,
        coding: bytes,
        tags: tuple[bytes, ...] | None,
    ) -> None:
        self.freshness = freshness
        self.vary = vary
        self.lines = lines
        self.coding = coding
        self.tags = tags


def judge(
    head: RequestHead,
    answer: ResponseHead,
    settings: RouteCacheSettings,
    *,
    asked_at: float,
    received_at: float,
) -> Storable | str:
    """What to store of the answer to this request, or the reason, in a word or two, for which nothing is.

    `asked_at` and `received_at` are when the request was sent and when the head of the answer came, in seconds since
    the epoch.
    """
    verdict = _judge(head, answer, settings, asked_at, received_at)
    # That the backend is unwell says more than what it writes then; see `is_lasting`.
    return f"status {answer.status}" if isinstance(verdict, str) and answer.status >= 500 else verdict


def is_lasting(reason: str) -> bool:
    """Whether what `judge` gave as the reason will probably hold for the next request with the same key too."""
    return reason in _LASTING or reason.startswith("Vary: ")


def unfit(head: RequestHead) -> str:
    """Why a request has no answer that is stored, whatever it is; "" when it may have (K3)."""
    if head.method != b"GET":
        return "method"
    if head.length:
        return "body"
    return "method override" if any(field[0] in OVERRIDES for field in head.fields) else ""


def _judge(
    head: RequestHead, answer: ResponseHead, settings: RouteCacheSettings, asked_at: float, received_at: float
) -> Storable | str:
    said = response_directives(answer, targeted=settings.targeted)
    reason = (
        unfit(head)
        or _forbidden_by_status(answer.status)
        or _forbidden(head, answer, settings, said)
        or (settings.honour_clients and request_directives(head).no_store and "request no-store")
    )
    if reason:
        return reason
    vary = vary_names(answer)
    if isinstance(vary, str):
        return vary
    fresh = freshness(
        answer, said, settings, asked_at=asked_at, received_at=received_at, expires_counts=not said.targeted
    )
    if fresh is None:
        return "no freshness"
    useless = _useless(answer, fresh, received_at)
    if useless:
        return useless
    dropped = _NOT_KEPT | said.no_cache_fields | said.private_fields
    if settings.ignore_set_cookie:
        dropped |= {b"set-cookie"}
    coding = b", ".join(elements(b",".join([value for name, value, _ in answer.fields if name == b"content-encoding"])))
    if coding and b"content-encoding" in dropped:
        return "content-encoding"
    lines = _lines(answer, dropped, received_at)
    return Storable(fresh, vary, lines, b"" if coding == b"identity" else coding, tags_of(answer))


def _forbidden_by_status(status: int) -> str:
    if status == 206:
        return "206"
    return f"status {status}" if status < 200 or status in NEVER_STORED else ""


def _forbidden(head: RequestHead, answer: ResponseHead, settings: RouteCacheSettings, said: Directives) -> str:
    if said.must_understand and answer.status not in UNDERSTOOD:
        return "must-understand"
    # Whoever understands the status goes by that instead (RFC 9111, 5.2.2.3).
    if said.no_store and not said.must_understand:
        return "no-store"
    if said.private:
        return "private"
    if (
        not settings.ignore_set_cookie
        and b"set-cookie" not in said.no_cache_fields
        and b"set-cookie" not in said.private_fields
        and answer.get(b"set-cookie") is not None
    ):
        return "Set-Cookie"
    # RFC 9111, 3.5.
    shared = said.public or said.must_revalidate or said.s_maxage is not None
    return "" if shared or head.get(b"authorization") is None else "Authorization"


def vary_names(answer: ResponseHead) -> tuple[bytes, ...] | str:
    """The names in Vary, or the reason for which no request can be compared with this one."""
    names: set[bytes] = set()
    for name, value, _ in answer.fields:
        if name == b"vary":
            names.update(elements(value))
    for name in names:
        if name == b"*" or name in ABOUT_CLIENTS or unseen((name,)):
            return f"Vary: {name.decode('ascii')}"
        if TOKEN.fullmatch(name) is None:
            return "Vary: malformed"
    return tuple(sorted(names))


def _useless(answer: ResponseHead, fresh: Freshness, received_at: float) -> str:
    """Why nobody could ever be served what was stored."""
    if answer.get(b"etag") is not None or answer.get(b"last-modified") is not None:
        return ""
    if fresh.flags & ALWAYS_ASK:
        return "no-cache"
    served_until = fresh.fresh_until + max(fresh.while_revalidate, fresh.if_error)
    return "" if received_at < served_until else "stale"


def _lines(answer: ResponseHead, dropped: frozenset[bytes], received_at: float) -> bytes:
    # RFC 9110, 6.6.1: who has a clock says when it came, where there is no date that can be read.
    undated = b"date" in dropped or date_of(answer, received_at) is None
    if undated:
        dropped |= {b"date"}
    lines = [line for name, _, line in answer.fields if name not in dropped]
    if undated:
        lines.append(date_line(int(received_at)))
    return b"".join(lines)
