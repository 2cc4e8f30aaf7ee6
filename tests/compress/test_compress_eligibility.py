"""Which answers are compressed, and why others are not."""

from __future__ import annotations

from itertools import product

import pytest

from lbproxy.compress.eligibility import Eligibility, is_events
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, RequestHead
from lbproxy.model_cache import CompressSettings
from tests.compress.compress_rig import answer, page, request

RULES = Eligibility(CompressSettings())
EVENT_RULES = Eligibility(CompressSettings(events=True))
PRIVATE_RULES = Eligibility(CompressSettings(private=True))
BROWSER = request(("Accept-Encoding", "gzip, br"))
LONG = 5000


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "text/html; charset=utf-8",
        "TEXT/HTML ;charset=x",
        "text/plain",
        "text/css",
        "text/javascript",
        "text/x-component",
        "application/json",
        "Application/JSON;odata=verbose",
        "application/javascript",
        "application/x-javascript",
        "application/xml",
        "application/wasm",
        "image/svg+xml",
        "application/ld+json",
        "application/atom+xml; type=feed",
        "application/problem+json",
    ],
)
def test_text_is_eligible(content_type: str) -> None:
    assert RULES.eligible_type(content_type.encode())
    assert RULES.eligible(answer(("Content-Type", content_type)), LONG)
    assert RULES.why_not(answer(("Content-Type", content_type)), LONG, BROWSER) == ""


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("image/png", "type image/png"),
        ("Video/MP4; codecs=x", "type video/mp4"),
        ("application/octet-stream", "type application/octet-stream"),
        ("application/zip", "type application/zip"),
        ("font/woff2", "type font/woff2"),
        ("application/jsonx", "type application/jsonx"),
        ("texts/html", "type texts/html"),
        ("", "type "),
        ("x" * 100, "type " + "x" * 64),
        ("text/event-stream", "events"),
        ("Text/Event-Stream; charset=utf-8", "events"),
        ("application/grpc", "events"),
        ("application/grpc+proto", "events"),
        ("application/grpc-web-text", "events"),
        ("application/grpc+json", "events"),
        ("multipart/byteranges; boundary=x", "multipart"),
        ("multipart/related+xml", "multipart"),
    ],
)
def test_other_types_are_not(content_type: str, reason: str) -> None:
    head = answer(("Content-Type", content_type))
    assert not RULES.eligible_type(content_type.encode())
    assert not RULES.eligible(head, LONG)
    assert not RULES.varies(head)
    assert RULES.why_not(head, LONG, BROWSER) == reason


def test_an_answer_without_a_type_is_not() -> None:
    assert not RULES.eligible(answer(), LONG)
    assert not RULES.eligible_type(None)
    assert RULES.why_not(answer(), LONG, BROWSER) == "no Content-Type"


def test_a_route_may_add_types() -> None:
    rules = Eligibility(
        CompressSettings(types=("application/VND.ms-fontobject", "multipart/mixed", "text/event-stream"))
    )
    assert rules.eligible_type(b"Application/vnd.ms-fontobject")
    assert not rules.eligible_type(b"font/woff2")
    # These have rules of their own.
    assert not rules.eligible_type(b"multipart/mixed")
    assert not rules.eligible_type(b"text/event-stream")


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/grpc", "application/grpc-web+proto"])
def test_streams_of_events_are_eligible_where_the_route_says_so(content_type: str) -> None:
    assert EVENT_RULES.eligible(answer(("Content-Type", content_type)), CHUNKED)
    assert is_events(content_type.encode())


def test_what_is_no_stream_of_events_need_not_be_flushed() -> None:
    assert not is_events(b"text/html")
    assert not is_events(None)


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_these_statuses_are_eligible(status: int) -> None:
    assert RULES.eligible(page(status=status), LONG)


@pytest.mark.parametrize("status", [100, 101, 199, 204, 205, 206, 226, 301, 304, 404, 500, 503])
def test_other_statuses_are_not(status: int) -> None:
    assert not RULES.eligible(page(status=status), LONG)
    assert not RULES.varies(page(status=status))
    assert RULES.why_not(page(status=status), LONG, BROWSER) == f"status {status}"


@pytest.mark.parametrize(
    ("length", "eligible", "reason"),
    [
        (CHUNKED, True, ""),
        (UNTIL_CLOSE, True, ""),
        (1024, True, ""),
        (10**9, True, ""),
        (1023, False, "short"),
        (1, False, "short"),
        (0, False, "no body"),
    ],
)
def test_short_bodies_are_not_worth_it(length: int, eligible: bool, reason: str) -> None:
    assert RULES.eligible(page(), length) is eligible
    assert RULES.why_not(page(), length, BROWSER) == reason
    # Whoever refuses plain bodies gets them compressed, so it depends on Accept-Encoding all the same.
    assert RULES.varies(page())


@pytest.mark.parametrize("accept", ["identity;q=0, gzip", "gzip, *;q=0"])
def test_short_bodies_are_compressed_for_those_who_refuse_plain_ones(accept: str) -> None:
    head = request(("Accept-Encoding", accept))
    assert RULES.why_not(page(), 1, head) == ""
    assert RULES.why_not(page(), 0, head) == "no body"


@pytest.mark.parametrize("min_size", [0, 1])
def test_no_body_is_never_compressed(min_size: int) -> None:
    rules = Eligibility(CompressSettings(min_size=min_size))
    assert not rules.eligible(page(), 0)
    assert rules.eligible(page(), 1)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (("Content-Encoding", "br"), "Content-Encoding"),
        (("Content-Encoding", "aws-chunked"), "Content-Encoding"),
        (("Content-Range", "bytes 0-9/10"), "Content-Range"),
        (("Cache-Control", "max-age=60, no-transform"), "no-transform"),
        (("Cache-Control", "No-Transform"), "no-transform"),
        (("Set-Cookie", "a=b"), "Set-Cookie"),
        (("Cache-Control", "private"), "private"),
        (("cache-control", 'max-age=1 , PRIVATE="set-cookie"'), "private"),
        (("Content-Encoding", "identity"), ""),
        (("Content-Encoding", "Identity"), ""),
        (("Cache-Control", "public, max-age=60"), ""),
        (("Cache-Control", "privates, no-transformation"), ""),
        (("ETag", '"x"'), ""),
        (("Vary", "*"), ""),
    ],
)
def test_what_fields_speak_against_it(field: tuple[str, str], reason: str) -> None:
    assert RULES.why_not(page(field), LONG, BROWSER) == reason
    assert RULES.eligible(page(field), LONG) is (reason == "")
    assert RULES.varies(page(field)) is (reason == "")


def test_secrets_are_compressed_only_where_the_route_says_so() -> None:
    for field in (("Set-Cookie", "a=b"), ("Cache-Control", "private, max-age=5")):
        assert PRIVATE_RULES.eligible(page(field), LONG)
    assert not PRIVATE_RULES.eligible(page(("Cache-Control", "private, no-transform")), LONG)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (request(("Accept-Encoding", "gzip"), method=b"HEAD"), "HEAD"),
        (request(("Accept-Encoding", "gzip"), minor=0), "HTTP/1.0"),
        (request(("Accept-Encoding", "gzip"), ("Cache-Control", "no-transform")), "request no-transform"),
        (request(("Accept-Encoding", "gzip"), ("Cache-Control", "no-cache")), ""),
        (request(("Accept-Encoding", "gzip"), method=b"POST"), ""),
        (request(), ""),
    ],
)
def test_what_of_the_request_speaks_against_it(head: RequestHead, reason: str) -> None:
    assert RULES.why_not(page(), LONG, head) == reason


def test_eligible_and_why_not_never_disagree() -> None:
    for rules, pairs, status, length in product(
        (RULES, EVENT_RULES, PRIVATE_RULES),
        product(
            (("Content-Type", "text/html"), ("Content-Type", "image/png"), ("Content-Type", "text/event-stream")),
            (("ETag", '"a"'), ("Set-Cookie", "a=b"), ("Content-Encoding", "gzip"), ("Cache-Control", "private")),
        ),
        (200, 206, 404),
        (CHUNKED, UNTIL_CLOSE, 0, 10, LONG),
    ):
        head = answer(*pairs, status=status)
        assert rules.eligible(head, length) is (rules.why_not(head, length, BROWSER) == "")


def test_many_types_are_not_all_remembered() -> None:
    rules = Eligibility(CompressSettings())
    for number in range(3000):
        assert rules.eligible_type(b"text/x-%d" % number)
    assert len(rules._reasons) <= 1024
