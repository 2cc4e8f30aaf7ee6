"""What the three profiles allow: protocol versions, ciphers, groups.

They follow Mozilla's "Server Side TLS" recommendations, version 5.7, without its finite-field Diffie-Hellman ciphers
(which no client needs that knows TLS 1.2) and with the hybrid key exchange X25519MLKEM768 in front, where OpenSSL has
it.
Owns the lists; refuses to know OpenSSL's calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL

from lbproxy.model_tls import Profile

_TLS13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_AEAD = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_OLD = (
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
    "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
    "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA"
)

# In one list, without a "/": a client that sent a key share for any of them is not asked for another (an extra round
# trip), although the hybrid is preferred.
GROUPS = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")


@dataclass(frozen=True, slots=True)
class Suite:
    """One profile: the least version, and the ciphers of TLS 1.2 and 1.3 in the order in which we prefer them."""

    least_version: int
    ciphers: str
    ciphersuites: str = _TLS13


SUITES: dict[Profile, Suite] = {
    "modern": Suite(SSL.TLS1_3_VERSION, _AEAD),
    "intermediate": Suite(SSL.TLS1_2_VERSION, _AEAD),
    # Level 0, because OpenSSL has TLS 1.0 and 1.1, which sign with SHA-1, in no other.
    "old": Suite(SSL.TLS1_VERSION, f"{_AEAD}:{_OLD}:@SECLEVEL=0"),
}
