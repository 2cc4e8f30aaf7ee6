"""What is wrong with a file of certificates or keys: one sentence about one path.

Refuses to know who reads it, and whether it keeps the proxy from starting.
"""

from __future__ import annotations


class CertificateError(Exception):
    """A file that cannot be used; `message` is the sentence about it, without its path."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
