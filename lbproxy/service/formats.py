"""How a record becomes a line: JSON, the common and the combined format of web servers, or a text of the user's.

Owns the lines and their escapes. Refuses to know where they go. Whatever a client has sent, a line stays one line and
its quotes stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from lbproxy import errors
from lbproxy.errors import Outcome
from lbproxy.http.record_template import read_template
from lbproxy.model import RecordSettings
from lbproxy.session.exchange_record import CLIENT_LEFT, ExchangeRecord

# Puts a record into a buffer, at its end with an offset of -1, without the end of the line.
Encode = Callable[[Any, bytearray, int], None]

_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# A backslash with two digits is how records write a byte that is not ASCII: it stays as it is.
_ODD = re.compile(r'["\x00-\x1f\x7f-\U0010ffff]|\\(?!x[0-9a-f]{2})')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
# What a TCP session would have been told if it had been a request.
_STATUSES = {(one.word, one.state): one.status for one in vars(errors).values() if isinstance(one, Outcome)}


def encoder_of(settings: RecordSettings) -> Encode:
    """How these settings want records to be written. Raises ValueError for a bad template."""
    if settings.format == "common":
        return _common
    if settings.format == "combined":
        return _combined
    if settings.format == "template":
        return _filled(settings.template)
    return msgspec.json.Encoder().encode_into


def _common(record: Any, buffer: bytearray, _offset: int) -> None:
    buffer += _common_line(record).encode("ascii")


def _combined(record: Any, buffer: bytearray, _offset: int) -> None:
    referer = user_agent = "-"
    if isinstance(record, ExchangeRecord):
        referer, user_agent = _escaped(record.referer), _escaped(record.user_agent)
    buffer += f'{_common_line(record)} "{referer}" "{user_agent}"'.encode("ascii")


def _common_line(record: Any) -> str:
    """Host, identity, user, time, request, status and bytes, as Apache writes them (mod_log_config: `%h %l %u %t "%r"
    %>s %O`); the bytes are those with the head.
    """
    given = str(record.bytes_out or "-")
    return f'{_host(record.client)} - - [{_time(record.ts)}] "{_request(record)}" {_status(record)} {given}'


def _host(client: str) -> str:
    if client.startswith("["):
        return client[1 : client.index("]")]
    return _escaped(client.partition(":")[0])


def _time(stamp: str) -> str:
    """The record's time, RFC 3339 in UTC, as 10/Oct/2000:13:55:36 +0000."""
    return f"{stamp[8:10]}/{_MONTHS[int(stamp[5:7])]}/{stamp[:4]}:{stamp[11:19]} +0000"


def _request(record: Any) -> str:
    """The request line, of the path that routes went by. A TCP session tells whom it went to."""
    if not isinstance(record, ExchangeRecord):
        return _escaped(f"TCP {record.pool or '-'}/{record.backend or '-'} -" if record.protocol == "tcp" else "")
    if not record.method:
        return "-"
    query = f"?{record.query}" if record.query else ""
    return _escaped(f"{record.method} {record.path}{query} {record.protocol}")


def _status(record: Any) -> str:
    if isinstance(record, ExchangeRecord):
        return str(record.status or "-")
    if record.protocol != "tcp":
        return "-"
    if record.outcome == errors.OK.word:
        return "200"
    if record.outcome == errors.CLIENT_GONE_IN_DATA.word:
        return str(CLIENT_LEFT)
    return str(_STATUSES.get((record.outcome, record.state[:2])) or "-")


def _filled(template: str) -> Encode:
    parts = read_template(template)

    def encode(record: Any, buffer: bytearray, _offset: int) -> None:
        line = ""
        for literal, name in parts:
            line += literal
            if name:
                line += _value(getattr(record, name, ""))
        buffer += line.encode()

    return encode


def _value(value: str | float | bool) -> str:
    if isinstance(value, str):
        return _escaped(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-1" if value == -1 else str(value)


def _escaped(text: str) -> str:
    """`text` as Apache writes it: quotes and backslashes behind a backslash, control characters as \\n or \\x1b, and
    what is not ASCII as the bytes of UTF-8; "-" for none.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text or "-"
    return _ODD.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    one = found[0]
    return _SHORT.get(one) or "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogatepass"))
