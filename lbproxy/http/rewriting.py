"""What is asked of a backend in place of what the client asked for: another path, query or Host.

Owns the replacing, and that nothing comes out of it which the reader of requests would not let in (T13, T17, T18):
pieces that are harmless alone may make something else together. Refuses to know routes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError, RequestHead
from lbproxy.http.target import normalise, read_target
from lbproxy.http.templates import Facts, Template, TemplateError
from lbproxy.model_http import Rewrite

_AFTER = "after rewriting, "
_DOT_SEGMENT = re.compile(rb"/\.\.?(?:[/;]|\Z)")

# A template that makes nothing good of these never will.
_SAMPLE = Facts(b"https", b"a.example", b"443", b"/a", b"a", b"/a?a", b"192.0.2.1", b"a")


class Rewriter:
    """The rewrite of one route, ready to be applied."""

    __slots__ = ("_add", "_below", "_host", "_merge", "_path", "_regex", "_strip")

    def __init__(self, rewrite: Rewrite, merge_slashes: bool) -> None:
        """See `of`."""
        self._merge = merge_slashes
        self._regex = _compiled(rewrite.regex) if rewrite.regex else None
        groups = 0 if self._regex is None else self._regex.groups
        self._path = Template(rewrite.path, groups) if rewrite.path else None
        self._host = Template(rewrite.host, groups) if rewrite.host else None
        self._strip = self._prefix(rewrite.strip_prefix)
        self._below = self._strip.rstrip(b"/") + b"/"
        self._add = self._prefix(rewrite.add_prefix).rstrip(b"/")
        sample = [b"a"] * groups
        try:
            if self._path is not None:
                self._read(self._path.render(_SAMPLE, sample), False)
            if self._host is not None:
                _authority(self._host.render(_SAMPLE, sample))
        except ValueError as problem:
            raise TemplateError(f"the rewrite to {rewrite.host}{rewrite.path} cannot work: {_what(problem)}") from None

    @classmethod
    def of(cls, rewrite: Rewrite, merge_slashes: bool = True) -> Rewriter:
        """What is configured. Raises TemplateError with a sentence for the user where it could never work."""
        if (rewrite.strip_prefix or rewrite.add_prefix) and (rewrite.regex or rewrite.path):
            raise TemplateError("a rewrite either strips and adds prefixes or replaces the path; it cannot do both")
        if rewrite.regex and not rewrite.path:
            raise TemplateError(f"the rewrite of {rewrite.regex!r} needs the path to put in its place")
        return cls(rewrite, merge_slashes)

    def apply(self, head: RequestHead, facts: Facts) -> tuple[bytes, bytes | None, bytes]:
        """Path, query (None for none) and Host for the backend; `facts.path` is the path that the route goes by.

        A prefix is taken off where the path is at or below it: "/api" off "/api/a" and "/api", not off "/apis". Where
        a regular expression does not match, nothing is rewritten. The "*" of OPTIONS stays. A "?" in the new path
        begins the query that replaces the old one; with nothing behind it there is none.

        Raises ValueError where the result is not fit to be sent. Clients can bring that about, and are answered 400.
        """
        path, query, authority = facts.path, head.query, head.authority
        groups: Sequence[bytes] = ()
        if self._regex is not None:
            found = self._regex.fullmatch(path)
            if found is None:
                return path, query, authority
            groups = found.groups(b"")
        if self._host is not None:
            authority = _authority(self._host.render(facts, groups))
        if path[:1] == b"/":
            made = self._add + self._stripped(path) if self._path is None else self._path.render(facts, groups)
            if made != path:
                path, new = self._read(made, head.encoded_slash)
                query = query if new is None else new or None
        return path, query, authority

    def _stripped(self, path: bytes) -> bytes:
        below = self._below
        if path.startswith(below):
            return path[len(below) - 1 :]
        return b"/" if path == self._strip else path

    def _read(self, target: bytes, encoded_slash: bool) -> tuple[bytes, bytes | None]:
        """What a request for `target` would be normalised to, and its query, b"" for an empty one. Dot segments are
        refused where the reader resolves them: they lead out of the place that the route is for.
        """
        # Not even where empty segments are kept is there one in front: "//name" is a host to some readers.
        target = b"/" + target.lstrip(b"/")
        try:
            path, query = read_target(target)
            merged, unmerged, slash = normalise(path)
        except HttpError as problem:
            raise ValueError(_AFTER + problem.message) from None
        if _DOT_SEGMENT.search(path):
            raise ValueError(_AFTER + "the path has a segment of dots")
        if slash and not encoded_slash:
            raise ValueError(_AFTER + "the path has an encoded slash")
        return merged if self._merge else unmerged, query

    def _prefix(self, text: str) -> bytes:
        """A configured prefix as paths have it."""
        if not text:
            return b""
        try:
            if not text.startswith("/") or "?" in text or not text.isascii():
                raise ValueError('it must begin with "/", be ASCII and have no "?"')
            return self._read(text.encode("ascii"), False)[0]
        except ValueError as problem:
            raise TemplateError(f"the prefix {text!r} cannot be used: {_what(problem)}") from None


def _what(problem: ValueError) -> str:
    """The problem as it is before anything was rewritten."""
    return str(problem).removeprefix(_AFTER)


def _compiled(text: str) -> re.Pattern[bytes]:
    if not text.isascii():
        raise TemplateError(f"{text!r} matches no path, which is ASCII; write other characters as %C3%A9")
    try:
        return re.compile(text.encode("ascii"))
    except re.error as problem:
        raise TemplateError(f"{text!r} is not a regular expression: {problem}") from None


def _authority(host: bytes) -> bytes:
    # No port is taken for the default one: that is the client's scheme, the backend's may be another.
    try:
        return normalise_host(host, 0)[1]
    except HttpError as problem:
        raise ValueError(_AFTER + problem.message) from None
