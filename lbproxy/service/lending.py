"""Content as a file that nobody else sees, for those who read files themselves.

What was read and judged is then what is used, whatever has become of the file on disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """The path of a file with this content, for the length of a with block."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as stream:
            stream.write(content)
            stream.flush()
            yield stream.name
        return
    descriptor = os.memfd_create("lbproxy")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        yield f"/proc/self/fd/{descriptor}"
