"""Sites for the clients that people have: curl as it is typed, and a browser with a page of many parts."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.live.http_peers import Answer, Asked
from tests.live.http_scripts import Live, blocks, digest, large
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE
from tests.live.tls_peers import Papers
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, tls_keys

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
PARTS = 20
_PAGE = (
    b"<!DOCTYPE html><html><head><title>parts</title></head><body><script>var parts = 0;</script>"
    + b"".join(b'<script src="/part/%d.js"></script>' % number for number in range(PARTS // 2))
    + b"".join(
        b'<img src="/part/%d.svg" onload="parts++; document.body.id = \'of\' + parts">' % number
        for number in range(PARTS // 2, PARTS)
    )
    + b'<script>fetch("/post", {method: "POST", body: "from here"}).then(a => a.text())'
    b".then(text => { document.title = text })</script></body></html>"
)
_PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def curl(live: Live, *words: str, path: str = "/", scheme: str = "http", fails: bool = False) -> str:
    """What curl prints; the options that a user would not type make it quiet about its progress and deaf to proxies."""
    host = "127.0.0.1" if scheme == "http" else NAME
    command = ["curl", "-sS", "-m", str(PATIENCE), "--noproxy", "*", "--resolve", f"{NAME}:{live.port}:127.0.0.1"]
    done = subprocess.run(
        [*command, *words, f"{scheme}://{host}:{live.port}{path}"], capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr.decode()
    return done.stdout.decode("latin-1")


def _ranges(asked: Asked) -> Answer:
    """A server that knows single ranges of a hundred digits."""
    whole = b"0123456789" * 10
    found = re.fullmatch(rb"bytes=(\d+)-(\d+)", asked.get(b"range") or b"")
    if found is None:
        return Answer(body=whole, fields=((b"Accept-Ranges", b"bytes"),))
    first, last = int(found[1]), int(found[2])
    told = (b"Content-Range", b"bytes %d-%d/100" % (first, last))
    return Answer(206, body=whole[first : last + 1], fields=(told,), reason=b"Partial Content")


@needs_curl
class TestCurl:
    def test_head_shows_the_fields_of_get(self, live: Live) -> None:
        live.serve(live.recording().address)
        said = curl(live, "-I")
        assert said.startswith("HTTP/1.1 200 OK\r\n")
        assert "Content-Length: 2\r\n" in said
        assert said.endswith("\r\n\r\n")

    def test_forms_are_posted(self, live: Live, tmp_path: Path) -> None:
        backend = live.recording(lambda asked: Answer(body=asked.body))
        live.serve(backend.address)
        assert curl(live, "-d", "a=b", "-d", "c=d e") == "a=b&c=d e"
        (tmp_path / "file").write_text("content")
        said = curl(live, "-F", "name=value", "-F", f"file=@{tmp_path}/file")
        assert said.count("Content-Disposition: form-data") == 2
        assert "content" in said
        assert backend.requests[0].get(b"content-type") == b"application/x-www-form-urlencoded"

    def test_http_1_0(self, live: Live) -> None:
        backend = live.recording({"/": Answer(body=b"x" * 1000, framing="chunked", piece=100)})
        live.serve(backend.address)
        said = curl(live, "--http1.0", "-i")
        assert said.startswith("HTTP/1.1 200 OK\r\n")
        assert "chunked" not in said
        assert said.endswith("\r\n\r\n" + "x" * 1000)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_an_upload_that_asks_first(self, live: Live, authority: Papers, tmp_path: Path, scheme: str) -> None:
        file = tmp_path / "up.bin"
        with file.open("wb") as out:
            out.writelines(blocks(3_000_000))
        backend = live.recording(keep_bodies=False)
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)) if scheme == "https" else "")
        words = ("--cacert", authority.ca, "-w", " %{http_code}", "-T", str(file))
        assert curl(live, *words, "-H", "Expect: 100-continue", scheme=scheme) == "ok 200"
        assert curl(live, *words, "-H", "Transfer-Encoding: chunked", "-H", "Expect:", scheme=scheme) == "ok 200"
        asked = backend.wait_for(2)
        assert {one.digest for one in asked} == {digest(3_000_000)}
        assert [one.get(b"expect") for one in asked] == [b"100-continue", None]

    def test_what_is_compressed_passes_as_it_is(self, live: Live) -> None:
        packed = gzip.compress(b"many words " * 1000)
        backend = live.recording({"/": Answer(body=packed, fields=((b"Content-Encoding", b"gzip"),))})
        live.serve(backend.address)
        assert curl(live, "--compressed") == "many words " * 1000
        assert b"gzip" in (backend.requests[0].get(b"accept-encoding") or b"")
        assert curl(live).encode("latin-1") == packed

    def test_ranges_and_downloads_that_go_on(self, live: Live, tmp_path: Path) -> None:
        backend = live.recording(_ranges)
        live.serve(backend.address)
        assert curl(live, "-r", "5-14") == "5678901234"
        assert "HTTP/1.1 206 Partial Content" in curl(live, "-i", "-r", "0-0")
        assert len(curl(live)) == 100

    def test_redirects_are_followed(self, live: Live) -> None:
        backend = live.recording()
        more = '[[route]]\nlistener = "in"\npath = "/old/"\nredirect = "{scheme}://{host}:{port}/new?from={path}"\n'
        live.serve(backend.address, more=more)
        assert curl(live, "-L", path="/old/a") == "ok"
        assert backend.requests[0].target == b"/new?from=/old/a"

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_many_in_parallel(self, live: Live, authority: Papers, scheme: str, tmp_path: Path) -> None:
        backend = live.recording(default=large(200_000), keep_bodies=False)
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)) if scheme == "https" else "")
        words = ("--cacert", authority.ca, "-Z", "--parallel-max", "20", "--parallel-immediate")
        said = curl(
            live,
            *words,
            "--no-progress-meter",
            "-o",
            f"{tmp_path}/#1",
            "-w",
            "%{http_code} %{size_download}\n",
            path="/[1-100]",
            scheme=scheme,
        )
        assert Counter(said.splitlines()) == {"200 200000": 100}
        files = list(tmp_path.iterdir())
        assert len(files) == 100
        assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == {digest(200_000)}

    def test_a_truncated_answer_is_an_error_for_the_user(self, live: Live) -> None:
        """B5"""
        body = b"x" * 5000
        backend = live.recording(
            {"/": Answer(body=body, cut=1000), "/c": Answer(body=body, framing="chunked", cut=1000)}
        )
        live.serve(backend.address)
        for path in ("/", "/c"):
            curl(live, path=path, fails=True)

    def test_timings_are_told(self, live: Live) -> None:
        live.serve(live.recording({"/": Answer(delay=0.05)}).address)
        said = json.loads(curl(live, "-o", "/dev/null", "-w", "%{json}"))
        assert (said["http_code"], said["num_connects"], said["size_download"]) == (200, 1, 2)
        assert 0.05 <= said["time_starttransfer"] < 2


@needs_chromium
class TestBrowser:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_page_with_all_its_parts(self, live: Live, authority: Papers, tmp_path: Path, scheme: str) -> None:
        def answer(asked: Asked) -> Answer:
            if asked.path == "/":
                return Answer(body=_PAGE, fields=((b"Content-Type", b"text/html"),), framing="chunked", piece=100)
            if asked.path.endswith(".js"):
                return Answer(body=b"parts++;", fields=((b"Content-Type", b"text/javascript"),))
            if asked.path.endswith(".svg"):
                return Answer(body=_PICTURE, fields=((b"Content-Type", b"image/svg+xml"),))
            if asked.path == "/post":
                return Answer(body=b"heard: " + asked.body)
            return Answer(404)

        backend = live.recording(answer)
        listener = tls_keys(authority.issue("127.0.0.1")) if scheme == "https" else ""
        live.serve(backend.address, listener=listener, pool="sticky = 'cookie'")
        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
        command += ["--ignore-certificate-errors", f"--user-data-dir={tmp_path}/profile", "--no-proxy-server"]
        command += ["--virtual-time-budget=5000", "--dump-dom", f"{scheme}://127.0.0.1:{live.port}/"]
        done = subprocess.run(command, capture_output=True, timeout=40, check=False)
        page = done.stdout.decode()
        assert f'id="of{PARTS}"' in page, (page[-500:], done.stderr.decode()[-500:])
        assert "<title>heard: from here</title>" in page
        paths = Counter(asked.path for asked in backend.requests)
        assert {f"/part/{n}.{'js' if n < PARTS // 2 else 'svg'}" for n in range(PARTS)} <= set(paths)
        asked = {one.path: one for one in backend.requests}
        assert asked["/post"].get(b"x-forwarded-proto") == scheme.encode()
        # Of one origin a browser has six connections; what they carry, lbproxy carries over no more than that.
        assert len({one.connection for one in backend.requests}) <= 7
