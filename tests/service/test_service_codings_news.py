"""What the operator is told of codings whose library is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbproxy.config import Loaded, Problem, loads
from lbproxy.service import codings_news, start
from lbproxy.service.codings_news import with_codings_news

BASE = """\
[[listener]]
bind = "127.0.0.1:80"
protocol = "http"
pool = "web"
[pool.web]
backends = "10.0.0.1:80"
"""
ROUTE = '[[route]]\npath = "/{0}"\npool = "web"\ncompress = {1}\n'


def loaded(*compress: str) -> Loaded:
    """A configuration with a route for each of these."""
    return loads(BASE + "".join(ROUTE.format(n, one) for n, one in enumerate(compress)), "/d/f")


def test_each_coding_is_told_once_for_the_first_route_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings_news, "AVAILABLE", (b"gzip",))
    made = loaded('{ codings = ["br", "gzip"] }', "true", '{ codings = "zstd" }')
    told = with_codings_news(made)
    assert told.configuration is made.configuration
    text = "its library is not installed; pip install"
    assert list(map(str, told.problems)) == [
        f'/d/f:7: warning: route[0].compress.codings: "br" is left out, {text} brotli',
        f'/d/f:11: warning: route[1].compress.codings: "zstd" is left out, {text} backports.zstd',
    ]


def test_what_is_installed_or_not_wanted_is_not_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings_news, "AVAILABLE", (b"zstd", b"br", b"gzip"))
    assert with_codings_news(loaded("true")).problems == ()
    monkeypatch.setattr(codings_news, "AVAILABLE", (b"gzip",))
    assert with_codings_news(loaded('{ codings = "gzip" }', "false")).problems == ()


def test_other_problems_stay_and_nothing_is_added_to_a_refused_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings_news, "AVAILABLE", (b"zstd", b"gzip"))
    refused = Loaded(None, (Problem("f", 3, "pool", "is wrong"),))
    assert with_codings_news(refused) is refused
    made = loaded("true")
    odd = Problem("/d/f", 9, "x", "is odd", "warning")
    told = with_codings_news(Loaded(made.configuration, (odd,)))
    assert [problem.line for problem in told.problems] == [7, 9]


def test_a_check_and_a_reload_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(codings_news, "AVAILABLE", (b"gzip",))
    file = tmp_path / "f"
    file.write_text(BASE + ROUTE.format("", "true"))
    assert start.check(str(file), "text") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{file}: fine, with 2 warnings"
    prepared = start.prepare(str(file), listens=[], backends=[], policy=None, level=None, check=False, form="text")
    assert capsys.readouterr().err.count("is left out") == 2
    assert len(prepared.load_again().problems) == 2
