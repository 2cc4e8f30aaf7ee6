"""The answers that are not a backend's: failures, redirects, what the configuration says.

Owns their fields and texts. Refuses to know framing, the connection and who is asked: an answer here is a status,
fields and a body, and whoever sends it adds the length and leaves the body out where it must not be. In no answer is
anything of the request, of an address or of a version, but for the request's id.
"""

from __future__ import annotations

import re

from lbproxy.errors import Outcome
from lbproxy.http.accept import Form, preferred_form
from lbproxy.http.phrases import phrase
from lbproxy.model_http import ErrorPage, FixedAnswer

# Ids are ours or those of peers that are trusted; even so they are shown only where they cannot be anything but an id.
_ID = re.compile(rb"[0-9A-Za-z._~:+/=-]{1,128}")
_NOT_IN_LOCATION = re.compile(rb'[\x00-\x20"<>\\^`{|}\x7f-\xff]')
_NOT_IN_STRING = re.compile(rb"[^\x20-\x7e]")
_NO_CONTENT = (204, 205, 304)

_PLAIN = b"text/plain; charset=utf-8"
_CONTENT_TYPES: dict[Form, bytes] = {
    "html": b"text/html; charset=utf-8",
    "json": b"application/json",
    "text": _PLAIN,
}
_NO_STORE = (b"Cache-Control", b"no-store")

_HTML = (
    b"<!DOCTYPE html>\n"
    b'<html lang="en">\n'
    b"<head>\n"
    b'<meta charset="utf-8">\n'
    b'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    b"<title>%(status)d %(phrase)b</title>\n"
    b"<style>\n"
    b":root { color-scheme: light dark; --back: #fff; --text: #222; --faint: #666 }\n"
    b"@media (prefers-color-scheme: dark) { :root { --back: #18191b; --text: #eee; --faint: #aaa } }\n"
    b"body { background: var(--back); color: var(--text); font: 1em/1.5 system-ui, sans-serif; margin: 15vh 8vw }\n"
    b"h1 { font-size: 1.6em } p { color: var(--faint) } code { overflow-wrap: anywhere }\n"
    b"</style>\n"
    b"</head>\n"
    b"<body>\n"
    b"<h1>%(status)d %(phrase)b</h1>\n"
    b"<p>Outcome: <code>%(word)b</code></p>\n"
    b"%(id)b"
    b"</body>\n"
    b"</html>\n"
)
_HTML_ID = b"<p>Request ID: <code>%b</code></p>\n"
_JSON = b'{"status": %(status)d, "phrase": "%(phrase)b", "outcome": "%(word)b"%(id)b}\n'
_JSON_ID = b', "request_id": "%b"'
_TEXT = b"%(status)d %(phrase)b\noutcome: %(word)b\n%(id)b"
_TEXT_ID = b"request id: %b\n"
_BODIES: dict[Form, tuple[bytes, bytes]] = {
    "html": (_HTML, _HTML_ID),
    "json": (_JSON, _JSON_ID),
    "text": (_TEXT, _TEXT_ID),
}


class Answer:
    """A whole answer. `fields` are names and values, without those of framing (Content-Length, Connection, Date)."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {len(self.body)} bytes>"


def error_answer(
    outcome: Outcome,
    *,
    request_id: bytes,
    accept: bytes | None,
    retry_after: int | None = None,
    allow: bytes | None = None,
    page: ErrorPage | None = None,
    next_hop: bytes | None = None,
) -> Answer:
    """What a client is told of a failure: status, phrase, outcome and request id, in the form it prefers.

    `retry_after` is in seconds. `page` stands in place of the text, whatever is preferred. `next_hop` is told in
    Proxy-Status (RFC 9209, section 2.1.2) when it is given. Raises ValueError for an outcome that has no status:
    there the connection is cut.
    """
    status = outcome.status
    if not status:
        raise ValueError(f"the outcome {outcome.word} ends the connection, it has no answer")
    if page is not None:
        content_type, body = page.content_type.encode("ascii"), page.body
    else:
        form = preferred_form(accept)
        content_type, body = _CONTENT_TYPES[form], _body(form, status, outcome.word, request_id)
    fields = [(b"Content-Type", content_type), _NO_STORE]
    if outcome.error:
        told = b"lbproxy; error=" + outcome.error.encode("ascii")
        fields.append((b"Proxy-Status", told if next_hop is None else told + b"; next-hop=" + _string(next_hop)))
    if retry_after is not None:
        fields.append((b"Retry-After", b"%d" % retry_after))
    if allow is not None:
        fields.append((b"Allow", allow))
    return Answer(status, _with_id(fields, request_id), body)


def redirect_answer(status: int, location: bytes, request_id: bytes) -> Answer:
    """An answer that sends the client to `location`, a URI reference.

    Whatever may not be in one, and could be mistaken for the end of the field, is percent-encoded (RFC 3986,
    section 2.1). The body does not repeat it.
    """
    safe = _NOT_IN_LOCATION.sub(lambda found: b"%%%02X" % found[0][0], location)
    fields = [(b"Content-Type", _PLAIN), (b"Location", safe)]
    return Answer(status, _with_id(fields, request_id), b"%d %b\n" % (status, phrase(status)))


def fixed_answer(answer: FixedAnswer, request_id: bytes) -> Answer:
    """The answer that is written in the configuration. Fields written there take the place of those made here."""
    fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in answer.fields]
    written = {name.lower() for name, _ in fields}
    if answer.body and b"content-type" not in written:
        fields.insert(0, (b"Content-Type", answer.content_type.encode("ascii")))
    body = b"" if answer.status in _NO_CONTENT else answer.body
    return Answer(answer.status, fields if b"x-request-id" in written else _with_id(fields, request_id), body)


def _body(form: Form, status: int, word: str, request_id: bytes) -> bytes:
    text, about_id = _BODIES[form]
    shown = about_id % request_id if _ID.fullmatch(request_id) else b""
    return text % {b"status": status, b"phrase": phrase(status), b"word": word.encode("ascii"), b"id": shown}


def _with_id(fields: list[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    if _ID.fullmatch(request_id):
        fields.append((b"X-Request-ID", request_id))
    return fields


def _string(raw: bytes) -> bytes:
    """A String of RFC 8941, section 3.3.3: printable ASCII in quotes."""
    return b'"' + _NOT_IN_STRING.sub(b"?", raw).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
