"""`lbproxy cache`: what it asks of a running instance, and warming against a small server."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lbproxy import commands_cache
from lbproxy.cli import main
from lbproxy.commands_cache import Tally
from lbproxy.service import cache_page
from lbproxy.service.warm_list import Fetched, Wanted, judge, read_list
from lbproxy.service.warming import fetch_all

STATUS = {
    "memory": {"used": 13 * 1024 * 1024, "limit": 128 * 1024 * 1024, "objects": 5210, "evicted": 33},
    "disk": None,
    "requests": {"hit": 90, "stale": 1, "updating": 2, "revalidated": 3, "miss": 4, "bypass": 50},
    "collapsed": 7,
    "bans": 1,
}


class Desk:
    """Says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []

    def purge(self, kind: str, value: str, soft: bool) -> dict[str, Any]:
        self.asked.append((kind, value, soft))
        if value == "nonsense":
            raise ValueError("'nonsense' is not a whole URL")
        return {"purged": 0 if "missing" in value else 2} if kind == "url" else {"ban": 17}

    def status(self) -> dict[str, Any]:
        return STATUS


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A control socket at which this desk answers."""
    made = Desk()

    def ask(path: str, method: str, target: str, body: dict[str, object] | None = None) -> tuple[int, Any]:
        assert path == "/run/x"
        if (method, target) == ("GET", "/v1/cache"):
            return cache_page.cache_status(made)
        assert (method, target) == ("POST", "/v1/cache/purge")
        return cache_page.purge(made, body or {})

    monkeypatch.setattr(commands_cache, "ask", ask)
    return made


PURGES = [
    (["http://a.example/x"], ("url", "http://a.example/x", False), "purged: 2 stored answers"),
    (["http://a.example/missing"], ("url", "http://a.example/missing", False), "nothing was stored for this URL"),
    (["--prefix", "http://a.example/"], ("prefix", "http://a.example/", False), "purged: all that was stored until now "
     "below http://a.example/ (ban 17)"),
    (["--host", "a.example"], ("host", "a.example", False), "purged: all that was stored until now for a.example "
     "(ban 17)"),
    (["--tag", "news", "--soft"], ("tag", "news", True), "marked stale: all that was stored until now with the tag "
     "news (ban 17)"),
    (["--all"], ("all", "", False), "purged: all that was stored until now (ban 17)"),
    (["http://a.example/x", "--soft"], ("url", "http://a.example/x", True), "marked stale: 2 stored answers"),
]  # fmt: skip


class TestPurging:
    @pytest.mark.parametrize(("arguments", "asked", "told"), PURGES)
    def test_what_is_asked_and_told(
        self, desk: Desk, capsys: pytest.CaptureFixture[str], arguments: list[str], asked: Any, told: str
    ) -> None:
        assert main(["cache", "purge", *arguments, "--socket", "/run/x"]) == 0
        assert desk.asked == [asked]
        assert capsys.readouterr().out == f"{told}\n"

    def test_a_refusal_is_told(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cache", "purge", "nonsense", "--socket", "/run/x"]) == 1
        assert capsys.readouterr().err == "lbproxy: 'nonsense' is not a whole URL\n"

    @pytest.mark.parametrize("arguments", [[], ["http://a/", "--all"], ["--tag", "a", "--host", "b"]])
    def test_one_thing_is_purged_at_a_time(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as problem:
            main(["cache", "purge", *arguments])
        assert problem.value.code == 2


class TestStat:
    def test_the_page(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cache", "stat", "--socket", "/run/x"]) == 0
        rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert rows == [
            ["memory", "13MiB of 128MiB"],
            ["objects", "5210"],
            ["evictions", "33"],
            ["hit", "ratio    93.0 %"],
            ["hits", "90"],
            ["misses", "4"],
            ["stale", "3"],
            ["revalidated", "3"],
            ["bypassed", "50"],
            ["collapsed", "7"],
            ["bans", "1"],
            ["disk", "none"],
        ]

    def test_json(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cache", "stat", "--json", "--socket", "/run/x"]) == 0
        assert json.loads(capsys.readouterr().out) == STATUS

    def test_where_no_route_caches_it_is_told(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(commands_cache, "ask", lambda *_: cache_page.cache_status(None))
        assert main(["cache", "stat", "--socket", "/run/x"]) == 1
        assert capsys.readouterr().err == "lbproxy: no route caches: write cache = true in a [[route]]\n"


# --- warming --------------------------------------------------------------------------------------------------------


class Site(ThreadingHTTPServer):
    """Answers by path, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.stored: set[str] = set()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, *_: Any) -> None:
        """Nothing to see."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.close_connection = self.path in ("/dropped", "/short")
        if self.path == "/dropped":
            return
        known = self.path in self.server.stored
        self.server.stored.add(self.path)
        said = {
            "/private": "lbproxy; fwd=uri-miss; detail=private",
            "/bypass": "lbproxy; fwd=bypass",
            "/untold": "other; hit",
        }.get(self.path, "lbproxy; hit; ttl=59" if known else "lbproxy; fwd=uri-miss; stored")
        body = b"x" * (1_000_000 if self.path == "/large" else 100)
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Status", said)
        if self.path == "/last":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body[:50] if self.path == "/short" else body)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def warm(lines: list[str], tmp_path: Path, *options: str) -> int:
    """The exit status of warming with this list."""
    listed = tmp_path / "urls"
    listed.write_text("\n".join(lines))
    return main(["cache", "warm", str(listed), *options])


class TestWarming:
    def test_a_list_is_stored_and_the_second_time_it_is_there(
        self, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = ["# pages", "", f"  {site.url('/a')}", site.url("/b?c=d#e"), site.url("/large")]
        assert warm(lines, tmp_path) == 0
        assert sorted(path for path, _ in site.requests) == ["/a", "/b?c=d", "/large"]
        assert capsys.readouterr().out.splitlines()[-1] == "done: 3 of 3 fetched, 976.8KiB; 3 stored"
        assert warm([*lines, site.url("/new")], tmp_path) == 0
        assert (
            capsys.readouterr().out.splitlines()[-1]
            == "done: 4 of 4 fetched, 976.9KiB; 1 stored, 3 were cached already"
        )

    def test_what_failed_and_what_was_not_stored_is_told_with_its_reason(
        self, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            closed = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
            lines = [site.url(f"/{path}") for path in ("a", "private", "bypass", "untold", "missing", "dropped")]
            assert warm([*lines, site.url("/short"), closed, "ftp://a/\x1b"], tmp_path, "--concurrency", "1") == 1
        told = capsys.readouterr().out.splitlines()
        assert told[-10:] == [
            "done: 4 of 9 fetched, 500B; 1 stored, 2 not stored, 1 said nothing of the cache, 5 failed",
            "not stored:",
            "  1 for: private",
            "  1 for: bypass",
            "failed:",
            "  ftp://a/?: line 9: no whole URL; write http://host/path or https://host/path, percent-encoded",
            f"  {site.url('/missing')}: status 404",
            f"  {site.url('/dropped')}: the connection was closed without an answer",
            f"  {site.url('/short')}: the answer ended before its end",
            f"  {closed}: Connection refused",
        ]

    def test_the_connection_may_go_elsewhere_than_the_url_says(self, site: Site, tmp_path: Path) -> None:
        place = f"127.0.0.1:{site.server_port}"
        lines = ["http://www.example:8080/a", "http://other.example/b"]
        assert warm(lines, tmp_path, "--connect", place, "--concurrency", "1") == 0
        assert [(path, fields["host"]) for path, fields in site.requests] == [
            ("/a", "www.example:8080"),
            ("/b", "other.example"),
        ]

    def test_requests_have_the_fields_that_were_asked_for_and_no_others(self, site: Site, tmp_path: Path) -> None:
        assert warm([site.url("/a")], tmp_path) == 0
        options = ("--header", "Accept-Encoding: br, gzip", "--header", "X-A:")
        assert warm([site.url("/a")], tmp_path, *options) == 0
        (_, plain), (_, chosen) = site.requests
        assert set(plain) == {"host"}
        assert chosen == {"host": plain["host"], "accept-encoding": "br, gzip", "x-a": ""}

    def test_connections_are_used_again_until_they_are_closed(self, site: Site, tmp_path: Path) -> None:
        lines = [site.url(path) for path in ("/a", "/b", "/last", "/c", "/d")]
        assert warm(lines, tmp_path, "--concurrency", "1") == 0
        assert site.connections == 2

    def test_one_that_was_closed_while_idle_is_no_failure(self, site: Site, tmp_path: Path) -> None:
        # It closes without a word behind its first answer.
        with socket.create_server(("127.0.0.1", 0)) as server:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Status: lbproxy; hit\r\n\r\n"

            def serve() -> None:
                for _ in range(2):
                    client, _ = server.accept()
                    with client:
                        client.recv(65536)
                        client.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            assert warm([f"{url}/a", f"{url}/b"], tmp_path, "--concurrency", "1") == 0
            thread.join()

    def test_as_many_requests_as_were_asked_for_are_under_way_at_once(self) -> None:
        meeting = threading.Barrier(3, timeout=10)

        class Meeting(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing to see."""

            def do_GET(self) -> None:
                meeting.wait()
                self.send_response(200)
                self.send_header("Cache-Status", "lbproxy; hit")
                self.end_headers()

        with ThreadingHTTPServer(("127.0.0.1", 0), Meeting) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            listed = read_list([f"http://127.0.0.1:{server.server_port}/{n}" for n in range(6)])
            results = fetch_all([one for one in listed if isinstance(one, Wanted)], 3, None, [])
            assert [one.verdict for one in results] == ["cached"] * 6
            server.shutdown()
            thread.join()

    def test_who_stops_early_waits_for_nobody(self, site: Site) -> None:
        listed = [one for one in read_list([site.url(f"/{n}") for n in range(50)]) if isinstance(one, Wanted)]
        with closing(fetch_all(listed, 2, None, [])) as results:
            assert next(results).verdict == "stored"

    def test_the_list_may_come_from_standard_input(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{site.url('/a')}\n"))
        assert main(["cache", "warm", "-"]) == 0
        assert [path for path, _ in site.requests] == ["/a"]

    def test_an_empty_list_is_soon_done(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert warm(["# nothing"], tmp_path) == 0
        assert capsys.readouterr().out == "done: 0 of 0 fetched, 0B; no URL\n"

    def test_a_list_that_is_not_there_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cache", "warm", str(tmp_path / "none")]) == 1
        assert capsys.readouterr().err == f"lbproxy: {tmp_path}/none: cannot be read: No such file or directory\n"

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--connect", "a"),
            ("--connect", "unix:/run/x"),
            ("--concurrency", "0"),
            ("--concurrency", "1001"),
            ("--concurrency", "²"),
            ("--header", "X-A"),
            ("--header", "X A: b"),
            ("--header", "X-A: b\r\nX-C: d"),
            ("--header", "Host: a"),
        ],
    )
    def test_options_that_make_no_sense(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
    ) -> None:
        with pytest.raises(SystemExit) as problem:
            warm([], tmp_path, option, value)
        assert problem.value.code == 2
        assert f"argument {option}: " in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestTheTally:
    def test_a_terminal_gets_a_bar_that_is_redrawn_now_and_then_and_removed_at_the_end(self) -> None:
        stream, now = Terminal(), [0.0]
        tally = Tally(20, stream, lambda: now[0])
        for n in range(20):
            now[0] = n * 0.05
            tally.count(Fetched(f"http://a/{n}", "stored", "", 1024))
        drawn = stream.getvalue().split("\r[")[1:]
        # Every other one, and the last.
        assert [frame.partition("] ")[2].partition(" ")[0] for frame in drawn] == [
            f"{n}/20" for n in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 20)
        ]
        assert set(drawn[-1].partition("]")[0]) == {"#"}
        assert {len(frame.partition("]")[0]) for frame in drawn} == {60}
        tally.end("done")
        assert stream.getvalue().endswith("\r\x1b[Kdone: 20 of 20 fetched, 20KiB; 20 stored\n")

    def test_elsewhere_there_is_a_line_for_each_tenth(self) -> None:
        stream = io.StringIO()
        tally = Tally(40, stream)
        for n in range(40):
            tally.count(Fetched(f"http://a/{n}", "cached"))
        assert [line.split()[0] for line in stream.getvalue().splitlines()] == [str(n) for n in range(4, 41, 4)]

    def test_of_many_failures_the_first_are_told(self) -> None:
        stream = io.StringIO()
        tally = Tally(10, stream)
        for n in range(10):
            tally.count(Fetched(f"http://a/{n}", "failed", "no\nreason"))
        tally.end("done")
        assert stream.getvalue().splitlines()[-8:] == [
            "done: 0 of 10 fetched, 0B; 10 failed",
            "failed:",
            *(f"  http://a/{n}: no?reason" for n in range(5)),
            "  and 5 more",
        ]


# --- lists and verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://a.example", Wanted("http://a.example", False, "a.example", 80, "a.example", "/")),
        ("HTTPS://A.example?b", Wanted("HTTPS://A.example?b", True, "a.example", 443, "A.example", "/?b")),
        ("http://[::1]:81/a;b#c", Wanted("http://[::1]:81/a;b#c", False, "::1", 81, "[::1]:81", "/a;b")),
    ],
)
def test_a_url_says_where_to_go_and_what_to_ask(text: str, wanted: Wanted) -> None:
    assert list(read_list([text])) == [wanted]


@pytest.mark.parametrize(
    "text", ["a.example", "//a/", "http:///a", "http://", "http://a:/", "http://a:x/", "http://a:0/", "http://a:99999/",
             "http://[::1/", "http://a b/", "http://ä/", "http://u:p@a/", "http://a/\x00"],
)  # fmt: skip
def test_what_is_no_url_has_failed_with_its_line(text: str) -> None:
    (one,) = read_list(["", "#", text])
    assert isinstance(one, Fetched)
    assert (one.verdict, one.detail.partition(":")[0]) == ("failed", "line 3")


@pytest.mark.parametrize(
    ("values", "verdict", "detail"),
    [
        (["lbproxy; hit; ttl=5"], "cached", ""),
        (["lbproxy;fwd=uri-miss;stored"], "stored", ""),
        (["lbproxy; fwd=miss; stored; collapsed"], "stored", ""),
        (["lbproxy; fwd=uri-miss; detail=private"], "not stored", "private"),
        (['lbproxy; fwd=uri-miss; detail="no-store; \\"stored\\", hit"'], "not stored", 'no-store; "stored", hit'),
        (["lbproxy; fwd=bypass"], "not stored", "bypass"),
        (["lbproxy"], "not stored", "no reason was given"),
        (['"lbproxy"; hit'], "cached", ""),
        (["origin; hit", "lbproxy; fwd=uri-miss; stored", "edge; hit"], "stored", ""),
        (["lbproxy; hit, lbproxy; fwd=bypass"], "not stored", "bypass"),
        (['edge; detail="a, lbproxy; hit"'], "untold", "the answer has no Cache-Status of lbproxy"),
        (["lbproxy2; hit"], "untold", "the answer has no Cache-Status of lbproxy"),
        (['lbproxy; "'], "not stored", "no reason was given"),
        ([], "untold", "the answer has no Cache-Status of lbproxy"),
    ],
)
def test_what_an_answer_says_of_the_cache(values: list[str], verdict: str, detail: str) -> None:
    assert judge("u", 200, values, 5) == Fetched("u", verdict, detail, 5)  # type: ignore[arg-type]  # one of them


def test_an_answer_that_is_an_error_has_failed_even_if_it_was_stored() -> None:
    assert judge("u", 404, ["lbproxy; fwd=uri-miss; stored"], 5) == Fetched("u", "failed", "status 404", 5)
    assert judge("u", 301, ["lbproxy; fwd=uri-miss; stored"], 5) == Fetched("u", "stored", "", 5)
