"""Which certificate we show to backends: the one in its file, or the only one in its directory.

Owns that there is just one. Refuses to know how pairs are found and read.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.certificates.problem import CertificateError
from lbproxy.certificates.reading import Pair


def only_pair(path: str, pairs: Sequence[Pair]) -> Pair:
    """The one among `pairs`, which were read from the file or the directory at `path`. Raises CertificateError."""
    if len(pairs) != 1:
        raise CertificateError(path, f"holds {len(pairs)} certificates, we can show only one; name its file")
    return pairs[0]
