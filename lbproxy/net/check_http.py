"""What an HTTP check asks, and which answers pass.

Owns the request, the judgement of the answer's status, and the search in its body. Answers are read as strictly as
those for clients: whoever fails here would be a 502 there. L7OK: the answer passes; L7STS: another status; L7RSP: no
answer that can be read, or not the body that is expected.
"""

from __future__ import annotations

from lbproxy.addresses import Address, join_host_port
from lbproxy.errors import BAD_RESPONSE
from lbproxy.http.chunks import ChunkReader
from lbproxy.http.framing import body_of_response
from lbproxy.http.lines import CRLF
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, HttpError, ResponseHead
from lbproxy.http.response_head import ResponseReader
from lbproxy.model_http import HttpCheck
from lbproxy.net.check_tcp import Verdict

BODY_BYTES = 64 * 1024
MOST_INTERIM = 16

_PASSED = "L7OK", ""
# It remembers heads, which checks see again and again, and holds nothing of a message.
_READER = ResponseReader()
# What these methods send has a meaning, so that servers ask for a length (RFC 9110, 8.6).
_WITH_LENGTH = ("POST", "PUT", "PATCH")


def request_bytes(settings: HttpCheck, address: Address, *, secure: bool, http10: bool) -> bytes:
    """The request for a backend at `address`. A configured field stands in place of ours of the same name, but for
    Connection.
    """
    fields = {"Host": settings.host or authority(address, secure=secure), "User-Agent": "lbproxy-check"}
    if settings.method in _WITH_LENGTH:
        fields["Content-Length"] = "0"
    given = {name.lower() for name, _ in settings.headers}
    lines = [f"{settings.method} {settings.path} HTTP/1.{0 if http10 else 1}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in settings.headers if name.lower() != "connection"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii")


def authority(address: Address, *, secure: bool) -> str:
    """How Host names a backend: without the scheme's own port, and without the dot that is for the resolver only."""
    if address.kind == "unix":
        return "localhost"
    host = address.host.removesuffix(".")
    if address.port == (443 if secure else 80):
        return f"[{host}]" if ":" in host else host
    return join_host_port(host, address.port)


class HttpQuestion:
    """One request, and its answer as far as it is needed. See Question of check_tcp.py."""

    waits = True

    def __init__(self, settings: HttpCheck, request: bytes) -> None:
        self.send = request
        self._settings = settings
        self._unread = b""
        self._interim = 0
        self._body: _Body | None = None

    def heard(self, data: bytes) -> Verdict | None:
        """See Question."""
        try:
            if self._body is not None:
                return self._body.heard(data)
            self._unread += data
            return self._read_heads()
        except HttpError as problem:
            return "L7RSP", f"{problem.message} (rule={problem.rule})"

    def ended(self, cut: str) -> Verdict:
        """See Question."""
        if self._body is not None:
            return self._body.ended(cut)
        what = "it ended within the head of its answer" if self._unread else "it ended without an answer"
        return "L7RSP", f"{what}: {cut}" if cut else what

    def _read_heads(self) -> Verdict | None:
        while True:
            found = _READER.read(self._unread)
            if found is None:
                return None
            head, consumed = found
            self._unread = self._unread[consumed:]
            if head.status >= 200:
                return self._judge(head)
            self._skip(head)

    def _skip(self, head: ResponseHead) -> None:
        """An interim answer. Raises HttpError for one that may not be."""
        if head.status == 101:
            raise HttpError(BAD_RESPONSE, "C10", "it changes to a protocol that nobody asked for")
        self._interim += 1
        if self._interim > MOST_INTERIM:
            raise HttpError(BAD_RESPONSE, "C11", f"more than {MOST_INTERIM} interim answers")

    def _judge(self, head: ResponseHead) -> Verdict | None:
        if not any(least <= head.status <= most for least, most in self._settings.statuses):
            return "L7STS", f"status {head.status}"
        if not self._settings.body:
            return _PASSED
        length = body_of_response(head, self._settings.method.encode("ascii"))
        self._body = _Body(self._settings.body, length)
        return self._body.heard(self._unread)


class _Body:
    """The beginning of a body, in which `wanted` is looked for once the framing is taken off.

    Of chunks only whole ones count: how much is known of others depends on the segments.
    """

    def __init__(self, wanted: bytes, length: int) -> None:
        """`length` is that of the body, or CHUNKED, or UNTIL_CLOSE."""
        self._wanted = wanted
        self._length = length
        self._found = bytearray()
        self._chunks = ChunkReader() if length == CHUNKED else None
        self._unread = b""
        self._chunk = bytearray()

    def heard(self, data: bytes) -> Verdict | None:
        """The next bytes; the verdict if they allow one. Raises HttpError."""
        if self._chunks is not None:
            return self._heard_chunks(self._chunks, data)
        if self._length != UNTIL_CLOSE:
            data = data[: self._length - len(self._found)]
        return self._search(data, whole=len(self._found) + len(data) == self._length)

    def ended(self, cut: str) -> Verdict:
        """The connection ended; see Question."""
        if self._length == UNTIL_CLOSE and not cut:
            return self._missing()
        what = "it ended within the body of its answer"
        return "L7RSP", f"{what}: {cut}" if cut else what

    def _heard_chunks(self, chunks: ChunkReader, data: bytes) -> Verdict | None:
        self._unread += data
        try:
            consumed = chunks.read(self._unread)
        except HttpError:
            # What stands in front of the fault would have been enough, had it come alone.
            verdict = self._search(self._payload(chunks.pieces), whole=False)
            if verdict is not None:
                return verdict
            raise
        verdict = self._search(self._payload(chunks.pieces), whole=chunks.done)
        self._unread = self._unread[consumed:]
        if verdict is None and len(self._found) + len(self._chunk) >= BODY_BYTES:
            return self._search(bytes(self._chunk), whole=True)
        return verdict

    def _payload(self, pieces: list[tuple[int, int]]) -> bytes:
        """What the chunks hold that have ended with these pieces; the rest is kept in `_chunk`."""
        data, parts = self._unread, []
        # Its payload was complete before, and now there is what ends it.
        if self._chunk and (pieces[0][0] > 0 if pieces else data.startswith(CRLF)):
            parts.append(bytes(self._chunk))
            self._chunk.clear()
        for start, end in pieces:
            self._chunk += data[start:end]
            if data.startswith(CRLF, end):
                parts.append(bytes(self._chunk))
                self._chunk.clear()
        return b"".join(parts)

    def _search(self, data: bytes, *, whole: bool) -> Verdict | None:
        """Look at what `data` adds; `whole` when the body ends with it."""
        before = max(0, len(self._found) - len(self._wanted) + 1)
        self._found += data[: BODY_BYTES - len(self._found)]
        if self._found.find(self._wanted, before) >= 0:
            return _PASSED
        return self._missing() if whole or len(self._found) == BODY_BYTES else None

    def _missing(self) -> Verdict:
        where = "the first 64 KiB of its body" if len(self._found) == BODY_BYTES else "its body"
        return "L7RSP", f"what is expected is not in {where}"
