"""What sites do with requests and answers: copies, splits, pages, records, rewriting, and who stays where."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.harness import Lbproxy, Ports, until
from tests.live.http_peers import (
    Answer,
    Asked,
    Fields,
    RawClient,
    chunked,
    http_listener,
    http_pool,
    http_site,
    request,
)
from tests.live.http_scripts import Gate, Live, Recording
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import Chaos
from tests.live.tls_peers import Papers
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, Browser, cookies_of, https, listed, named, tls_keys

KIB = 1024


def _route(keys: str, *, path: str = "/", pool: str = "out") -> str:
    """A route of listener "in"; without a pool it is for `keys` to say what is done."""
    to = f'pool = "{pool}"\n' if pool else ""
    return f'[[route]]\nlistener = "in"\npath = "{path}"\n{to}{keys}\n'


class TestMirrors:
    def _serve(self, live: Live, copies: str, mirror: str = "", patience: str = "10s") -> Recording:
        backend = live.recording(keep_bodies=False)
        clocks = f'connect = "200ms", response_head = "{patience}"'
        route = _route(f'mirror = {{ pool = "copies"{mirror} }}\ntimeouts = {{ {clocks} }}')
        live.serve(backend.address, more=route + http_pool("copies", copies, more="outlier = false"))
        return backend

    def test_a_copy_is_the_request_with_a_mark(self, live: Live) -> None:
        mirrored = live.recording(default=Answer(500, body=b"never seen"))
        backend = self._serve(live, mirrored.address)
        with live.client() as client:
            for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST", b"GET"):
                answer = client.ask(method, b"/a?b=c", ((b"X-Own", b"1"), (b"X-Mirror", b"0")))
                assert answer.status == 200
        copies, asked = mirrored.wait_for(4), backend.wait_for(6)
        assert sorted(copy.method for copy in copies) == [b"GET", b"GET", b"HEAD", b"OPTIONS"]
        originals = {one.get(b"x-request-id"): one for one in asked}
        for copy in copies:
            original = originals[copy.get(b"x-request-id")]
            assert (copy.method, copy.target, copy.get(b"x-own")) == (original.method, b"/a?b=c", b"1")
            assert copy.get(b"x-forwarded-for") == b"127.0.0.1"
            assert copy.all(b"x-mirror")[-1] == b"1"
        assert {record["pool"] for record in live.records(6)} == {"out"}

    @pytest.mark.parametrize(
        ("size", "framing", "copied"),
        [(10, "length", True), (10, "chunked", True), (64 * KIB, "length", True), (64 * KIB + 1, "length", False)],
    )
    def test_a_body_is_copied_up_to_a_bound(self, live: Live, size: int, framing: str, copied: bool) -> None:
        mirrored = live.recording()
        backend = self._serve(live, mirrored.address, ", unsafe = true")
        body = bytes(range(256)) * (size // 256 + 1)
        body = body[:size]
        with live.client() as client:
            if framing == "chunked":
                client.ask(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(body[:3], body[3:]))
            else:
                client.ask(b"POST", b"/", body=body)
            assert client.ask(target=b"/after").status == 200
        copies = mirrored.wait_for(1 + copied)
        assert [copy.target for copy in copies if copy.target == b"/after"] == [b"/after"]
        assert [copy.body for copy in copies if copy.method == b"POST"] == [body] * copied
        assert {one.size for one in backend.wait_for(2)} == {size, 0}

    @pytest.mark.parametrize("trouble", ["refuses", "is silent", "resets", "says nonsense", "is slow"])
    def test_its_troubles_are_nobodys(self, live: Live, trouble: str) -> None:
        if trouble == "refuses":
            address = f"127.0.0.1:{live.ports.reserve()}"
        elif trouble == "resets":
            address = live.recording(default=Answer(cut=0, end="reset")).address
        elif trouble == "says nonsense":
            address = live.recording(default=Answer(raw=b"nonsense\r\n\r\n")).address
        elif trouble == "is slow":
            address = live.recording(default=Answer(delay=0.3)).address
        else:
            address = live.recording(default=Answer(delay=5.0)).address
        backend = self._serve(live, address, patience="200ms")
        backend.default = Answer(body=b"the only one")
        with live.client() as client:
            began = time.monotonic()
            for _ in range(20):
                assert client.ask().body == b"the only one"
            assert time.monotonic() - began < 0.25
        assert {record["outcome"] for record in live.records(20)} == {"ok"}
        until(lambda: not live.proxy.pool("copies")["active"], "all copies have ended")

    def test_so_many_are_under_way_and_no_more(self, live: Live) -> None:
        gate = Gate()
        mirrored = live.recording(lambda asked: gate(asked))
        self._serve(live, mirrored.address)
        with live.client() as client:
            for _ in range(130):
                assert client.ask().status == 200
            until(lambda: live.proxy.pool("copies")["active"] == 100, "a hundred are under way")
            gate.open()
            until(lambda: live.proxy.pool("copies")["active"] == 0, "they have ended")
            assert client.ask().status == 200
        assert len(mirrored.wait_for(101)) == 101

    def test_a_share_of_requests(self, live: Live) -> None:
        mirrored = live.recording()
        self._serve(live, mirrored.address, ", percent = 30")
        with live.client() as client:
            for _ in range(300):
                client.ask()
        until(lambda: not live.proxy.pool("copies")["active"], "all copies have ended")
        # Seven standard deviations.
        assert 35 < len(mirrored.requests) < 145


class TestSplits:
    def _serve(self, live: Live, split: str, one: Recording, two: Recording) -> None:
        live.port = live.port or live.ports.reserve()
        pools = http_pool("one", one.address) + http_pool("two", two.address)
        live.serve_text(http_listener(live.port) + _route(split, pool="") + pools)

    def test_none_and_all(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        for split, name in (("one = 0, two = 100", b"two"), ("one = 100, two = 0", b"one")):
            self._serve(live, f"split = {{ {split} }}", one, two)
            with live.client() as client:
                assert {client.ask().body for _ in range(50)} == {name}

    def test_a_cookie_fixes_the_side_and_growth_moves_only_those_who_must(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        sides: list[dict[int, bytes]] = []
        for split in ("one = 50, two = 50", "one = 80, two = 20"):
            self._serve(live, f'split = {{ {split} }}\nsplit_key = "cookie:session"', one, two)
            with live.client() as client:
                found = [
                    {user: client.ask(fields=((b"Cookie", b"a=b; session=u%d" % user),)).body for user in range(100)}
                    for _ in range(2)
                ]
            assert found[0] == found[1]
            sides.append(found[0])
        assert 25 < list(sides[0].values()).count(b"one") < 75
        assert 62 < list(sides[1].values()).count(b"one") < 96
        assert all(sides[1][user] == b"one" for user, side in sides[0].items() if side == b"one")


class TestErrors:
    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            (b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", b"text/html"),
            (b"application/json", b"application/json"),
            (b"*/*", b"text/plain"),
            (None, b"text/plain"),
        ],
    )
    def test_a_failure_is_told_in_the_form_that_is_wanted(self, live: Live, accept: bytes | None, kind: bytes) -> None:
        live.serve(f"127.0.0.1:{live.ports.reserve()}")
        fields = () if accept is None else ((b"Accept", accept),)
        with live.client() as client:
            answer = client.ask(fields=fields)
            empty = client.ask(b"HEAD", b"/", fields)
        assert answer.status == 502
        assert (answer.get(b"content-type") or b"").startswith(kind)
        assert answer.get(b"proxy-status") == b"lbproxy; error=connection_refused"
        assert answer.get(b"cache-control") == b"no-store"
        id = answer.get(b"x-request-id") or b"?"
        assert id in answer.body
        assert b"127.0.0.1" not in answer.body + answer.head
        assert (empty.status, empty.body, empty.get(b"content-length")) == (502, b"", b"%d" % len(answer.body))
        if kind == b"application/json":
            assert json.loads(answer.body)["outcome"] == "refused"
        assert live.records(2)[0]["id"].encode() == id

    def test_who_debugs_is_told_the_address(self, live: Live) -> None:
        address = f"127.0.0.1:{live.ports.reserve()}"
        live.serve(address, listener="http.expose = true")
        with live.client() as client:
            said = client.ask().get(b"proxy-status")
        assert said == b'lbproxy; error=connection_refused; next-hop="%b"' % address.encode()

    def test_pages_of_ones_own(self, live: Live, tmp_path: Path) -> None:
        (tmp_path / "sorry.html").write_text("<p>sorry</p>")
        (tmp_path / "sorry.json").write_text('{"sorry": true}')
        (tmp_path / "none.txt").write_text("not here")
        pages = f'http.error_pages = {{ 502 = "{tmp_path}/sorry.html", 404 = "{tmp_path}/none.txt" }}'
        api = _route(f'error_pages = {{ 502 = "{tmp_path}/sorry.json" }}', path="/api/")
        live.port = live.ports.reserve()
        dead = http_pool("out", f"127.0.0.1:{live.ports.reserve()}", more="outlier = false")
        live.serve_text(http_listener(live.port, more=pages) + api + _route("", path="/site/") + dead)
        with live.client() as client:
            for path, status, kind, body in (
                (b"/site/", 502, b"text/html; charset=utf-8", b"<p>sorry</p>"),
                (b"/api/", 502, b"application/json", b'{"sorry": true}'),
                (b"/else", 404, b"text/plain; charset=utf-8", b"not here"),
            ):
                answer = client.ask(target=path, fields=((b"Accept", b"text/html"),))
                assert (answer.status, answer.get(b"content-type"), answer.body) == (status, kind, body)
                assert answer.get(b"x-request-id") is not None
                assert answer.get(b"proxy-status") is not None

    def test_the_backends_own_errors_pass_unchanged(self, live: Live, tmp_path: Path) -> None:
        (tmp_path / "sorry.html").write_text("<p>sorry</p>")
        backend = live.recording(default=Answer(502, body=b"mine", reason=b"Oh No"))
        live.serve(backend.address, listener=f'http.error_pages = {{ 502 = "{tmp_path}/sorry.html" }}')
        with live.client() as client:
            answer = client.ask()
        assert (answer.status, answer.body, answer.reason) == (502, b"mine", b"Oh No")
        assert answer.get(b"proxy-status") is None

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize(
        ("limit", "size", "status"), [(1000, 1000, 200), (1000, 1001, 413), (0, 1, 413), (0, 0, 200)]
    )
    def test_a_body_beyond_the_limit_is_413(self, live: Live, limit: int, size: int, status: int, framing: str) -> None:
        backend = live.recording()
        live.serve(backend.address, more=_route(f"max_body = {limit}"))
        body = b"x" * size
        with live.client() as client:
            if framing == "chunked":
                pieces = [body[at : at + 100] for at in range(0, size, 100)]
                answer = client.ask(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(*pieces))
            else:
                answer = client.ask(b"POST", b"/", body=body)
            assert answer.status == status
            if status == 413:
                assert answer.get(b"connection") == b"close"
            else:
                assert client.ask().status == 200
        assert all(one.size <= limit for one in backend.requests if one.complete)
        assert live.records(1 + (status == 200))[0]["outcome"] == ("ok" if status == 200 else "body_large")

    def test_who_asks_first_is_told_before_the_body(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, more=_route("max_body = 10"))
        with live.client() as client:
            client.send(request(b"POST", b"/", ((b"Content-Length", b"11"), (b"Expect", b"100-continue"))))
            answer = client.answer()
            assert (answer.status, answer.interim) == (413, ())
            assert client.was_closed()
        assert backend.requests == []


class TestRecords:
    def test_formats_of_web_servers_and_ones_own(self, start: Callable[..., Lbproxy], ports: Ports) -> None:
        head = '[control]\nsocket = "unix:{directory}/control.sock"\n[stop]\ngrace = "0s"\n'
        head += '[records]\nto = "file:{directory}/%s"\n%s\n'
        template = "{client} {method} {path} {status} {outcome} {route} {user_agent} {{}}"
        wanted = {
            "common": 'format = "common"',
            "combined": 'format = "combined"',
            "template": f'format = "template"\ntemplate = "{template}"',
        }
        lines: dict[str, str] = {}
        with Recording(default=Answer(body=b"12345")) as backend:
            port = ports.reserve()
            site = http_site(port, backend.address)
            proxy = start(site, head=head % ("first", 'format = "common"'))
            for name, keys in wanted.items():
                text = (head % (name, keys)).replace("{directory}", str(proxy.directory)) + site
                proxy.file.write_text(text)
                status, problems = proxy.reload()
                assert status == 200, problems
                with RawClient(port) as client:
                    client.send(
                        request(
                            target=b"/a%20b?c=d",
                            fields=((b"User-Agent", b'Say "hi"\t\\'), (b"Referer", b"http://r.example/")),
                        )
                    )
                    assert client.answer().status == 200
                lines[name] = _line(proxy.directory / name)
        stamp = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
        common = rf'127\.0\.0\.1 - - {stamp} "GET /a%20b\?c=d HTTP/1\.1" 200 (\d+)'
        assert re.fullmatch(common + "\n", lines["common"]), lines
        agent = re.escape(r'"Say \"hi\"\t\\"')
        assert re.fullmatch(rf'{common} "http://r\.example/" {agent}' + "\n", lines["combined"]), lines
        assert re.fullmatch(r'127\.0\.0\.1:\d+ GET /a%20b 200 ok - Say \\"hi\\"\\t\\\\ {}' + "\n", lines["template"]), (
            lines
        )


def _line(file: Path) -> str:
    until(lambda: file.exists() and file.read_text().endswith("\n"), "the record is there")
    return file.read_text()


class TestForwarding:
    @pytest.mark.parametrize(
        ("peer", "said", "client", "sent"),
        [
            ("203.0.113.9", b"1.2.3.4", "203.0.113.9", b"203.0.113.9"),
            ("10.0.0.1", b"1.2.3.4, 198.51.100.7", "198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.1"),
            ("10.0.0.1", b"198.51.100.7:999, 10.0.0.2", "198.51.100.7", b"198.51.100.7, 10.0.0.2, 10.0.0.1"),
            ("10.0.0.1", b"10.0.0.3, 10.0.0.2", "10.0.0.3", b"10.0.0.3, 10.0.0.2, 10.0.0.1"),
            ("10.0.0.1", b"198.51.100.7, junk", "10.0.0.1", b"10.0.0.1"),
            ("10.0.0.1", b"", "10.0.0.1", b"10.0.0.1"),
            ("2001:db8::9", b"2001:db8::1", "2001:db8::9", b"2001:db8::9"),
        ],
    )
    def test_who_the_client_is(self, live: Live, peer: str, said: bytes, client: str, sent: bytes) -> None:
        """semantics.md 16. The peer comes by a PROXY header; routes, hashing and records go by the same client."""
        backend = live.recording()
        listener = 'proxy_protocol.from = "127.0.0.1"\nhttp = { trusted_peers = "10.0.0.0/8", forwarded = true }'
        more = _route(f'client = "{client}"\nname = "his"')
        live.serve(backend.address, listener=listener, more=more)
        family, local = ("TCP6", "2001:db8::2") if ":" in peer else ("TCP4", "198.51.100.2")
        fields = ((b"X-Forwarded-For", said),) if said else ()
        with live.client() as one:
            one.send(f"PROXY {family} {peer} {local} 51234 80\r\n".encode() + request(fields=fields))
            assert one.answer().status == 200
        (asked,) = backend.wait_for(1)
        assert asked.get(b"x-forwarded-for") == sent
        last = (asked.get(b"forwarded") or b"").rpartition(b", ")[2]
        shown = f'"[{peer}]"' if ":" in peer else peer
        assert last.startswith(b"for=" + shown.encode())
        record = live.record()
        assert record["route"] == "his"
        assert record["client"].strip("[]").startswith(client)

    def test_backends_are_hidden_where_that_is_wanted(self, live: Live, authority: Papers) -> None:
        def answer(asked: Asked) -> Answer:
            here = backend.address.encode()
            told = (
                (b"Server", b"secret/1.0"),
                (b"X-Powered-By", b"PHP/5"),
                (b"X-Kept", b"1"),
                (b"Location", b"http://%b/next?a=b" % here),
                (b"Content-Location", b"//%b/here" % here),
                (b"Refresh", b"5; url=http://%b/" % here),
                (b"Link", b"<http://elsewhere.example/>"),
            )
            return Answer(302, fields=told)

        backend = live.recording(answer)
        plain = _route("", path="/open")
        live.serve(
            backend.address,
            listener=tls_keys(authority.server(NAME)),
            more=plain + _route("conceal = true", path="/hidden"),
        )
        with https(live) as client:
            opened = client.ask(target=b"/open", host=b"shop.example")
            hidden = client.ask(target=b"/hidden", host=b"shop.example")
        assert opened.get(b"server") == b"secret/1.0"
        assert opened.get(b"location") == b"http://%b/next?a=b" % backend.address.encode()
        assert (hidden.get(b"server"), hidden.get(b"x-powered-by"), hidden.get(b"x-kept")) == (None, None, b"1")
        assert hidden.get(b"location") == b"https://shop.example/next?a=b"
        assert hidden.get(b"content-location") == b"https://shop.example/here"
        assert hidden.get(b"refresh") == b"5; url=https://shop.example/"
        assert hidden.get(b"link") == b"<http://elsewhere.example/>"
        assert backend.address.encode() not in hidden.head

    @pytest.mark.parametrize(
        ("rewrite", "asked", "target", "host"),
        [
            ('strip_prefix = "/api"', b"/api/a?b=c", b"/a?b=c", b"lbproxy.test"),
            ('strip_prefix = "/api"', b"/api", b"/", b"lbproxy.test"),
            ('strip_prefix = "/api", add_prefix = "/v2"', b"/api/a", b"/v2/a", b"lbproxy.test"),
            (
                'regex = "/user/([0-9]+)/(.*)", path = "/v2/{2}?user={1}"',
                b"/user/7/x?old",
                b"/v2/x?user=7",
                b"lbproxy.test",
            ),
            ('regex = "/user/([0-9]+)", path = "/u/{1}"', b"/user/x", b"/user/x", b"lbproxy.test"),
            ('path = "/one", host = "intern.example:8080"', b"/any?q", b"/one?q", b"intern.example:8080"),
            ('add_prefix = "/a"', b"/x/../y//z/%7e", b"/a/y/z/~", b"lbproxy.test"),
        ],
    )
    def test_paths_and_hosts_are_rewritten(
        self, live: Live, rewrite: str, asked: bytes, target: bytes, host: bytes
    ) -> None:
        backend = live.recording()
        live.serve(backend.address, more=_route(f"rewrite = {{ {rewrite} }}"))
        with live.client() as client:
            assert client.ask(target=asked).status == 200
        (one,) = backend.wait_for(1)
        assert (one.target, one.get(b"host")) == (target, host)
        assert one.get(b"x-forwarded-host") == b"lbproxy.test"

    def test_fields_are_edited_both_ways(self, live: Live) -> None:
        told = ((b"X-Secret", b"1"), (b"X-Secret", b"2"), (b"Vary", b"Accept"), (b"X-Frame-Options", b"ALLOW"))
        backend = live.recording(default=Answer(fields=told))
        edits = """
[route.request_headers]
remove = ["X-Gone", "Accept-Encoding"]
set = { X-Site = "{host} {scheme} {client_ip}", X-Forwarded-Proto = "wss" }
add = { X-More = "{uri}" }
[route.response_headers]
remove = "X-Secret"
set = { X-Frame-Options = "DENY", X-Id = "{request_id}" }
add = { Vary = "Origin" }
"""
        live.serve(backend.address, more=_route(edits))
        fields = (
            (b"X-Gone", b"1"),
            (b"x-gone", b"2"),
            (b"Accept-Encoding", b"gzip"),
            (b"X-Site", b"mine"),
            (b"X-More", b"first"),
        )
        with live.client() as client:
            answer = client.ask(target=b"/p?q", fields=fields)
        (asked,) = backend.wait_for(1)
        assert (asked.all(b"x-gone"), asked.all(b"accept-encoding")) == ([], [])
        assert asked.get(b"x-site") == b"lbproxy.test http 127.0.0.1"
        assert asked.get(b"x-forwarded-proto") == b"wss"
        assert asked.all(b"x-more") == [b"first", b"/p?q"]
        assert answer.all(b"x-secret") == []
        assert answer.get(b"x-frame-options") == b"DENY"
        assert answer.all(b"vary") == [b"Accept", b"Origin"]
        assert answer.get(b"x-id") == asked.get(b"x-request-id")

    @pytest.mark.parametrize("path", [b"/in/.x.", b"/in/..%2fx", b"/in/%2e%2e/x", b"/in/a%5cx"])
    def test_a_path_that_leads_elsewhere_is_refused_also_when_rewriting_makes_it(self, live: Live, path: bytes) -> None:
        """T18"""
        backend = live.recording()
        more = _route('rewrite = { regex = "/in/(.)x(.)", path = "/files/{1}{2}/secret" }')
        live.serve(backend.address, more=more.replace('path = "/"', 'path = "/in/"', 1))
        with live.client() as client:
            assert client.ask(target=b"/in/axb").status == 200
            answer = client.ask(target=path)
            assert (answer.status, answer.get(b"connection")) == (400, b"close")
        assert [one.target for one in backend.requests] == [b"/files/ab/secret"]
        assert live.records(2)[1]["rule"] == "T18"

    def test_a_loop_ends_where_it_is_noticed(self, live: Live) -> None:
        live.port = live.ports.reserve()
        # The check of the file finds the short way round.
        round_about = Chaos(live.port, delay=0.0, piece=65536, seed=1)
        live.stack.callback(round_about.stop)
        itself = http_pool("out", round_about.address, more="outlier = false")
        live.serve_text(http_listener(live.port, more='pool = "out"') + itself)
        with live.client() as client:
            answer = client.ask()
        assert (answer.status, answer.get(b"proxy-status")) == (502, b"lbproxy; error=proxy_loop_detected")
        assert sorted(record["outcome"] for record in live.records(2)) == ["loop", "ok"]


class TestSticky:
    def test_the_cookie_is_what_it_should_be(self, live: Live, authority: Papers, tmp_path: Path) -> None:
        """semantics.md 12"""
        keys = tmp_path / "keys"
        keys.write_bytes(base64.b64encode(bytes(32)) + b"\n")
        live.port = live.ports.reserve()
        one = named(live, b"web1")
        one.default = Answer(body=b"web1", fields=((b"Set-Cookie", b"app=1"),))
        sticky = f'sticky = {{ by = "cookie", key_file = "{keys}", max_age = "1h" }}'
        live.serve_text(
            http_listener(live.port, more='pool = "web"\n' + tls_keys(authority.server(NAME)))
            + http_pool("web", *listed(web1=one), more=sticky)
        )
        with https(live) as client:
            answer = client.ask(fields=((b"Cookie", b"a=b"),))
            ours = next(line for line in answer.all(b"set-cookie") if line.startswith(b"lb_"))
            name, _, rest = ours.partition(b"=")
            value, *attributes = rest.split(b"; ")
            assert (name, value) == (b"lb_4b5e57f6", b"v1.h-a3tPvjG-haPPnRBd3FAg")
            assert sorted(attributes) == [b"HttpOnly", b"Max-Age=3600", b"Path=/", b"SameSite=Lax", b"Secure"]
            assert answer.get(b"cache-control") == b"private"
            assert cookies_of(answer)[b"app"] == b"1"
            again = client.ask(fields=((b"Cookie", b"a=b; lb_4b5e57f6=%b; c=d" % value),))
            assert list(cookies_of(again)) == [b"app"]
            assert again.get(b"cache-control") is None
            client.ask(fields=((b"Cookie", b"lb_4b5e57f6=%b" % value),))
        assert [asked.all(b"cookie") for asked in one.wait_for(3)] == [[b"a=b"], [b"a=b; c=d"], []]
        mac = hmac.new(bytes(32), b"sticky\0web\0web1", hashlib.sha256).digest()[:16]
        assert base64.urlsafe_b64encode(mac).rstrip(b"=") == value.removeprefix(b"v1.")

    def test_forged_and_outdated_cookies_are_replaced(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        port = live.serve(*listed(one=one, two=two), pool='sticky = "cookie"')
        browser = Browser(live)
        bound = browser.ask().body
        (name,) = browser.jar
        good = browser.jar[name]
        browser.jar[name] = b"v1.AAAAAAAAAAAAAAAAAAAAAA"
        assert browser.ask().status == 200
        assert browser.jar[name].startswith(b"v1.")
        assert browser.jar[name] != b"v1.AAAAAAAAAAAAAAAAAAAAAA"
        browser.jar[name] = good
        assert browser.ask().body == bound
        left = {"two": two} if bound == b"one" else {"one": one}
        live.serve_text(
            http_listener(port, more='pool = "out"') + http_pool("out", *listed(**left), more='sticky = "cookie"')
        )
        moved = browser.ask().body
        assert moved != bound
        assert browser.jar[name] != good
        assert [record["state"][2:] for record in live.records(4)] == ["NI", "II", "VN", "II"]

    def test_each_way_to_know_a_client(self, live: Live) -> None:
        def by_header(client: int) -> Fields:
            return ((b"X-User", b"u%d" % client),)

        def by_address(client: int) -> Fields:
            return ((b"X-Forwarded-For", b"192.0.2.%d" % client),)

        ways: tuple[tuple[str, Callable[[int], Fields]], ...] = (
            ("header:X-User", by_header),
            ("client_ip", by_address),
        )
        one, two = named(live, b"one"), named(live, b"two")
        for sticky, fields in ways:
            live.serve(
                *listed(one=one, two=two),
                listener='http.trusted_peers = "127.0.0.1"',
                pool=f'sticky = "{sticky}"\npolicy = "round-robin"',
            )
            with live.client() as client:
                first = [client.ask(fields=fields(user)) for user in range(10)]
                second = [client.ask(fields=fields(user)) for user in reversed(range(10))][::-1]
                assert {answer.body for answer in first} == {b"one", b"two"}
                assert [answer.body for answer in first] == [answer.body for answer in second]
                assert not any(cookies_of(answer) for answer in first)

    def test_a_cookie_of_the_application_is_learnt(self, live: Live) -> None:
        def login(name: bytes) -> Callable[[Asked], Answer]:
            def answer(asked: Asked) -> Answer:
                if asked.path != "/login":
                    return Answer(body=name)
                session = (b"Set-Cookie", b"SID=%b; Path=/" % (asked.get(b"x-user") or b""))
                return Answer(body=name, fields=(session,))

            return answer

        one, two = live.recording(login(b"one")), live.recording(login(b"two"))
        live.serve(*listed(one=one, two=two), pool='sticky = "cookie:SID"\npolicy = "round-robin"')
        browsers = [Browser(live) for _ in range(4)]
        homes = [one.ask(target=b"/login", fields=((b"X-User", b"u%d" % n),)).body for n, one in enumerate(browsers)]
        assert set(homes) == {b"one", b"two"}
        for _ in range(3):
            assert [browser.ask().body for browser in browsers] == homes
        # An application's cookie is its own: it goes on to the backend.
        assert any(asked.get(b"cookie") == b"SID=u0" for asked in one.requests + two.requests)


class TestHashing:
    KEYS = tuple(b"k%d" % number for number in range(8))

    @pytest.mark.parametrize(
        ("policy", "picks"),
        [("ketama", "22323121"), ("rendezvous", "33133323")],
    )
    @pytest.mark.parametrize("key", ["cookie:session", "header:X-Key", "query:key"])
    def test_the_vectors(self, live: Live, policy: str, picks: str, key: str) -> None:
        """semantics.md 11, weights 1, 1 and 2"""
        backends = [named(live, b"%d" % number) for number in (1, 2, 3)]
        tables = [
            f'{{ id = "web{number}", address = "{one.address}", weight = {1 + (number == 3)} }}'
            for number, one in enumerate(backends, 1)
        ]
        live.serve(*tables, pool=f'policy = "{policy}"\nhash_key = "{key}"')
        found = b""
        with live.client() as client:
            for value in self.KEYS:
                if key == "cookie:session":
                    found += client.ask(fields=((b"Cookie", b"a=b; session=%b" % value),)).body
                elif key == "header:X-Key":
                    found += client.ask(fields=((b"x-key", value),)).body
                else:
                    found += client.ask(target=b"/?x=y&key=%b" % value).body
        assert found.decode() == picks

    def test_when_a_backend_goes_only_its_keys_move(self, live: Live) -> None:
        backends = [named(live, b"%d" % number) for number in (1, 2, 3)]
        live.serve(
            *(f'{{ id = "web{number}", address = "{one.address}" }}' for number, one in enumerate(backends, 1)),
            pool='policy = "ketama"\nhash_key = "cookie:session"',
        )

        def picks() -> dict[int, bytes]:
            with live.client() as client:
                return {n: client.ask(fields=((b"Cookie", b"session=%d" % n),)).body for n in range(60)}

        before = picks()
        assert live.proxy.ask("PATCH", "/v1/pools/out/backends/web2", {"state": "drain"})[0] == 200
        after = picks()
        assert set(after.values()) == {b"1", b"3"}
        assert all(after[n] == pick for n, pick in before.items() if pick != b"2")
        assert live.proxy.ask("PATCH", "/v1/pools/out/backends/web2", {"state": "ready"})[0] == 200
        assert picks() == before
