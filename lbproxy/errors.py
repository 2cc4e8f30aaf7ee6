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
    `flag` is the Envoy-style response flag ("-" for none).
    """

    word: str
    state: str
    flag: str
    blame: Blame

    def __str__(self) -> str:
        return self.word


def _outcome(word: str, state: str, flag: str, blame: Blame) -> Outcome:
    return Outcome(word, state, flag, blame)


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
DENIED = _outcome("denied", "PC", "-", Blame.CLIENT)
LIMITED = _outcome("limited", "PC", "RL", Blame.CLIENT)
PROXY_HEADER_BAD = _outcome("proxy_header", "PR", "DPE", Blame.CLIENT)
PROXY_HEADER_TIMEOUT = _outcome("proxy_header_timeout", "cR", "DPE", Blame.CLIENT)
CLIENT_HELLO_BAD = _outcome("client_hello", "PR", "DPE", Blame.CLIENT)
CLIENT_HELLO_TIMEOUT = _outcome("client_hello_timeout", "cR", "DPE", Blame.CLIENT)
TLS_HANDSHAKE = _outcome("tls_handshake", "PR", "DPE", Blame.CLIENT)
TLS_HANDSHAKE_TIMEOUT = _outcome("tls_handshake_timeout", "cR", "DPE", Blame.CLIENT)
CLIENT_GONE_IN_HEADER = _outcome("client_gone", "CR", "DC", Blame.CLIENT)
NO_ROUTE = _outcome("no_route", "LR", "NR", Blame.CLIENT)
NO_BACKEND = _outcome("no_backend", "SC", "UH", Blame.BACKEND)
DNS = _outcome("dns", "SC", "DF", Blame.BACKEND)
REFUSED = _outcome("refused", "SC", "UF", Blame.BACKEND)
CONNECT_TIMEOUT = _outcome("connect_timeout", "sC", "UF", Blame.BACKEND)
BACKEND_TLS = _outcome("backend_tls", "SC", "UF", Blame.BACKEND)
QUEUE_FULL = _outcome("queue_full", "sQ", "UO", Blame.PROXY)
QUEUE_TIMEOUT = _outcome("queue_timeout", "sQ", "UO", Blame.PROXY)
SHED = _outcome("shed", "sQ", "UO", Blame.PROXY)
LOCAL_RESOURCE = _outcome("local_resource", "RC", "-", Blame.PROXY)
INTERNAL = _outcome("internal", "IH", "-", Blame.PROXY)
KILLED_BY_OPERATOR = _outcome("killed", "KD", "-", Blame.NOBODY)


class TryError(Enum):
    """Why one try at a backend failed; all of class A, nothing was sent to it. Values are the record's words."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RESET = "reset"
    DNS = "dns"
    TLS = "tls"
    TLS_TIMEOUT = "tls_timeout"
    LOCAL = "local_resource"

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
}
