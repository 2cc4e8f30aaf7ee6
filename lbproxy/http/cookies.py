"""Cookies in field values: reading one by its name, taking one out, writing one.

Owns the syntax of Cookie and Set-Cookie (RFC 6265, sections 4.1, 4.2 and 5.2). Refuses to know what a cookie means,
and which fields a message has. A Cookie field is split at every ";" as user agents and servers do, quotes or not:
one odd cookie never hides its neighbours, and what is found is exactly what is taken out.
"""

from __future__ import annotations

from lbproxy.model_http import SameSite

_BLANKS = b" \t"
_SAME_SITE: dict[SameSite, bytes] = {
    "lax": b"; SameSite=Lax",
    "strict": b"; SameSite=Strict",
    "none": b"; SameSite=None",
}


def cookie_values(raw: bytes, name: bytes) -> list[bytes]:
    """The values of all cookies of this name in one Cookie field, in their order.

    Names differ by case. Blanks around name and value are not part of them; quotes are (RFC 6265, section 5.4).
    """
    if name not in raw:
        return []
    found = []
    for pair in raw.split(b";"):
        before, equals, value = pair.partition(b"=")
        if equals and before.strip(_BLANKS) == name:
            found.append(value.strip(_BLANKS))
    return found


def without_cookie(raw: bytes, name: bytes) -> bytes:
    """The Cookie field without all cookies of this name; b"" when nothing is left, so that the field must go too.

    The others stay as they are, byte for byte. Without a cookie of this name nothing at all is changed.
    """
    if name not in raw:
        return raw
    pairs = raw.split(b";")
    kept = [pair for pair in pairs if not _is_named(pair, name)]
    if len(kept) == len(pairs):
        return raw
    left = b";".join(kept).strip(_BLANKS)
    return left if left.strip(b"; \t") else b""


def set_cookie(
    name: bytes,
    value: bytes,
    *,
    max_age: float | None,
    same_site: SameSite,
    secure: bool,
    domain: bytes,
    path: bytes = b"/",
    http_only: bool = True,
) -> bytes:
    """The value of a Set-Cookie field.

    `max_age` is in seconds, None for a cookie that ends with the client's session; `domain` b"" stands for the host
    that was asked. `same_site` "none" is written only with `secure`: user agents refuse such a cookie without it, and
    one without the attribute they keep.
    """
    line = name + b"=" + value + b"; Path=" + path
    if domain:
        line += b"; Domain=" + domain
    if max_age is not None:
        line += b"; Max-Age=%d" % max_age
    if http_only:
        line += b"; HttpOnly"
    if secure:
        line += b"; Secure"
    if secure or same_site != "none":
        line += _SAME_SITE[same_site]
    return line


def set_cookie_value(raw_set_cookie: bytes, name: bytes) -> bytes | None:
    """The value that a Set-Cookie field gives to the cookie of this name; None when it sets another one.

    b"" is what most applications write when they delete the cookie.
    """
    if name not in raw_set_cookie:
        return None
    before, equals, value = raw_set_cookie.partition(b";")[0].partition(b"=")
    if equals and before.strip(_BLANKS) == name:
        return value.strip(_BLANKS)
    return None


def _is_named(pair: bytes, name: bytes) -> bool:
    before, equals, _ = pair.partition(b"=")
    return bool(equals) and before.strip(_BLANKS) == name
