"""Answers of our own: what they say, in which form, and what they never say (section 17)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy import errors
from lbproxy.errors import BACKEND_CUT, METHOD, NO_BACKEND, REFUSED, Blame, Outcome
from lbproxy.http.accept import preferred_form
from lbproxy.http.answers import Answer, error_answer, fixed_answer, redirect_answer
from lbproxy.http.phrases import PHRASES, phrase, status_line
from lbproxy.model_http import ErrorPage, FixedAnswer

ID = b"0b6dbd0e-4b1c-4c1f-8a55-0d6ce9b7b1d0"
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
OUTCOMES = sorted(
    {value for value in vars(errors).values() if isinstance(value, Outcome) and value.status}, key=lambda o: o.word
)


def field(answer: Answer, name: bytes) -> bytes | None:
    """The value of a field; there may be one at most."""
    found = [value for written, value in answer.fields if written.lower() == name.lower()]
    assert len(found) <= 1
    return found[0] if found else None


class Page(HTMLParser):
    """Which elements a page has, that all are closed, and the text."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(body.decode("ascii"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        self.elements.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


class TestStatusLine:
    def test_the_line_is_that_of_the_version_we_speak(self) -> None:
        assert status_line(503) == b"HTTP/1.1 503 Service Unavailable\r\n"
        assert status_line(413) == b"HTTP/1.1 413 Content Too Large\r\n"

    def test_a_status_without_a_phrase_keeps_the_space(self) -> None:
        assert status_line(599) == b"HTTP/1.1 599 \r\n"
        assert phrase(599) == b""

    def test_the_phrases_are_those_the_standard_library_has(self) -> None:
        # It has older words for some, and jokes.
        newer = {104, 413, 414, 416, 418, 422}
        for status in HTTPStatus:
            if status not in newer:
                assert PHRASES[status].decode() == status.phrase

    @pytest.mark.parametrize("status", PHRASES)
    def test_a_phrase_is_printable(self, status: int) -> None:
        assert re.fullmatch(rb"[A-Za-z -]+", PHRASES[status])


class TestForm:
    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            (None, "text"),
            (b"", "text"),
            (b"*/*", "text"),
            (BROWSER, "html"),
            (b"text/html", "html"),
            (b"TEXT/HTML", "html"),
            (b"text/html;level=1", "html"),
            (b"application/xhtml+xml", "html"),
            (b"application/json", "json"),
            (b"*/json", "json"),
            (b"application/problem+json", "json"),
            (b"application/vnd.api+json;q=0.9", "json"),
            (b"application/*", "json"),
            (b"application/json, text/plain, */*", "json"),
            (b"text/plain, application/json", "text"),
            (b"application/json, text/html", "json"),
            (b"text/html, application/json", "html"),
            (b"text/html;q=0.5, application/json", "json"),
            (b"text/html;q=0.5,application/json;q=0.500,*/*;q=0.1", "html"),
            (b"text/html ; q=0.2 ,\tapplication/json ; q = 0.8", "json"),
            (b"*/*, text/html", "html"),
            (b"*/*;q=1, text/html;q=0.9", "text"),
            (b"application/json;Q=0.1, text/html;q=0.2", "html"),
            (b"text/html;q=0", "text"),
            (b"text/html;q=0, application/json;q=0.001", "json"),
            (b"text/html;q=0.0, */*", "text"),
            (b"image/avif,image/webp,image/*;q=0.8", "text"),
            # What cannot be read is passed over.
            (b"text/html;q=nan, application/json;q=0.1", "json"),
            (b"text/html;q=1e9, application/json;q=0.1", "json"),
            (b"text/html;q=-1, application/json;q=0.1", "json"),
            (b"text/html;q=, application/json;q=0.1", "json"),
            (b"text/html;q=1.9, application/json;q=1", "html"),
            (b"text/html;q=1, application/json;q=1.9", "html"),
            (b"text/html;q, application/json;q=0.1", "html"),
            (b"text /html, application/json;q=0.1", "json"),
            (b",;,=;q=;;,application/json,", "json"),
        ],
    )
    def test_the_client_gets_what_it_would_rather_read(self, accept: bytes | None, form: str) -> None:
        assert preferred_form(accept) == form

    def test_no_more_than_a_bound_is_read(self) -> None:
        assert preferred_form(b"image/x," * 31 + b"text/html") == "html"
        assert preferred_form(b"image/x," * 32 + b"text/html") == "text"
        assert preferred_form(b" " * 1015 + b"text/html") == "html"
        assert preferred_form(b" " * 1016 + b"text/html") == "text"

    @settings(max_examples=300)
    @given(
        st.one_of(
            st.binary(max_size=60),
            st.lists(
                st.sampled_from(
                    [
                        b"text/html",
                        b"*/*",
                        b"application/json",
                        b",",
                        b";",
                        b"q=",
                        b"0",
                        b".",
                        b"1",
                        b" ",
                        b'"',
                        b"\xb2",
                    ]
                ),
                max_size=30,
            ).map(b"".join),
        )
    )
    def test_nothing_in_the_field_raises(self, accept: bytes) -> None:
        assert preferred_form(accept) in ("text", "json", "html")
        if b"json" not in accept.lower() and b"application/*" not in accept.lower():
            assert preferred_form(accept) != "json"


class TestErrors:
    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: f"{outcome.word}-{outcome.status}")
    def test_each_failure_is_told_in_each_form(self, outcome: Outcome) -> None:
        start = f"{outcome.status} {phrase(outcome.status).decode()}"
        assert PHRASES[outcome.status]

        answer = error_answer(outcome, request_id=ID, accept=None)
        assert answer.status == outcome.status
        assert answer.body.decode() == f"{start}\noutcome: {outcome.word}\nrequest id: {ID.decode()}\n"
        assert field(answer, b"Content-Type") == b"text/plain; charset=utf-8"

        answer = error_answer(outcome, request_id=ID, accept=b"application/json")
        assert json.loads(answer.body) == {
            "status": outcome.status,
            "phrase": phrase(outcome.status).decode(),
            "outcome": outcome.word,
            "request_id": ID.decode(),
        }
        assert field(answer, b"Content-Type") == b"application/json"

        answer = error_answer(outcome, request_id=ID, accept=BROWSER)
        page = Page(answer.body)
        assert page.open == []
        assert page.text.split() == f"{start} {start} Outcome: {outcome.word} Request ID: {ID.decode()}".split()
        assert "script" not in page.elements
        assert b"prefers-color-scheme: dark" in answer.body
        assert len(answer.body) < 1024
        assert field(answer, b"Content-Type") == b"text/html; charset=utf-8"

        assert field(answer, b"Cache-Control") == b"no-store"
        assert field(answer, b"X-Request-ID") == ID
        told = f"lbproxy; error={outcome.error}".encode() if outcome.error else None
        assert field(answer, b"Proxy-Status") == told

    def test_only_what_is_given_is_told(self) -> None:
        answer = error_answer(NO_BACKEND, request_id=ID, accept=None)
        assert [name for name, _ in answer.fields] == [
            b"Content-Type",
            b"Cache-Control",
            b"Proxy-Status",
            b"X-Request-ID",
        ]

    def test_when_to_come_again_and_what_is_allowed(self) -> None:
        assert field(error_answer(NO_BACKEND, request_id=ID, accept=None, retry_after=7), b"Retry-After") == b"7"
        assert field(error_answer(METHOD, request_id=ID, accept=None, allow=b"GET, HEAD"), b"Allow") == b"GET, HEAD"

    @pytest.mark.parametrize(
        ("next_hop", "told"),
        [
            (b"web1", b'"web1"'),
            (b"[::1]:80", b'"[::1]:80"'),
            (b'a"b\\c', b'"a\\"b\\\\c"'),
            (b"a\r\nSet-Cookie: x\x00\xff", b'"a??Set-Cookie: x??"'),
        ],
    )
    def test_the_backend_is_named_where_that_is_wanted(self, next_hop: bytes, told: bytes) -> None:
        answer = error_answer(REFUSED, request_id=ID, accept=None, next_hop=next_hop)
        assert field(answer, b"Proxy-Status") == b"lbproxy; error=connection_refused; next-hop=" + told
        assert next_hop not in answer.body

    def test_a_page_of_the_users_own_stands_in_place_of_the_text(self) -> None:
        page = ErrorPage(503, b"<p>Back soon", "text/html")
        answer = error_answer(NO_BACKEND, request_id=ID, accept=b"application/json", page=page)
        assert (answer.status, answer.body) == (503, b"<p>Back soon")
        assert field(answer, b"Content-Type") == b"text/html"
        assert field(answer, b"Cache-Control") == b"no-store"
        assert field(answer, b"Proxy-Status") == b"lbproxy; error=destination_unavailable"

    def test_a_failure_that_cuts_the_connection_has_no_answer(self) -> None:
        with pytest.raises(ValueError, match="backend_cut"):
            error_answer(BACKEND_CUT, request_id=ID, accept=None)

    def test_a_failure_without_a_word_for_it_has_no_proxy_status(self) -> None:
        outcome = Outcome("x", "LR", "-", Blame.NOBODY, 504)
        assert field(error_answer(outcome, request_id=ID, accept=None), b"Proxy-Status") is None

    @pytest.mark.parametrize(
        "request_id", [b"", b"<script>", b'a"b', b"a&b", b"a\r\nb", b"a b", b"a\\b", b"\xff", b"x" * 129, b"abc\n"]
    )
    @pytest.mark.parametrize("accept", [None, BROWSER, b"application/json"])
    def test_an_id_that_is_none_is_left_out(self, request_id: bytes, accept: bytes | None) -> None:
        answer = error_answer(NO_BACKEND, request_id=request_id, accept=accept)
        assert field(answer, b"X-Request-ID") is None
        without = error_answer(NO_BACKEND, request_id=b"", accept=accept)
        assert answer.body == without.body
        assert b"equest" not in answer.body

    @given(st.binary(max_size=20), st.binary(max_size=40), st.binary(max_size=20))
    def test_no_field_can_be_broken_out_of(self, request_id: bytes, accept: bytes, next_hop: bytes) -> None:
        answer = error_answer(NO_BACKEND, request_id=request_id, accept=accept, next_hop=next_hop)
        for name, value in answer.fields:
            assert re.fullmatch(rb"[A-Za-z-]+", name)
            assert re.fullmatch(rb"[\x20-\x7e]*", value)


class TestRedirects:
    def test_a_redirect_has_its_location_and_does_not_repeat_it(self) -> None:
        answer = redirect_answer(308, b"https://a.example/x?y=1#z", ID)
        assert (answer.status, answer.body) == (308, b"308 Permanent Redirect\n")
        assert field(answer, b"Location") == b"https://a.example/x?y=1#z"
        assert field(answer, b"X-Request-ID") == ID

    @pytest.mark.parametrize(
        ("location", "written"),
        [
            (b"/a%20b/%0d", b"/a%20b/%0d"),
            (b"https://[::1]:8443/", b"https://[::1]:8443/"),
            (b"/a b\r\nX: y", b"/a%20b%0D%0AX:%20y"),
            (b'/<">\\^`{|}', b"/%3C%22%3E%5C%5E%60%7B%7C%7D"),
            (b"/\x00\x7f\xc3\xa9", b"/%00%7F%C3%A9"),
        ],
    )
    def test_what_may_not_be_in_a_location_is_encoded(self, location: bytes, written: bytes) -> None:
        assert field(redirect_answer(302, location, ID), b"Location") == written

    @given(st.binary(max_size=60))
    def test_no_location_ends_the_field(self, location: bytes) -> None:
        written = field(redirect_answer(302, location, ID), b"Location")
        assert written is not None
        assert re.fullmatch(rb"[\x21-\x7e]*", written)


class TestFixed:
    def test_an_answer_is_as_it_is_written(self) -> None:
        answer = fixed_answer(FixedAnswer(418, b"short", "text/x", (("X-A", "1"), ("X-A", "2"))), ID)
        assert (answer.status, answer.body) == (418, b"short")
        assert answer.fields == [
            (b"Content-Type", b"text/x"),
            (b"X-A", b"1"),
            (b"X-A", b"2"),
            (b"X-Request-ID", ID),
        ]

    def test_an_empty_one_has_no_type(self) -> None:
        assert fixed_answer(FixedAnswer(), b"").fields == []

    def test_fields_that_are_written_take_the_place_of_ours(self) -> None:
        fields = (("content-type", "a/b"), ("X-REQUEST-ID", "mine"))
        answer = fixed_answer(FixedAnswer(200, b"x", fields=fields), ID)
        assert answer.fields == [(b"content-type", b"a/b"), (b"X-REQUEST-ID", b"mine")]

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_a_status_that_allows_no_body_has_none(self, status: int) -> None:
        assert fixed_answer(FixedAnswer(status, b"x"), ID).body == b""


def test_an_answer_describes_itself_without_its_content() -> None:
    assert repr(redirect_answer(302, b"/secret", b"")) == "<Answer 302 of 10 bytes>"
