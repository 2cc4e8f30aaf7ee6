"""Certificates and keys as files: found, read and judged, without OpenSSL, sockets or a clock.

Owns what makes a certificate fit to be served, and a sentence for everything that may be wrong with one (threats.md
L3, L6, L7, L12, L13). Refuses to know handshakes, and when files are to be read again.

One file per question: `files` how a file and its PEM blocks are read, `content` what the blocks are, `keys` which key
is the certificate's, `chain` who issued whom, `stapling` what an OCSP response is for, `reading` what a pair is,
`finding` which files are meant, `judging` what clients will think of them, `names` which is for which name, `trust`
whom we trust, `ours` which one we show as a client, `peer` who a client is.
"""

from lbproxy.certificates.finding import Loaded, find, load_all
from lbproxy.certificates.judging import judge
from lbproxy.certificates.names import NameIndex, covers
from lbproxy.certificates.ours import only_pair
from lbproxy.certificates.peer import PeerCertificate, read_peer
from lbproxy.certificates.problem import CertificateError
from lbproxy.certificates.reading import Pair, load_pair
from lbproxy.certificates.remark import Remark
from lbproxy.certificates.trust import (
    Trust,
    asked_trust,
    judge_revocations,
    load_authorities,
    load_revocations,
    load_trust,
    read_authorities,
    read_revocations,
    system_authorities,
)

__all__ = [
    "CertificateError",
    "Loaded",
    "NameIndex",
    "Pair",
    "PeerCertificate",
    "Remark",
    "Trust",
    "asked_trust",
    "covers",
    "find",
    "judge",
    "judge_revocations",
    "load_all",
    "load_authorities",
    "load_pair",
    "load_revocations",
    "load_trust",
    "only_pair",
    "read_authorities",
    "read_peer",
    "read_revocations",
    "system_authorities",
]
