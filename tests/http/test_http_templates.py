"""Templates: what they know, what they refuse, and that no fact can end a line through them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.hosts import normalise_host
from lbproxy.http.identity import acceptable
from lbproxy.http.messages import HttpError
from lbproxy.http.target import normalise, read_target
from lbproxy.http.templates import PLACEHOLDERS, Facts, Template, TemplateError

FACTS = Facts(b"https", b"a.example", b"8443", b"/p/q", b"x=1&y", b"/p/q?x=1&y", b"2001:db8::1", b"0af7")


@pytest.mark.parametrize(
    ("text", "groups", "rendered"),
    [
        ("", (), b""),
        ("plain", (), b"plain"),
        ("{scheme}://{host}:{port}{path}?{query}", (), b"https://a.example:8443/p/q?x=1&y"),
        ("https://{host}{uri}", (), b"https://a.example/p/q?x=1&y"),
        ("{client_ip}", (), b"2001:db8::1"),
        ("{request_id}{request_id}", (), b"0af70af7"),
        ("100%", (), b"100%"),
        ("%b%s%%{host}%d", (), b"%b%s%%a.example%d"),
        ("{{host}}", (), b"{host}"),
        ("{{{host}}}", (), b"{a.example}"),
        ("}}{{", (), b"}{"),
        ("/{2}/{1}{1}", (b"a", b"b"), b"/b/aa"),
        ("{1}{host}%", (b"",), b"a.example%"),
        ("{9}", tuple(b"%d" % number for number in range(1, 10)), b"9"),
    ],
)
def test_a_template_is_filled_in(text: str, groups: tuple[bytes, ...], rendered: bytes) -> None:
    template = Template(text, len(groups))
    assert template.render(FACTS, groups) == rendered
    assert template.constant == (rendered == Template(text, len(groups)).render(OTHER, [b"?"] * len(groups)))


OTHER = Facts(b"http", b"b", b"1", b"/", b"", b"/", b"", b"00")


@pytest.mark.parametrize(
    ("text", "groups", "message"),
    [
        (
            "{hots}",
            0,
            "{hots} is not known; known are {scheme}, {host}, {port}, {path}, {query}, {uri}, {client_ip}, {r",
        ),
        ("{hots}", 2, "{request_id}, {1} to {2}"),
        ("{hots}", 1, "{request_id}, {1}"),
        ("{}", 0, "{} is not known"),
        ("{Host}", 0, "{Host} is not known"),
        ("{ host }", 0, "{ host } is not known"),
        ("{0}", 9, "{0} is not known"),
        ("{10}", 9, "{10} is not known"),
        ("{1}", 0, "{1} is a group of the regular expression, and there is none"),
        ("{3}", 2, "{3} is a group of the regular expression, which has 2"),
        ("{host", 0, 'a lonely "{"'),
        ("host}", 0, 'a lonely "}"'),
        ("{{host}", 0, 'a lonely "}"'),
        ("{ho{st}", 0, 'a lonely "{"'),
        ("a\r\nb", 0, "printable ASCII"),
        ("a\n", 0, "printable ASCII"),
        ("a\0", 0, "printable ASCII"),
        ("\x7f", 0, "printable ASCII"),
        ("é", 0, "printable ASCII"),
        ("{²}", 9, "printable ASCII"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_with_a_sentence(text: str, groups: int, message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Template(text, groups)
    assert message in str(refused.value)
    assert str(refused.value).isprintable()


def from_target(raw: bytes) -> tuple[bytes, bytes | None]:
    try:
        path, query = read_target(raw)
        return normalise(path)[0], query
    except HttpError:
        return b"/", None


def from_host(raw: bytes) -> bytes:
    try:
        return normalise_host(raw, 80)[0]
    except HttpError:
        return b"a.example"


EVIL = st.sampled_from(
    [b"\r", b"\n", b"\0", b"%0d%0A", b"%00", b"%0a", b"\x0b", b"\x85", b"\xe2\x80\xa8", b"{host}", b"%b"]
)
TARGETS = st.lists(EVIL | st.sampled_from([b"/", b"a", b"?", b".", b"%41", b"{", b"}"]), max_size=8).map(
    lambda pieces: from_target(b"/" + b"".join(pieces))
)
HOSTS = st.lists(EVIL | st.sampled_from([b"a", b".", b":80", b"[::1]", b"-"]), max_size=4).map(
    lambda pieces: from_host(b"".join(pieces))
)
IDS = st.binary(max_size=6).map(lambda raw: raw if acceptable(raw) else b"0af7")
PIECES = st.lists(st.sampled_from([*PLACEHOLDERS, "1", "{{", "}}", "a", "%b", " "]), max_size=6)


@given(PIECES, TARGETS, HOSTS, IDS, st.sampled_from([b"", b"192.0.2.1", b"::1"]))
@settings(max_examples=300, deadline=None)
def test_what_readers_let_through_never_ends_a_line(
    pieces: list[str], target: tuple[bytes, bytes | None], host: bytes, request_id: bytes, client_ip: bytes
) -> None:
    path, query = target
    uri = path if query is None else path + b"?" + query
    facts = Facts(b"http", host, b"80", path, query or b"", uri, client_ip, request_id)
    text = "".join(f"{{{piece}}}" if piece in PLACEHOLDERS or piece == "1" else piece for piece in pieces)
    rendered = Template(text, 1).render(facts, [path])
    assert not set(rendered) & set(b"\r\n\0")
    plain = {"1": path, "{{": b"{", "}}": b"}"}
    assert rendered == b"".join(getattr(facts, piece, plain.get(piece, piece.encode())) for piece in pieces)
