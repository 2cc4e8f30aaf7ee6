"""What can go wrong with a session: its name, who is at fault, whether it may be retried.

One table for records, counters and (with HTTP) answers, so that a failure has the same word everywhere.
The words are those of the field's access logs: HAProxy's termination letters and Envoy's response flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StartError(Exception):
    """Something outside keeps a configuration from being run; the message is a sentence for the operator."""


class Blame(Enum):
    """Whose doing a failure is."""

    CLIENT = "client"
    BACKEND = "backend"
    PROXY = "proxy"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended.

    `word` is what records and counters say; `state` holds the first two letters of the termination state;
    `flag` is the Envoy-style response flag ("-" for none). `status` is what an HTTP client is answered, 0 where it is
    cut instead; `error` is the word for it in `Proxy-Status` (RFC 9209, section 2.3), "" for none.
    """

    word: str
    state: str
    flag: str
    blame: Blame
    status: int = 0
    error: str = ""

    def __str__(self) -> str:
        return self.word


def _outcome(word: str, state: str, flag: str, blame: Blame, status: int = 0, error: str = "") -> Outcome:
    return Outcome(word, state, flag, blame, status, error)


def _refused(
    word: str, status: int, state: str = "PR", flag: str = "DPE", error: str = "http_request_error"
) -> Outcome:
    return Outcome(word, state, flag, Blame.CLIENT, status, error)


OK = _outcome("ok", "--", "-", Blame.NOBODY)
CLIENT_GONE_IN_QUEUE = _outcome("client_gone", "CQ", "DC", Blame.CLIENT)
CLIENT_GONE_IN_CONNECT = _outcome("client_gone", "CC", "DC", Blame.CLIENT)
CLIENT_GONE_IN_DATA = _outcome("client_gone", "CD", "DC", Blame.CLIENT)
CLIENT_IDLE = _outcome("idle_timeout", "cD", "-", Blame.CLIENT)
BACKEND_IDLE = _outcome("idle_timeout", "sD", "SI", Blame.BACKEND)
WRITE_STALL_CLIENT = _outcome("write_stall", "cD", "-", Blame.CLIENT)
WRITE_STALL_BACKEND = _outcome("write_stall", "sD", "-", Blame.BACKEND)
CLIENT_TLS = _outcome("tls_error", "PD", "DPE", Blame.CLIENT)
BACKEND_TLS_CUT = _outcome("backend_tls", "SD", "UC", Blame.BACKEND)
CLIENT_TRUNCATED = _outcome("truncated", "CD", "DC", Blame.CLIENT)
BACKEND_TRUNCATED = _outcome("truncated", "SD", "UC", Blame.BACKEND)
BACKEND_CUT = _outcome("backend_cut", "SD", "UC", Blame.BACKEND)
DENIED = _outcome("denied", "PC", "-", Blame.CLIENT, 403, "http_request_denied")
LIMITED = _outcome("limited", "PC", "RL", Blame.CLIENT, 429, "http_request_denied")
PROXY_HEADER_BAD = _outcome("proxy_header", "PR", "DPE", Blame.CLIENT)
PROXY_HEADER_TIMEOUT = _outcome("proxy_header_timeout", "cR", "DPE", Blame.CLIENT)
CLIENT_HELLO_BAD = _outcome("client_hello", "PR", "DPE", Blame.CLIENT)
CLIENT_HELLO_TIMEOUT = _outcome("client_hello_timeout", "cR", "DPE", Blame.CLIENT)
TLS_HANDSHAKE = _outcome("tls_handshake", "PR", "DPE", Blame.CLIENT)
TLS_HANDSHAKE_TIMEOUT = _outcome("tls_handshake_timeout", "cR", "DPE", Blame.CLIENT)
CLIENT_GONE_IN_HEADER = _outcome("client_gone", "CR", "DC", Blame.CLIENT)
NO_ROUTE = _outcome("no_route", "LR", "NR", Blame.CLIENT, 404, "destination_not_found")
NO_BACKEND = _outcome("no_backend", "SC", "UH", Blame.BACKEND, 503, "destination_unavailable")
DNS = _outcome("dns", "SC", "DF", Blame.BACKEND, 503, "dns_error")
REFUSED = _outcome("refused", "SC", "UF", Blame.BACKEND, 502, "connection_refused")
CONNECT_TIMEOUT = _outcome("connect_timeout", "sC", "UF", Blame.BACKEND, 504, "connection_timeout")
BACKEND_TLS = _outcome("backend_tls", "SC", "UF", Blame.BACKEND, 502, "tls_protocol_error")
QUEUE_FULL = _outcome("queue_full", "sQ", "UO", Blame.PROXY, 503, "connection_limit_reached")
QUEUE_TIMEOUT = _outcome("queue_timeout", "sQ", "UO", Blame.PROXY, 503, "connection_limit_reached")
SHED = _outcome("shed", "sQ", "UO", Blame.PROXY, 503, "connection_limit_reached")
LOCAL_RESOURCE = _outcome("local_resource", "RC", "-", Blame.PROXY, 503, "proxy_internal_error")
INTERNAL = _outcome("internal", "IH", "-", Blame.PROXY, 500, "proxy_internal_error")
# Of HTTP alone.
CLIENT_GONE_IN_HEAD = _outcome("client_gone", "CH", "DC", Blame.CLIENT)
BAD_REQUEST = _refused("bad_request", 400)
URI_LONG = _refused("uri_long", 414)
HEAD_LARGE = _refused("head_large", 431)
BODY_LARGE = _refused("body_large", 413)
NOT_IMPLEMENTED = _refused("not_implemented", 501)
VERSION = _refused("version", 505)
EXPECT = _refused("expect", 417)
LENGTH_REQUIRED = _refused("length_required", 411)
HEAD_TIMEOUT = _refused("head_timeout", 408, "cR")
BODY_TIMEOUT = _refused("body_timeout", 408, "cH")
METHOD = _refused("method", 405, error="http_request_denied")
MISDIRECTED = _refused("misdirected", 421)
ANSWERED = _outcome("ok", "LR", "-", Blame.NOBODY)
NOT_CACHED = _outcome("not_cached", "LR", "-", Blame.CLIENT, 504)
LOOP = _outcome("loop", "PR", "-", Blame.CLIENT, 502, "proxy_loop_detected")
BACKEND_CLOSED = _outcome("backend_closed", "SH", "UC", Blame.BACKEND, 502, "connection_terminated")
BAD_RESPONSE = _outcome("bad_response", "PH", "UPE", Blame.BACKEND, 502, "http_protocol_error")
RESPONSE_HEAD_LARGE = _outcome(
    "response_head_large", "PH", "UPE", Blame.BACKEND, 502, "http_response_header_section_size"
)
UPGRADE = _outcome("upgrade", "PH", "UPE", Blame.BACKEND, 502, "http_upgrade_failed")
RESPONSE_TIMEOUT = _outcome("response_timeout", "sH", "UT", Blame.BACKEND, 504, "http_response_timeout")
BODY_IDLE = _outcome("body_idle", "sD", "SI", Blame.BACKEND, 0, "connection_read_timeout")
BAD_BODY = _outcome("bad_response", "PD", "UPE", Blame.BACKEND, 0, "http_protocol_error")
KILLED_BY_OPERATOR = _outcome("killed", "KD", "-", Blame.NOBODY)


class TryError(Enum):
    """Why one try at a backend failed. Values are the record's words.

    With all but the last four nothing was sent: another backend may be tried for anybody.
    """

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RESET = "reset"
    DNS = "dns"
    TLS = "tls"
    TLS_TIMEOUT = "tls_timeout"
    LOCAL = "local_resource"
    CLOSED = "closed"
    SILENT = "response_timeout"
    NONSENSE = "bad_response"
    STATUS = "status"

    @property
    def outcome(self) -> Outcome:
        """How a session ends when this was its last try."""
        return _LAST_TRY[self]

    @property
    def counts(self) -> bool:
        """Whether it is the backend's failure; running out of our own descriptors is not."""
        return self is not TryError.LOCAL


_LAST_TRY = {
    TryError.REFUSED: REFUSED,
    TryError.UNREACHABLE: REFUSED,
    TryError.RESET: REFUSED,
    TryError.TIMEOUT: CONNECT_TIMEOUT,
    TryError.DNS: DNS,
    TryError.TLS: BACKEND_TLS,
    TryError.TLS_TIMEOUT: CONNECT_TIMEOUT,
    TryError.LOCAL: LOCAL_RESOURCE,
    TryError.CLOSED: BACKEND_CLOSED,
    TryError.SILENT: RESPONSE_TIMEOUT,
    TryError.NONSENSE: BAD_RESPONSE,
    TryError.STATUS: OK,
}
