"""The calls of OpenSSL that pyOpenSSL has no words for, through the cffi binding that it stands on.

The only module that touches it. The binding is not a documented interface: everything is looked up here once, and where
something is missing `AVAILABLE` is False and the portable way is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

_LOOKS_AT_THE_CONNECTION_ONLY = 0x40000000

AVAILABLE = False
lib: Any = None
ffi: Any = None

_NEEDED = (
    "SSL_read",
    "SSL_write",
    "OpenSSL_version_num",
    "SSL_shutdown",
    "SSL_do_handshake",
    "SSL_set_fd",
    "SSL_clear_mode",
    "SSL_MODE_AUTO_RETRY",
    "SSL_get_error",
    "SSL_set_info_callback",
    "ERR_clear_error",
    "ERR_get_error",
    "ERR_peek_error",
    "ERR_GET_REASON",
    "ERR_reason_error_string",
    "SSL_R_UNEXPECTED_EOF_WHILE_READING",
    "SSL_ERROR_WANT_READ",
    "SSL_ERROR_WANT_WRITE",
    "SSL_ERROR_ZERO_RETURN",
    "SSL_ERROR_SYSCALL",
)


def _look_up() -> bool:
    """Whether all is there, pyOpenSSL's own attributes included."""
    global lib, ffi
    from cryptography.hazmat.bindings.openssl.binding import Binding

    binding = Binding()
    lib, ffi = binding.lib, binding.ffi
    probe = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    return all(hasattr(lib, name) for name in _NEEDED) and all(
        hasattr(probe, name) for name in ("_ssl", "_into_ssl", "_from_ssl", "_raise_ssl_error")
    )


with contextlib.suppress(ImportError, AttributeError, TypeError):
    AVAILABLE = _look_up()


def without_leftovers(call: Callable[..., int]) -> Callable[..., int]:
    """`call`, so that SSL_get_error speaks of it and of nothing else.

    Before OpenSSL 4 that looks at the errors which anybody in this thread has left behind, of other connections too.
    """
    if lib.OpenSSL_version_num() >= _LOOKS_AT_THE_CONNECTION_ONLY:
        return call

    def cleared(*arguments: Any) -> int:
        lib.ERR_clear_error()
        return call(*arguments)

    return cleared


def set_groups(openssl: SSL.Context, groups: tuple[str, ...]) -> None:
    """Offer and accept these key exchange groups, as far as this OpenSSL has them.

    pyOpenSSL has no call for it; without one OpenSSL's own choice stays, which begins with the same groups.
    """
    if not AVAILABLE or not hasattr(lib, "SSL_CTX_set1_curves_list"):
        return
    for first in range(len(groups)):
        # Older versions refuse a whole list for one name that they do not know; the newest name stands first.
        if lib.SSL_CTX_set1_curves_list(openssl._context, ":".join(groups[first:]).encode()) == 1:
            return
        lib.ERR_clear_error()


def was_resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake resumed an earlier TLS session; False where that cannot be told."""
    if not AVAILABLE or not hasattr(lib, "SSL_session_reused"):
        return False
    return bool(lib.SSL_session_reused(connection._ssl))
