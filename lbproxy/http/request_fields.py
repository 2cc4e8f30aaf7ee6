"""What the fields of a request mean together: site, framing, connection, expectation (RFC 9110, 7 and 10; 9112, 9).

Owns which fields are acted on, which are sent on and which are only known. Refuses to know how the lines came.
"""

from __future__ import annotations

from typing import Any

from lbproxy.errors import BAD_REQUEST, EXPECT
from lbproxy.http.client_cert import CLIENT_CERT_NAMES
from lbproxy.http.framing import body_length
from lbproxy.http.hosts import normalise_host
from lbproxy.http.lines import elements
from lbproxy.http.messages import Field, HttpError, RequestHead
from lbproxy.http.names import HOP_BY_HOP, is_origin, may_be_named_away
from lbproxy.http.request_line import RequestLine

# What a field is: just sent on; sent on and known; only known, or not even that.
PLAIN, _SINGLE, _VIA, _HOST, _CONNECTION, _LENGTH, _CODING, _ORIGIN, _UPGRADE, _TE, _EXPECT, _DROPPED = range(12)
LAST_SENT = _VIA
_KINDS = {
    b"authorization": _SINGLE,
    b"content-type": _SINGLE,
    b"via": _VIA,
    b"host": _HOST,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"upgrade": _UPGRADE,
    b"te": _TE,
    b"expect": _EXPECT,
    # Those whose lines are new most often: one look tells that nothing is to be done about them.
    b"cookie": PLAIN,
    b"referer": PLAIN,
    b"user-agent": PLAIN,
    b"if-none-match": PLAIN,
}
# Fields that only we may say: who has them is a copy of a request.
_OURS = frozenset((b"x-mirror", b"x_mirror"))
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_OPTIONS = frozenset((b"close", b"keep-alive"))
# What `Connection` says: close, keep-alive, upgrade, and the fields to remove.
Connection = tuple[bool, bool, bool, frozenset[bytes]]
_NO_CONNECTION: Connection = (False, False, False, frozenset())

# Host and authority.
Site = tuple[bytes, bytes]
# A kind, what the field says (as `value_of` has it), and the field.
Special = tuple[int, Any, Field]


def kind_of(name: bytes, *, drop_underscores: bool) -> int:
    """What a field of that name is. Raises HttpError for framing by another name (F9)."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    if is_origin(name):
        return _ORIGIN
    if name in HOP_BY_HOP or name in CLIENT_CERT_NAMES or name in _OURS:
        return _DROPPED
    if b"_" in name:
        # Many servers behind us take "_" and "-" for the same.
        alias = name.replace(b"_", b"-")
        if alias in _FRAMING:
            raise _bad("F9", "the name of a field is that of framing with an underscore")
        if drop_underscores or is_origin(alias):
            return _DROPPED
    return PLAIN


def value_of(kind: int, value: bytes, port: int) -> Any:
    """What a field says as far as it alone can tell; `port` is the scheme's. Raises HttpError."""
    if kind == _HOST:
        return normalise_host(value, port)
    if kind == _CONNECTION:
        options = frozenset(elements(value))
        named = frozenset(name for name in options - HOP_BY_HOP - _OPTIONS if may_be_named_away(name))
        return b"close" in options, b"keep-alive" in options, b"upgrade" in options, named
    return value


def meaning(first: RequestLine, fields: list[Field], specials: list[Special], default: Site | None) -> RequestHead:
    """The head of request line and fields. `default` is the site (host, authority) of HTTP/1.0 that names none.

    Raises HttpError.
    """
    method, minor, path, unmerged, query, encoded_slash, target_site = first
    site: Site | None = None
    connection = _NO_CONNECTION
    others: list[Special] = []
    for special in specials:
        kind = special[0]
        if kind == _HOST:
            if site is not None:
                raise _bad("T13", "there is more than one Host")
            site = special[1]
        elif kind == _CONNECTION:
            connection = special[1] if connection is _NO_CONNECTION else _both(connection, special[1])
        else:
            others.append(special)
    if site is None or target_site is not None:
        site = _site(target_site, site, default, minor)
    close, keep, upgrading, named = connection
    if named:
        fields = [field for field in fields if field[0] not in named]
    length, has_length, expect, upgrade, te_trailers, via, origin = (
        _others(others, minor, upgrading) if others else (0, False, False, b"", False, b"", [])
    )
    return RequestHead(
        method,
        path,
        unmerged,
        query,
        site[0],
        site[1],
        minor,
        fields,
        b"".join([field[2] for field in fields]),
        origin,
        length,
        has_length,
        close or (minor == 0 and not keep),
        expect,
        upgrade,
        te_trailers,
        via,
        encoded_slash,
    )


def _others(
    specials: list[Special], minor: int, upgrading: bool
) -> tuple[int, bool, bool, bytes, bool, bytes, list[Field]]:
    """What most requests have not: length, whether it is written, expect, upgrade, te_trailers, via, origin."""
    said: dict[int, list[bytes]] = {}
    singles: list[bytes] = []
    origin: list[Field] = []
    for kind, value, field in specials:
        if kind == _ORIGIN:
            origin.append(field)
        elif kind == _SINGLE:
            if field[0] in singles:
                raise _bad("S14", f"there is more than one {field[0].decode()}")
            singles.append(field[0])
        else:
            said.setdefault(kind, []).append(value)
    lengths, codings = said.get(_LENGTH, ()), said.get(_CODING, ())
    length = body_length(lengths, codings, minor) or 0
    expect = _EXPECT in said and _expects(said[_EXPECT], minor, length)
    upgrade = _upgrade(said[_UPGRADE]) if upgrading and _UPGRADE in said and minor and not length else b""
    te_trailers = _TE in said and b"trailers" in elements(b",".join(said[_TE]))
    return length, bool(lengths), expect, upgrade, te_trailers, b", ".join(said.get(_VIA, ())), origin


def _both(one: Connection, other: Connection) -> Connection:
    return one[0] or other[0], one[1] or other[1], one[2] or other[2], one[3] | other[3]


def _site(target: Site | None, host: Site | None, default: Site | None, minor: int) -> Site:
    """The site of a request whose target names one, or that has no Host."""
    if host is not None:
        if target != host:
            raise _bad("T11", "the target and Host name different sites")
        return host
    if minor:
        raise _bad("T13", "there is no Host")
    site = target or default
    if site is None:
        raise _bad("T14", "there is no Host, and this listener has no default_host")
    return site


def _expects(values: list[bytes], minor: int, length: int) -> bool:
    """Whether to say 100 Continue (RFC 9110, 10.1.1): not to HTTP/1.0, and not for a body that does not come."""
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise HttpError(EXPECT, "C5", "the only expectation that is understood here is 100-continue")
    return minor > 0 and length != 0


def _upgrade(values: list[bytes]) -> bytes:
    """The protocols asked for, but for HTTP/2, which is not changed to here (C8)."""
    return b", ".join([name for value in values for name in elements(value) if name != b"h2c"])


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
