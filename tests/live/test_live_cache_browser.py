"""A real browser in front of the cache: a page with its parts, packed, from the store, and confirmed when reloaded."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.live.cache_scripts import TEXT, cacheable, caching, stat
from tests.live.harness import until
from tests.live.http_peers import Answer, Asked
from tests.live.http_scripts import Live
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.tls_peers import Papers
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import tls_keys

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FILLER = b"".join(b"/* line %d of a style that is worth compressing */\n" % number for number in range(200))
_STYLE = b"#said { width: 123px }\n" + _FILLER
_SCRIPT = (
    _FILLER
    + b"""
const times = Number(sessionStorage.getItem("times") || 0) + 1;
sessionStorage.setItem("times", times);
addEventListener("load", async () => {
  if (times < 2) { location.reload(); return; }
  const again = await fetch("/data.txt", {cache: "no-cache"});
  await again.text();
  const answer = await fetch("/data.txt", {cache: "no-cache"});
  const said = document.getElementById("said");
  const text = await answer.text();
  const status = answer.headers.get("cache-status") || "";
  said.textContent = [times, said.offsetWidth, text.length, answer.status, status.includes("hit")].join(" ");
});
"""
)
_PAGE = (
    b'<!DOCTYPE html><html><head><link rel="stylesheet" href="/style.css"><script src="/script.js"></script></head>'
    b'<body><div id="said">nothing</div><p>' + b"many words " * 300 + b"</p></body></html>"
)
_PARTS = {
    "/": (_PAGE, b"text/html"),
    "/style.css": (_STYLE, b"text/css"),
    "/script.js": (_SCRIPT, b"text/javascript"),
    "/data.txt": (b"data " * 1000, TEXT[1]),
}


def _answer(asked: Asked) -> Answer:
    if asked.path not in _PARTS:
        return Answer(404)
    body, kind = _PARTS[asked.path]
    return cacheable(body, (b"Content-Type", kind), (b"ETag", b'"%d"' % len(body)))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_and_its_reload(live: Live, authority: Papers, tmp_path: Path, scheme: str) -> None:
    backend = live.recording(_answer)
    tls = scheme == "https"
    caching(live, backend.address, compress="true", listener=tls_keys(authority.issue("127.0.0.1")) if tls else "")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
    command += ["--ignore-certificate-errors", f"--user-data-dir={tmp_path}/profile", "--no-proxy-server"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"{scheme}://127.0.0.1:{live.port}/"]
    done = subprocess.run(command, capture_output=True, timeout=40, check=False)
    page = done.stdout.decode()
    # Reloaded once, styled, the data whole, and what a script sees of a confirmed answer is a hit.
    assert '<div id="said">2 123 5000 200 true</div>' in page, (page[:600], done.stderr.decode()[-500:])
    asked = Counter(one.path for one in backend.requests if one.path in _PARTS)
    assert asked == dict.fromkeys(_PARTS, 1), "each is asked of the backend once"
    assert stat(live.proxy)["requests"]["hit"] >= 2, "the page again, and the data"
    # What it has of a site whose certificate it does not trust, a browser does not keep.
    wanted = {"miss", "hit"} if tls else {"miss", "hit", 304}
    until(lambda: wanted <= _told(live, "cache") | _told(live, "status"), "all has been recorded")
    assert _told(live, "coding") == {"zstd"}


def _told(live: Live, key: str) -> set[object]:
    """What the records of this test say there."""
    live.proxy.signal(signal.SIGUSR1)  # which writes what has been gathered
    records = [one for one in live.proxy.records() if one["listener"] == live.listener and one["path"] in _PARTS]
    return {one[key] for one in records if key in one}
