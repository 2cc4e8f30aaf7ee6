"""Which answers are worth compressing, and may be.

Owns the usual media types and the reasons against an answer. Refuses to know what a client accepts and how bodies are
packed. Secrets beside text that a client chose can be guessed from the length of the compressed whole (R7, BREACH), so
answers for one client alone are left out unless the route says otherwise.
"""

from __future__ import annotations

from lbproxy.compress.negotiation import IDENTITY_REFUSED, accepted
from lbproxy.http.lines import elements
from lbproxy.http.messages import Field, RequestHead, ResponseHead
from lbproxy.model_cache import CompressSettings

# Beside text/*, and what ends in +json or +xml.
_USUAL = frozenset(
    (
        b"application/ecmascript",
        b"application/javascript",
        b"application/json",
        b"application/wasm",
        b"application/x-javascript",
        b"application/xml",
        b"application/xml-dtd",
    )
)
_EVENTS = b"text/event-stream"
_GRPC = b"application/grpc"
_MULTIPART = b"multipart/"
# Media types come from backends, in few spellings each.
_MEMO = 1024
_LONGEST_SHOWN = 64


class Eligibility:
    """The rules of one route."""

    __slots__ = ("_events", "_min_size", "_private", "_reasons", "_types")

    def __init__(self, settings: CompressSettings) -> None:
        # Nothing at all is never worth it.
        self._min_size = max(1, settings.min_size)
        self._private = settings.private
        self._events = settings.events
        self._types = _USUAL | frozenset(name.lower().encode("ascii", "replace") for name in settings.types)
        self._reasons: dict[bytes, str] = {}

    def eligible(self, answer: ResponseHead, length: int) -> bool:
        """Whether this answer is to be compressed for clients that can read it. `length` is that of its body in bytes,
        or CHUNKED or UNTIL_CLOSE.
        """
        return (length < 0 or length >= self._min_size) and not self._against(answer)

    def varies(self, answer: ResponseHead) -> bool:
        """Whether what is sent for this answer depends on Accept-Encoding, so that Vary has to name it: its length is
        all that may speak against compressing it.
        """
        return not self._against(answer)

    def eligible_type(self, content_type: bytes | None) -> bool:
        """Whether bodies of this Content-Type are compressed."""
        return not self._against_type(content_type)

    def why_not(self, answer: ResponseHead, length: int, head: RequestHead) -> str:
        """What speaks against compressing this answer to this request, in a few words for records; "" for nothing.

        A client that accepts none of our codings is not a reason here: which one it gets is `negotiation.choose`'s to
        say. One that refuses plain bodies gets short ones compressed too.
        """
        if head.method == b"HEAD":
            return "HEAD"
        if head.minor == 0:
            return "HTTP/1.0"
        if _has(head.fields, b"no-transform"):
            return "request no-transform"
        reason = self._against(answer)
        if reason or length < 0:
            return reason
        if length == 0:
            return "no body"
        if length < self._min_size and not accepted(head.get(b"accept-encoding")) & IDENTITY_REFUSED:
            return "short"
        return ""

    def _against(self, answer: ResponseHead) -> str:
        """What speaks against the answer, whoever asks and whatever its length."""
        if not 200 <= answer.status <= 203:
            return f"status {answer.status}"
        content_type = None
        for name, value, _ in answer.fields:
            if name == b"content-type":
                content_type = value
            elif name == b"content-encoding" and value.lower() not in (b"identity", b""):
                return "Content-Encoding"
            elif name == b"content-range":
                return "Content-Range"
            elif name == b"set-cookie" and not self._private:
                return "Set-Cookie"
            elif name == b"cache-control":
                directives = _names(value)
                if b"no-transform" in directives:
                    return "no-transform"
                if b"private" in directives and not self._private:
                    return "private"
        return self._against_type(content_type)

    def _against_type(self, content_type: bytes | None) -> str:
        if content_type is None:
            return "no Content-Type"
        reason = self._reasons.get(content_type)
        if reason is None:
            if len(self._reasons) >= _MEMO:
                self._reasons.clear()
            self._reasons[content_type] = reason = self._judge_type(content_type)
        return reason

    def _judge_type(self, content_type: bytes) -> str:
        media = content_type.partition(b";")[0].strip(b" \t").lower()
        if media == _EVENTS or media.startswith(_GRPC):
            return "" if self._events else "events"
        if media.startswith(_MULTIPART):
            return "multipart"
        if media.startswith(b"text/") or media.endswith((b"+json", b"+xml")) or media in self._types:
            return ""
        return f"type {media[:_LONGEST_SHOWN].decode('latin-1')}"


def is_events(content_type: bytes | None) -> bool:
    """Whether this is a stream of events or gRPC: each piece has to be flushed as it comes."""
    media = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    return media == _EVENTS or media.startswith(_GRPC)


def _has(fields: list[Field], directive: bytes) -> bool:
    return any(name == b"cache-control" and directive in _names(value) for name, value, _ in fields)


def _names(value: bytes) -> list[bytes]:
    # A comma in a quoted argument gives names that are none. The worst that comes of it is a body sent as it is.
    return [member.partition(b"=")[0].rstrip(b" \t") for member in elements(value)]
