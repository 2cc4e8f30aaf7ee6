"""Under which key an answer is stored: scheme, host, path and query as they are forwarded, and what a route adds (K1).

Owns the form of keys, and the edits of queries within them. Refuses to know Vary (see vary.py), and to look at the
fields that tell where a request came from unless a route names them. A key is the URL, then one line for each header
field and cookie of the route: "\\n" is in none of these, so two keys are the same only if all of their parts are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lbproxy.http.cookies import cookie_values
from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError, RequestHead
from lbproxy.http.names import is_origin
from lbproxy.http.target import normalise, read_target, split_absolute
from lbproxy.model_cache import KeySettings

_PORTS = {b"http": 80, b"https": 443}
_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})")
# Some programs end a parameter at this too: what they find behind it is not what was left out.
_OTHER_SEPARATOR = b";"

_Part = Callable[[RequestHead], bytes]
_Edit = Callable[[bytes], bytes | None]


class KeyMaker:
    """Makes keys as one route wants them. `merge_slashes` is the route's: without it the path is the unmerged one."""

    __slots__ = ("_edit", "_merge", "_parts", "_simple")

    def __init__(self, settings: KeySettings, *, merge_slashes: bool = True) -> None:
        self._edit = _query_edit(settings)
        self._merge = merge_slashes
        self._parts: tuple[_Part, ...] = (
            *(_header_part(name) for name in settings.headers),
            *(_cookie_part(name) for name in settings.cookies),
        )
        self._simple = merge_slashes and self._edit is None and not self._parts

    @property
    def has_parts(self) -> bool:
        """Whether the same URL may have several keys."""
        return bool(self._parts)

    def __call__(self, head: RequestHead, scheme: bytes) -> bytes:
        """The primary key of a request; `scheme` is b"http" or b"https", as the client used it."""
        if self._simple:
            query = head.query
            if query is None:
                return b"".join((scheme, b"://", head.authority, head.path))
            return b"".join((scheme, b"://", head.authority, head.path, b"?", query))
        return self.at(head, scheme, head.path if self._merge else head.unmerged, head.query)

    def at(self, head: RequestHead, scheme: bytes, path: bytes, query: bytes | None) -> bytes:
        """The key that the same client's request for another path of the same site would have."""
        url = self.url(scheme, head.authority, path, query)
        return b"".join((url, *(part(head) for part in self._parts))) if self._parts else url

    def url(self, scheme: bytes, authority: bytes, path: bytes, query: bytes | None) -> bytes:
        """The part of a key that is common to all clients. `authority` and `path` are normalised."""
        if query is not None and self._edit is not None:
            query = self._edit(query)
        url = b"".join((scheme, b"://", authority, path))
        return url if query is None else b"%b?%b" % (url, query)

    def key_of_url(self, url: str) -> bytes:
        """The same for what someone has written; see the function of this name."""
        scheme, authority, merged, unmerged, query = _read_url(url)
        return self.url(scheme, authority, merged if self._merge else unmerged, query)


def key_of_url(url: str) -> bytes:
    """The key of a URL that someone has written, or of the beginning of one, by the default settings.

    It is normalised as requests are, so it is what `url_of` says of what was stored. Raises ValueError with a sentence.
    """
    return KeyMaker(KeySettings()).key_of_url(url)


def url_of(key: bytes) -> bytes:
    """The URL in a key."""
    return key.partition(b"\n")[0]


def host_of(key: bytes) -> bytes:
    """The host in a key, without its port."""
    authority = key.partition(b"://")[2].partition(b"/")[0]
    name, colon, port = authority.rpartition(b":")
    return name if colon and port.isdigit() else authority


def _read_url(url: str) -> tuple[bytes, bytes, bytes, bytes, bytes | None]:
    """Scheme, authority, path, the path with its runs of slashes, query."""
    try:
        parts = split_absolute(url.encode("ascii"))
    except UnicodeEncodeError:
        raise ValueError(
            f"{url!r} has characters that are not ASCII; write them as they are sent: percent-encoded, a host as xn--"
        ) from None
    if parts is None or parts[0] not in _PORTS:
        raise ValueError(f"{url!r} is not a whole URL; write http://host/path or https://host/path")
    scheme, authority, rest = parts
    if b"@" in authority:
        raise ValueError(f"{url!r} names a user; leave out what stands before @")
    if b"#" in authority + rest:
        raise ValueError(f"{url!r} has a fragment, which no server ever sees; leave out # and what follows")
    try:
        _, authority = normalise_host(authority, _PORTS[scheme])
        path, query = read_target(rest if rest.startswith(b"/") else b"/" + rest)
        merged, unmerged, _ = normalise(path)
    except HttpError as error:
        raise ValueError(f"{url!r} cannot be asked for: {error.message}") from None
    return scheme, authority, merged, unmerged, query


def _header_part(name: str) -> _Part:
    wanted = name.lower().encode()
    absent = b"\n" + wanted
    from_origin = is_origin(wanted)

    def part(head: RequestHead) -> bytes:
        fields = head.origin if from_origin else head.fields
        values = [value for field, value, _ in fields if field == wanted]
        return b"%b: %b" % (absent, b", ".join(values)) if values else absent

    return part


def _cookie_part(name: str) -> _Part:
    wanted = name.encode()
    absent = b"\ncookie " + wanted

    def part(head: RequestHead) -> bytes:
        values: list[bytes] = []
        for field, value, _ in head.fields:
            if field == b"cookie":
                values += cookie_values(value, wanted)
        # No value has a semicolon.
        return b"%b=%b" % (absent, b";".join(values)) if values else absent

    return part


def _query_edit(settings: KeySettings) -> _Edit | None:
    """What becomes of a query on its way into a key; None when nothing does."""
    if "*" in settings.ignore_query or settings.only_query == ():
        return _nothing
    if not settings.ignore_query and settings.only_query is None and not settings.sort_query:
        return None
    ignored = _named(settings.ignore_query)
    wanted = _named(settings.only_query) if settings.only_query is not None else None
    sort = settings.sort_query

    def edit(query: bytes) -> bytes | None:
        kept = []
        for text in query.split(b"&"):
            name = _decoded(text.partition(b"=")[0])
            left_out = ignored(name) or (wanted is not None and not wanted(name))
            if not left_out or _OTHER_SEPARATOR in text:
                kept.append((name, text))
        if sort:
            # The order of those that share a name has a meaning for whoever takes the first or the last.
            kept.sort(key=lambda pair: pair[0])
        return b"&".join([text for _, text in kept]) if kept else None

    return edit


def _nothing(_: bytes) -> None:
    return None


def _named(patterns: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a name is one of these, or begins as one of those that end in "*" do."""
    names = frozenset(pattern.encode() for pattern in patterns if not pattern.endswith("*"))
    beginnings = tuple(pattern[:-1].encode() for pattern in patterns if pattern.endswith("*"))
    return lambda name: name in names or name.startswith(beginnings)


def _decoded(name: bytes) -> bytes:
    """The name as forms mean it; what is no triplet after "%" stays."""
    name = name.replace(b"+", b" ")
    return _TRIPLET.sub(lambda triplet: bytes((int(triplet[1], 16),)), name) if b"%" in name else name
