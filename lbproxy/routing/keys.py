"""The key of a request: what puts a client on the same backend, or on the same side of a split, every time.

Owns the kinds of keys that are configured as text. Refuses to know what is done with a key.
"""

from __future__ import annotations

from collections.abc import Callable

from lbproxy.http.messages import RequestHead
from lbproxy.routing.named_values import Read, cookie_reader, header_reader, query_reader

# Asked with the head, the client's address as text and the name it asked for in its TLS handshake.
KeyOf = Callable[[RequestHead, str, str | None], bytes | None]

_PLAIN: dict[str, KeyOf] = {
    "client_ip": lambda _, client_ip, __: client_ip.encode(),
    "path": lambda head, *_: head.path,
    "host": lambda head, *_: head.host,
    "sni": lambda _, __, sni: None if sni is None else sni.encode(),
}
_NAMED: dict[str, Callable[[str], Read]] = {"header": header_reader, "cookie": cookie_reader, "query": query_reader}


def key_reader(hash_key: str) -> KeyOf:
    """Reads the key that `hash_key` names: "client_ip", "header:NAME", "cookie:NAME", "query:NAME", "path", "host" or
    "sni" (specification, section 11).

    The reader gives None when the request has no such thing, and the first value when it has several. Raises
    ValueError for any other text.
    """
    plain = _PLAIN.get(hash_key)
    if plain is not None:
        return plain
    kind, _, name = hash_key.partition(":")
    if kind not in _NAMED or not name:
        raise ValueError(
            f"{hash_key!r} is no hash key; write client_ip, header:NAME, cookie:NAME, query:NAME, path, host or sni"
        )
    return _first(_NAMED[kind](name))


def _first(read: Read) -> KeyOf:
    def key(head: RequestHead, _: str, __: str | None) -> bytes | None:
        values = read(head)
        return values[0] if values else None

    return key
