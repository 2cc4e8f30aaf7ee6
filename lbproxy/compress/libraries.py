"""Which libraries of codings there are.

Owns looking for them: each is optional, and who has none of them has zlib. Refuses to know how they are called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find(*names: str) -> Any:
    """The first of these modules that there is, None without any."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def find_brotli() -> Any:
    """The library of br, if it is one that unpacks within bounds."""
    # Older ones cannot be told how much to unpack at once, so a bomb would go off in their hands.
    found = find("brotli")
    return found if hasattr(getattr(found, "Decompressor", None), "can_accept_more_data") else None


isal: Any = find("isal.isal_zlib")
brotli: Any = find_brotli()
# It belongs to the standard library since Python 3.14.
zstd: Any = find("compression.zstd", "backports.zstd")
