"""Invalidation: what an unsafe request has changed, on its own origin (RFC 9111, 4.4)."""

from __future__ import annotations

import pytest

from lbproxy.cache.invalidation import Target, invalidated
from tests.cache.rule_heads import answer, request

TARGET: Target = (b"/dir/a", b"q=1")


def targets(fields: str = "", method: str = "POST", status: int = 200, host: str = "a.example") -> list[Target]:
    """What is invalidated by a request for "/dir/a?q=1" that is answered so."""
    return invalidated(request(target="/dir/a?q=1", method=method, host=host), answer(fields, status), b"http")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PURGE"])
def test_an_unsafe_method_changes_its_target(method: str) -> None:
    assert targets(method=method) == [TARGET]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"])
def test_a_safe_method_changes_nothing(method: str) -> None:
    assert targets("Location: /b", method=method) == []


@pytest.mark.parametrize("status", [400, 404, 500, 503, 599])
def test_an_error_changes_nothing(status: int) -> None:
    assert targets("Location: /b", status=status) == []


@pytest.mark.parametrize("status", [200, 201, 204, 302, 303, 304])
def test_no_error_changes_the_target(status: int) -> None:
    assert targets(status=status) == [TARGET]


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("/b", (b"/b", None)),
        ("/b?x=2#f", (b"/b", b"x=2")),
        ("/b?", (b"/b", b"")),
        ("b", (b"/dir/b", None)),
        ("../b?x", (b"/b", b"x")),
        ("./", (b"/dir/", None)),
        ("?x=2", (b"/dir/a", b"x=2")),
        ("//a.example/b", (b"/b", None)),
        ("http://a.example/b", (b"/b", None)),
        ("HTTP://A.Example:80/b", (b"/b", None)),
        ("http://a.example", (b"/", None)),
        ("http://a.example?x", (b"/", b"x")),
        ("/%62//c/../d", (b"/b/d", None)),
    ],
)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
def test_what_the_answer_points_at_has_changed_too(name: str, reference: str, target: Target) -> None:
    assert targets(f"{name}: {reference}") == [TARGET, target]


@pytest.mark.parametrize(
    "reference",
    [
        "https://a.example/b",
        "http://b.example/b",
        "//b.example/b",
        "http://a.example:8080/b",
        "http://a.example@b.example/b",
        "http://user@a.example/b",
        "ftp://a.example/b",
        "mailto:a@a.example",
        "http:///b",
        "../../../b",
        "/%00",
        "/\u00e4",
        "/a b",
    ],
)
def test_what_lies_elsewhere_or_cannot_be_asked_for_is_not_touched(reference: str) -> None:
    assert targets(f"Location: {reference}") == [TARGET]


@pytest.mark.parametrize("reference", ["", "#f", "a?q=1", "/dir/a?q=1", "http://a.example/dir/./a?q=1"])
def test_no_target_is_named_twice(reference: str) -> None:
    assert targets(f"Location: {reference}\nContent-Location: {reference}") == [TARGET]


def test_the_port_belongs_to_the_origin() -> None:
    fields = "Location: http://a.example:8080/b\nContent-Location: http://a.example/c"
    assert targets(fields, host="a.example:8080") == [TARGET, (b"/b", None)]


def test_the_path_is_as_keys_have_it() -> None:
    head, said = request(target="/a//b", method="PUT"), answer("Location: c//d")
    assert invalidated(head, said, b"http") == [(b"/a/b", None), (b"/a/c/d", None)]
    assert invalidated(head, said, b"http", merge=False) == [(b"/a//b", None), (b"/a//c//d", None)]


def test_the_server_as_a_whole_is_no_target() -> None:
    assert invalidated(request(target="*", method="OPTIONS"), answer(), b"http") == []
