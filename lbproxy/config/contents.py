"""What a configuration holds of other files: texts of answers and secrets.

Owns their bounds, their types by name, and what a file of secrets looks like. A file that cannot be used is noted at
the key that names it. Certificates are another matter: of them only the path is kept.
"""

from __future__ import annotations

import base64
import binascii

from lbproxy.certificates import CertificateError
from lbproxy.certificates.files import read_file
from lbproxy.config.building_tls import Paths
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.units import printable

MOST_BYTES = 64 * 1024
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".htm": "text/html; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_LEAST_SECRET = 16


class Contents:
    """Reads files for the configuration; with `read` False none is opened, and all are taken to be empty."""

    def __init__(self, paths: Paths, notes: Notes, read: bool) -> None:
        self.paths = paths
        self._notes = notes
        self._reads = read

    def text(self, file: str, place: Path, content_type: str | None = None) -> tuple[bytes, str]:
        """What the file at `place` says, and its type: `content_type`, else by its name."""
        kind = content_type or next((kind for end, kind in _TYPES.items() if file.lower().endswith(end)), None)
        if kind is None:
            self._notes.error(place, f"{printable(file)} ends in none of .html, .json and .txt, so its type is unknown")
            return b"", ""
        return self._read(file, place), kind

    def secrets(self, file: str, place: Path) -> tuple[bytes, ...]:
        """The secrets of a file, one of each line; empty lines and those that begin with # are passed over."""
        found: dict[bytes, int] = {}
        octets = self._read(file, place)
        for number, line in enumerate(octets.split(b"\n"), 1):
            text = line.strip(b" \t\r")
            if not text or text.startswith(b"#"):
                continue
            secret = _secret(text)
            if secret is None:
                self._complain(place, file, f"line {number} has {len(text)} characters, a secret has at least 16")
            elif secret in found:
                self._complain(place, file, f"line {number} is the same as line {found[secret]}")
            else:
                found[secret] = number
        if octets and not found:
            self._complain(
                place, file, "holds no secret; write one on a line of its own, for example 32 random bytes in base64"
            )
        return tuple(found)

    def _read(self, file: str, place: Path) -> bytes:
        if not self._reads:
            return b""
        try:
            octets = read_file(self.paths.absolute(file))
        except CertificateError as problem:
            self._notes.error(place, printable(str(problem)))
            return b""
        if len(octets) > MOST_BYTES:
            self._complain(place, file, "is larger than 64 KiB, more than is kept in memory")
            return b""
        return octets

    def _complain(self, place: Path, file: str, sentence: str) -> None:
        self._notes.error(place, f"{printable(self.paths.absolute(file))}: {sentence}")


def _secret(text: bytes) -> bytes | None:
    """The bytes of a line: base64 if that makes enough of them, else the characters themselves; None for too few."""
    try:
        octets = base64.b64decode(text, validate=True)
    except binascii.Error:
        octets = b""
    if len(octets) >= _LEAST_SECRET and base64.b64encode(octets) == text:
        return octets
    return text if len(text) >= _LEAST_SECRET else None
