"""Rewrites: what becomes of path, query and Host, and that nothing comes out that could not have come in (T17, T18)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.messages import HttpError, RequestHead
from lbproxy.http.rewriting import Rewriter
from lbproxy.http.target import normalise, read_target
from lbproxy.http.templates import Facts, TemplateError
from lbproxy.model_http import Rewrite


def asked(target: bytes) -> tuple[RequestHead, Facts]:
    """A request for `target`, which is normalised already, and what templates know of it."""
    path, mark, query = target.partition(b"?")
    slash = b"%2F" in path
    head = RequestHead(
        b"GET", path, path, query if mark else None, b"a.example", b"a.example:8080", 1,
        [], b"", [], 0, False, False, False, b"", False, b"", slash,
    )  # fmt: skip
    return head, Facts(b"http", b"a.example", b"8080", path, query, target, b"192.0.2.1", b"0af7")


def rewritten(rewrite: Rewrite, target: bytes, *, merge: bool = True) -> bytes:
    path, query, authority = Rewriter.of(rewrite, merge).apply(*asked(target))
    assert authority == b"a.example:8080"
    return path if query is None else path + b"?" + query


@pytest.mark.parametrize(
    ("strip", "add", "target", "result"),
    [
        ("/api", "", b"/api/a/b?q=1", b"/a/b?q=1"),
        ("/api", "", b"/api", b"/"),
        ("/api", "", b"/api/", b"/"),
        ("/api", "", b"/api?q", b"/?q"),
        ("/api", "", b"/apis/a", b"/apis/a"),
        ("/api", "", b"/API/a", b"/API/a"),
        ("/api", "", b"/v1/api/a", b"/v1/api/a"),
        ("/api", "", b"/api;v=1/a", b"/api;v=1/a"),
        ("/api", "", b"/", b"/"),
        ("/api/", "", b"/api/a", b"/a"),
        ("/api/", "", b"/api/", b"/"),
        ("/api/", "", b"/api", b"/api"),
        ("/", "", b"/a", b"/a"),
        ("/%61pi", "", b"/api/a", b"/a"),
        ("/caf%c3%a9", "", b"/caf%C3%A9/a", b"/a"),
        ("", "/v1", b"/a?q", b"/v1/a?q"),
        ("", "/v1/", b"/a", b"/v1/a"),
        ("", "/", b"/a", b"/a"),
        ("/api", "/v1", b"/api/a", b"/v1/a"),
        ("/api", "/v1", b"/api", b"/v1/"),
        ("/api", "/v1", b"/other", b"/v1/other"),
        ("/api", "/v1", b"*", b"*"),
    ],
)
def test_a_prefix_is_taken_off_at_a_segment_and_another_put_in_front(
    strip: str, add: str, target: bytes, result: bytes
) -> None:
    assert rewritten(Rewrite(strip_prefix=strip, add_prefix=add), target) == result


@pytest.mark.parametrize(
    ("regex", "path", "target", "result"),
    [
        ("", "/fixed", b"/a?q", b"/fixed?q"),
        ("", "/fixed?", b"/a?q", b"/fixed"),
        ("", "/fixed?from={path}&{query}", b"/a?q=?", b"/fixed?from=/a&q=?"),
        ("", "/in{uri}", b"/a?q=?", b"/in/a?q=?"),
        ("", "/in{path}", b"/a?q", b"/in/a?q"),
        ("", "/{host}/{port}/{scheme}", b"/a", b"/a.example/8080/http"),
        ("", "{path}", b"*", b"*"),
        ("/old/(.*)", "/new/{1}", b"/old/a/b?q", b"/new/a/b?q"),
        ("/old/(.*)", "/new/{1}", b"/old", b"/old"),
        ("/old/(.*)", "/new/{1}", b"/very/old/a", b"/very/old/a"),
        ("/old", "/new", b"/old/a", b"/old/a"),
        ("/old", "/new", b"/old\n", b"/old\n"),
        ("/([a-z]+)/([0-9]+)(/x)?", "/{2}/{1}{3}", b"/ab/12", b"/12/ab"),
        ("/([a-z]+)/([0-9]+)", "/show?id={2}&kind={1}", b"/ab/12?old", b"/show?id=12&kind=ab"),
        ("/a(.*)", "{1}", b"/abc", b"/bc"),
        ("/a(.*)", "{1}", b"/a", b"/"),
        ("/a(.*)", "/x/{1}", b"/a/b", b"/x/b"),
        ("/a(.*)", "/{{1}}", b"/ab", b"/{1}"),
    ],
)
def test_a_path_is_replaced_where_all_of_it_matches(regex: str, path: str, target: bytes, result: bytes) -> None:
    assert rewritten(Rewrite(regex=regex, path=path), target) == result


@pytest.mark.parametrize(
    ("regex", "path", "target"),
    [
        # Pieces that are harmless alone.
        ("/(.*)", "/in/.{1}", b"/."),
        ("/a(.*)", "/.{1}", b"/a./b"),
        ("/a(.*)", "/in/..{1}", b"/a;x"),
        ("/a(.*)", "/%2{1}", b"/ae"),
        ("/(.*)x", "/{1}", b"/..x"),
        ("/(.*)x(.*)", "/{1}{2}", b"/.x./admin"),
        ("/a(%2)0", "/{1}f", b"/a%20"),
        ("/a(%2)0", "/{1}e{1}e", b"/a%20"),
        ("/a(%)20", "/{1}5c", b"/a%20"),
        ("/a(%)20", "/{1}00", b"/a%20"),
        ("/a(%)20", "/{1}zz", b"/a%20"),
        ("/a(%)20", "/{1}", b"/a%20"),
        ("/a(%25).*", "/{1}2e", b"/a%25x"),
        ("/a(%C)3%A9", "/{1}0%AF", b"/a%C3%A9"),
        # A query is no path.
        ("", "/in/{query}", b"/a?/../admin"),
        ("", "/in/{query}", b"/a?%2e%2e/admin"),
        ("", "/in/{query}", b"/a?\\"),
        ("", "/in/{query}", b"/a?%zz"),
        ("", "/in/{query}", b"/a?a%2Fb"),
    ],
)
def test_what_clients_bring_about_is_refused_and_not_repaired(regex: str, path: str, target: bytes) -> None:
    rewriter = Rewriter.of(Rewrite(regex=regex, path=path))
    with pytest.raises(ValueError, match="after rewriting, the "):
        rewriter.apply(*asked(target))


def test_an_encoded_slash_passes_where_it_was_let_in_and_nowhere_else() -> None:
    assert rewritten(Rewrite(strip_prefix="/api"), b"/api/a%2Fb") == b"/a%2Fb"
    assert rewritten(Rewrite(regex="/api(.*)", path="/in{1}"), b"/api/a%2Fb") == b"/in/a%2Fb"
    with pytest.raises(ValueError, match="encoded slash"):
        Rewriter.of(Rewrite(regex="/a(%)20(.*)", path="/{1}{2}")).apply(*asked(b"/a%202F"))


def test_runs_of_slashes_are_merged_where_the_route_merges_them_but_never_begin_a_path() -> None:
    rewrite = Rewrite(regex="/a(.*)", path="/b/{1}")
    assert rewritten(rewrite, b"/a/c") == b"/b/c"
    assert rewritten(rewrite, b"/a//c", merge=False) == b"/b///c"
    assert rewritten(Rewrite(strip_prefix="/a"), b"/a//evil.example", merge=False) == b"/evil.example"
    assert rewritten(Rewrite(regex="/a(.*)", path="/{1}"), b"/a/evil.example", merge=False) == b"/evil.example"
    assert rewritten(Rewrite(strip_prefix="/x"), b"//a", merge=False) == b"//a"


@pytest.mark.parametrize(
    ("rewrite", "target", "authority"),
    [
        (Rewrite(host="inner.example"), b"/a", b"inner.example"),
        (Rewrite(host="Inner.Example.:81"), b"/a", b"inner.example:81"),
        (Rewrite(host="{host}:9000"), b"/a", b"a.example:9000"),
        (Rewrite(host="inner.example"), b"*", b"inner.example"),
        (Rewrite(host="inner.example", strip_prefix="/x"), b"/a", b"inner.example"),
        (Rewrite(host="{1}.inner.example", regex="/([^/]*)(/.*)", path="{2}"), b"/shop/a", b"shop.inner.example"),
        (Rewrite(host="{1}.inner.example", regex="/([^/]*)(/.*)", path="{2}"), b"/shop", b"a.example:8080"),
    ],
)
def test_host_is_replaced(rewrite: Rewrite, target: bytes, authority: bytes) -> None:
    assert Rewriter.of(rewrite).apply(*asked(target))[2] == authority


@pytest.mark.parametrize("tenant", [b"a.b..c", b"-", b"a:80", b"a%40b", b"u@a", b"[::1]", b"a,b", b"", b"a" * 64])
def test_a_host_that_is_none_is_refused(tenant: bytes) -> None:
    rewriter = Rewriter.of(Rewrite(host="{1}.inner.example", regex="/([^/]*)/", path="/"))
    with pytest.raises(ValueError, match="after rewriting, the host is"):
        rewriter.apply(*asked(b"/%b/" % tenant))


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (Rewrite(strip_prefix="/a", path="/b"), "cannot do both"),
        (Rewrite(add_prefix="/a", regex="/b", path="/c"), "cannot do both"),
        (Rewrite(regex="/a"), "needs the path"),
        (Rewrite(regex="/a(", path="/"), "not a regular expression"),
        (Rewrite(regex="/\u00e9", path="/"), "matches no path, which is ASCII"),
        (Rewrite(regex="/(a)", path="/{2}"), "{2} is a group of the regular expression, which has 1"),
        (Rewrite(path="/{1}"), "{1} is a group of the regular expression, and there is none"),
        (Rewrite(host="{1}"), "{1} is a group of the regular expression, and there is none"),
        (Rewrite(path="/a/../b"), "a segment of dots"),
        (Rewrite(path="/a/./{path}"), "a segment of dots"),
        (Rewrite(path="/a/%2e%2e/b"), "dots"),
        (Rewrite(path="/a b"), "a control character"),
        (Rewrite(path="/a#b"), "a fragment"),
        (Rewrite(path="/a\\b"), "a backslash"),
        (Rewrite(path="/a%2fb"), "an encoded slash"),
        (Rewrite(path="/a%"), "a percent sign"),
        (Rewrite(path="/?a b"), "a control character"),
        (Rewrite(host="a b"), "the host is"),
        (Rewrite(host="http://a.example"), "the host is"),
        (Rewrite(host="a.example/x"), "the host is"),
        (Rewrite(strip_prefix="api"), 'must begin with "/"'),
        (Rewrite(add_prefix="v1"), 'must begin with "/"'),
        (Rewrite(add_prefix="/v1?x"), 'have no "?"'),
        (Rewrite(add_prefix="/../v1"), "cannot be used: the path leads above the root"),
        (Rewrite(strip_prefix="/a/./b"), "dots"),
        (Rewrite(add_prefix="/v1\r\nX: y"), "a control character"),
        (Rewrite(add_prefix="/\u00e9"), "be ASCII"),
    ],
)
def test_a_rewrite_that_could_never_work_is_refused_when_it_is_made(rewrite: Rewrite, message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Rewriter.of(rewrite)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


TARGETS = st.lists(
    st.sampled_from(
        [b"/", b"a", b"b", b".", b"..", b";", b"%", b"2", b"5", b"%2F", b"%25", b"%C3%A9", b"f", b"e", b"?"]
    ),
    max_size=10,
).map(lambda pieces: b"/" + b"".join(pieces))
REWRITES = st.sampled_from(
    [
        Rewrite(strip_prefix="/a"),
        Rewrite(add_prefix="/b"),
        Rewrite(strip_prefix="/a", add_prefix="/b/"),
        Rewrite(path="/x{uri}"),
        Rewrite(path="/.{path}{query}"),
        Rewrite(regex="(.*)a(.*)", path="{1}{2}"),
        Rewrite(regex="/(.)(.*)", path="{2}{1}?{1}"),
        Rewrite(regex="(.*)%(.*)", path="/%2{2}{1}"),
        Rewrite(regex="/(.)(.)(.*)", path="/%{1}{2}{3}", host="{3}a"),
    ]
)


@given(REWRITES, TARGETS, st.booleans())
@settings(max_examples=600, deadline=None)
def test_what_comes_out_could_have_come_in(rewrite: Rewrite, target: bytes, merge: bool) -> None:
    try:
        raw, query = read_target(target)
        merged, unmerged, slash = normalise(raw)
    except HttpError:
        return
    path = merged if merge else unmerged
    head, facts = asked(path if query is None else path + b"?" + query)
    try:
        new_path, new_query, authority = Rewriter.of(rewrite, merge).apply(head, facts)
    except ValueError:
        return
    assert read_target(new_path if new_query is None else new_path + b"?" + new_query) == (new_path, new_query)
    assert normalise(new_path)[0 if merge else 1] == new_path
    assert normalise(new_path)[2] <= slash
    assert not new_path.startswith(b"//") or new_path == path
    assert authority
