"""What becomes of the fields of an answer when its body is packed or unpacked here."""

from __future__ import annotations

from itertools import product

import pytest

from lbproxy.compress.heads import compressed_fields, confirming_fields, decoded_fields, varied_fields, weak
from lbproxy.http.edits import lines
from lbproxy.http.messages import Field
from tests.compress.compress_rig import fields

VARIES = {
    None: "Accept-Encoding",
    "": "Accept-Encoding",
    "Origin": "Origin, Accept-Encoding",
    "Origin,": "Origin, Accept-Encoding",
    "Origin, ACCEPT-encoding": "Origin, ACCEPT-encoding",
    "*": "*",
    "Origin, *": "Origin, *",
    "X-Accept-Encoding": "X-Accept-Encoding, Accept-Encoding",
}
DIGESTS = ("Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest")


def said(changed: list[Field]) -> dict[str, str]:
    """The fields by name, each of which has to be there once, and its line to say the same."""
    told = {}
    for name, value, line in changed:
        assert name.decode() not in told
        written, colon, rest = line.partition(b": ")
        assert (written.lower(), colon, rest) == (name, b": ", value + b"\r\n")
        told[name.decode()] = value.decode()
    return told


@pytest.mark.parametrize(("tag", "vary"), list(product([None, '"x"', 'W/"x"', "x", 'w/"x"', '"x'], VARIES)))
@pytest.mark.parametrize("own", [None, "identity", "br"])
def test_fields_are_right_in_every_combination(tag: str | None, vary: str | None, own: str | None) -> None:
    pairs = [("Content-Type", "text/html"), ("Date", "x")]
    pairs += [("ETag", tag)] if tag is not None else []
    pairs += [("Vary", vary)] if vary is not None else []
    pairs += [("Content-Encoding", own)] if own is not None else []
    pairs += [(name, "x") for name in DIGESTS]
    before = fields(*pairs)
    kept = before.copy()

    expected = {"content-type": "text/html", "date": "x", "vary": VARIES[vary]}
    if tag in ('"x"', 'W/"x"'):
        expected["etag"] = 'W/"x"'
    assert said(decoded_fields(before)) == expected
    for coding in ("gzip", "br", "zstd"):
        assert said(compressed_fields(before, coding.encode())) == expected | {"content-encoding": coding}

    plain = dict(kept_pairs(kept)) | {"vary": VARIES[vary]}
    assert said(varied_fields(before)) == plain
    assert before == kept


def kept_pairs(kept: list[Field]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value, _ in kept]


def test_fields_that_stay_keep_their_order_and_their_lines() -> None:
    before = fields(("server", "a"), ("X-B", "b"), ("Accept-Ranges", "bytes"), ("set-COOKIE", "c"), ("Set-Cookie", "d"))
    assert lines(compressed_fields(before, b"gzip")) == (
        b"server: a\r\nX-B: b\r\nset-COOKIE: c\r\nSet-Cookie: d\r\nVary: Accept-Encoding\r\nContent-Encoding: gzip\r\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["Origin", "Accept"], ["Origin", "Accept, Accept-Encoding"]),
        (["Accept-Encoding", "Origin"], ["Accept-Encoding", "Origin"]),
        (["Origin", "accept-encoding"], ["Origin", "accept-encoding"]),
        (["*", "Origin"], ["*", "Origin"]),
    ],
)
def test_of_several_vary_fields_one_names_it(before: list[str], after: list[str]) -> None:
    changed = varied_fields(fields(*(("Vary", value) for value in before)))
    assert [value.decode() for _, value, _ in changed] == after


def test_doing_it_twice_changes_nothing_more() -> None:
    once = compressed_fields(fields(("ETag", '"x"'), ("Vary", "Origin")), b"gzip")
    assert compressed_fields(once, b"gzip") == once
    assert varied_fields(once) == once


@pytest.mark.parametrize(
    ("tag", "form"),
    [
        (b'"x"', b'W/"x"'),
        (b'W/"x"', b'W/"x"'),
        (b'""', b'W/""'),
        (b'"a,b c"', b'W/"a,b c"'),
        (b'w/"x"', b""),
        (b"x", b""),
        (b"", b""),
        (b'"', b""),
        (b'W/"', b""),
        (b"W/x", b""),
        (b'"a"b"', b""),
    ],
)
def test_the_weak_form_of_a_tag(tag: bytes, form: bytes) -> None:
    assert weak(tag) == form


@pytest.mark.parametrize(
    ("tag", "asked", "told"),
    [
        # The client has what was packed here.
        ('"x"', 'W/"x"', 'W/"x"'),
        ('"x"', '"a", W/"x"', 'W/"x"'),
        # It has the backend's own, or both.
        ('"x"', '"x"', '"x"'),
        ('"x"', 'W/"x", "x"', '"x"'),
        # It has another one, any one, or told nothing.
        ('"x"', 'W/"y"', '"x"'),
        ('"x"', '"W/"x', '"x"'),
        ('"x"', "*", '"x"'),
        ('"x"', None, '"x"'),
        ('W/"x"', '"x"', 'W/"x"'),
        ('W/"x"', 'W/"x"', 'W/"x"'),
        ("x", "W/x", "x"),
    ],
)
def test_a_304_names_the_tag_that_the_client_knows(tag: str, asked: str | None, told: str) -> None:
    before = fields(("Date", "d"), ("ETag", tag))
    changed = said(confirming_fields(before, asked.encode() if asked is not None else None))
    assert changed["etag"] == told
    assert ("vary" in changed) is (tag != told)
    assert before == fields(("Date", "d"), ("ETag", tag))


def test_a_304_without_a_tag_stays_as_it_is() -> None:
    before = fields(("Date", "d"))
    assert confirming_fields(before, b'W/"x"') == before
