"""The cache on a disk in a real process: what outlives it, what is too large for memory, and disks that are full."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.live.cache_scripts import SITE, TEXT, Stepwise, cacheable, is_hit, purge, route, stat, told, unpacked
from tests.live.harness import Lbproxy, Ports, until
from tests.live.http_peers import Answer, Asked, Chooses, RawClient, http_site, request
from tests.live.http_scripts import Live, Recording, all_at_once, blocks, digest, large, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.tls_peers import Papers
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, https, tls_keys

MIB = 1024 * 1024
BIG = 3 * MIB + 12_345
ETAG = (b"ETag", b'"one"')


def _table(directory: object, more: str = "", memory: str = 'max_object = "1MiB"') -> str:
    return f'[cache]\n{memory}\n[cache.disk]\npath = "{directory}"\n{more}\n'


def _big(**options: object) -> Answer:
    return large(BIG, fields=((b"Cache-Control", b"max-age=60"), ETAG, TEXT), **options)


def _open(proxy: Lbproxy) -> None:
    """Wait until the disk is open: before that, what is too large for memory is passed on."""
    until(lambda: stat(proxy)["disk"]["open"], "it is open")


def _serve(live: Live, backend: Recording, top: str, more: str = "", **where: str) -> None:
    """Go over to this cache, and wait until its disk is open."""
    live.serve(backend.address, top=top, more=more or route(), **where)
    _open(live.proxy)


def _written(proxy: Lbproxy, count: int) -> None:
    until(lambda: stat(proxy)["disk"]["files"] >= count, f"{count} files are written")


def _sum(client: RawClient) -> str:
    return hashlib.sha256(client.answer().body).hexdigest()


class TestRestart:
    def test_what_was_stored_is_served_without_a_backend(
        self, start: Callable[..., Lbproxy], ports: Ports, tmp_path: Path
    ) -> None:
        """In order, and after SIGKILL; a purge and its like count beyond it"""
        answers: dict[str, Answer | Chooses] = {
            "/page": cacheable(b"page", ETAG, TEXT),
            "/big": _big(),
            "/gone": cacheable(b"gone"),
            "/soft": cacheable(b"soft", ETAG),
            "/short": cacheable(cc=b"max-age=0"),
            "/vary": lambda asked: cacheable(asked.get(b"x-kind") or b"", (b"Vary", b"X-Kind")),
        }
        with Recording(answers) as backend:
            port = ports.reserve()
            text = _table(tmp_path / "disk") + http_site(port, backend.address, more=route(compress="true"))
            first = start(text)
            _open(first)
            with RawClient(port) as client:
                for path in answers:
                    for kind in (b"a", b"b") if path == "/vary" else (b"",):
                        client.ask(b"GET", path.encode(), ((b"X-Kind", kind),) if kind else ())
                _written(first, 6)
                purge(first, url=f"{SITE}/gone")
                purge(first, url=f"{SITE}/soft", soft=True)
            first.stop()
        asked = len(backend.requests)
        for end in ("killed", "stopped"):
            proxy = start(text)
            _open(proxy)
            with RawClient(port) as client:
                page = client.ask(target=b"/page")
                assert (page.body, is_hit(page), page.get(b"etag")) == (b"page", True, ETAG[1])
                assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
                part = client.ask(target=b"/big", fields=((b"Range", b"bytes=5-9"),))
                assert (part.status, part.body) == (206, next(blocks(20))[5:10])
                for kind in (b"a", b"b"):
                    assert client.ask(target=b"/vary", fields=((b"X-Kind", kind),)).body == kind
                packed = client.ask(target=b"/page", fields=((b"Accept-Encoding", b"identity;q=0, gzip"),))
                assert unpacked(packed.body, packed.get(b"content-encoding")) == b"page"
                for gone in (b"/gone", b"/soft", b"/short"):
                    assert client.ask(target=gone).status in (502, 503), gone
            if end == "killed":
                proxy.process.kill()
                proxy.wait()
            else:
                proxy.stop()
        assert len(backend.requests) == asked


class TestLargeBodies:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_many_read_one_while_it_comes_and_later(self, live: Live, tmp_path: Path, framing: str) -> None:
        """Three times what memory may hold, by hash; one of them slowly"""
        backend = live.recording({"/": _big(framing=framing, pause=0.002)})
        _serve(live, backend, _table(tmp_path), route(compress="true"))
        slow, clients = live.client(receive_buffer=8192), [live.client() for _ in range(6)]
        slow.send(request())
        backend.wait_for(1)
        for client in clients:
            client.send(request())
        sums: list[str] = []
        all_at_once([partial(lambda client: sums.append(_sum(client)), client) for client in clients])
        _written(live.proxy, 1)
        with live.client() as late:
            assert is_hit(late.ask(b"HEAD"))
            for client in clients:
                client.send(request())
            all_at_once([partial(lambda client: sums.append(_sum(client)), client) for client in clients])
            part = late.ask(fields=((b"Range", b"bytes=-100"),))
            assert (part.status, part.get(b"content-range")) == (206, b"bytes %d-%d/%d" % (BIG - 100, BIG - 1, BIG))
        sums.append(_sum(slow))
        assert set(sums) == {digest(BIG)}
        assert len(sums) == 13
        assert len(backend.requests) == 1
        assert stat(live.proxy)["memory"]["used"] < MIB

    def test_over_tls_and_to_old_clients(self, live: Live, tmp_path: Path, authority: Papers) -> None:
        backend = live.recording({"/": _big(framing="chunked")})
        _serve(live, backend, _table(tmp_path), listener=tls_keys(authority.issue(NAME)))
        with https(live) as first, https(live) as second:
            first.send(request(host=NAME.encode()))
            backend.wait_for(1)
            second.send(request(host=NAME.encode()))
            assert [_sum(first), _sum(second)] == [digest(BIG)] * 2
            _written(live.proxy, 1)
            first.send(request(host=NAME.encode()) * 2)
            assert [_sum(first), _sum(first)] == [digest(BIG)] * 2
        with https(live) as old:
            old.send(request(host=NAME.encode(), version=b"HTTP/1.0"))
            head, _, body = old.read_to_end().partition(b"\r\n\r\n")
        assert b"; hit" in head
        assert hashlib.sha256(body).hexdigest() == digest(BIG)
        assert len(backend.requests) == 1

    @pytest.mark.parametrize("accept", [None, b"gzip"], ids=["plain", "packed"])
    def test_a_reload_without_the_cache_harms_nobody_who_reads(
        self, live: Live, tmp_path: Path, accept: bytes | None
    ) -> None:
        whole = b"".join(blocks(BIG))
        pieces = [whole[at : at + 100_000] for at in range(0, BIG, 100_000)]
        body = Stepwise(live.stack, *pieces)
        backend = live.recording({"/": body.answer(TEXT)})
        _serve(live, backend, _table(tmp_path), route(compress="true"))
        clients = [live.client() for _ in range(4)]
        body.step(3)
        for client in clients:
            client.send(request(fields=((b"Accept-Encoding", accept),) if accept else ()))
        for client in clients:
            client.sock.recv(1, socket.MSG_PEEK)
        live.serve(backend.address, more=route(""))
        body.all()
        for client in clients:
            answer = client.answer()
            assert unpacked(answer.body, answer.get(b"content-encoding")) == whole
        assert len(backend.requests) == 1

    def test_what_is_cut_off_is_no_file(self, live: Live, tmp_path: Path) -> None:
        """K7"""
        backend = live.recording({"/": _big(cut=2 * MIB)})
        _serve(live, backend, _table(tmp_path), pool="outlier = false")
        for _ in range(2):
            with live.client() as client:
                client.send(request())
                assert 0 < len(rest_of(client.sock)[0]) < BIG
        assert len(backend.requests) == 2
        until(lambda: _largest(tmp_path) < MIB, "what was written of it has gone")
        assert stat(live.proxy)["disk"]["files"] == 0

    def test_a_reader_keeps_what_is_purged(self, live: Live, tmp_path: Path) -> None:
        backend = live.recording({"/": _big()})
        _serve(live, backend, _table(tmp_path))
        with live.client() as client:
            client.ask()
        _written(live.proxy, 1)
        slow = live.client(receive_buffer=8192)
        slow.send(request())
        head = slow.take(300)
        assert b"; hit" in head
        purge(live.proxy, all=True)
        with live.client() as client:
            assert not is_hit(client.ask(b"HEAD"))
        rest = slow.take(len(head.partition(b"\r\n\r\n")[0]) + 4 + BIG - 300)
        body = (head + rest).partition(b"\r\n\r\n")[2]
        assert hashlib.sha256(body).hexdigest() == digest(BIG)


def _largest(directory: Path) -> int:
    sizes = [0]
    for one in directory.rglob("*"):
        with suppress(FileNotFoundError):
            sizes.append(one.stat().st_size if one.is_file() else 0)
    return max(sizes)


@pytest.fixture(name="tiny")
def tiny_fixture(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; skips the test where none may be mounted."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class TestFullDisks:
    """Fault matrix 52: a full disk costs hits, not requests"""

    def test_a_file_system_without_room(self, live: Live, tiny: Path) -> None:
        sizes = {b"/big": BIG, b"/medium": 100_000}

        def answer(asked: Asked) -> Answer:
            size = sizes.get(asked.target, 50_000)
            return large(size, fields=((b"Cache-Control", b"max-age=60"),))

        backend = live.recording(answer)
        _serve(live, backend, _table(tiny))
        with live.client() as client:
            for target in (b"/big", *[b"/%d" % number for number in range(20)], b"/big", b"/medium"):
                got = client.ask(target=target)
                assert got.status == 200
                assert hashlib.sha256(got.body).hexdigest() == digest(sizes.get(target, 50_000))
            until(lambda: stat(live.proxy)["disk"]["errors"], "it is counted")
            assert is_hit(client.ask(target=b"/3")), "memory is as good as before"
        said = stat(live.proxy)["disk"]
        assert "space" in (said["error"] or "").lower(), said
        live.proxy.status()

    def test_its_own_limit(self, live: Live, tmp_path: Path) -> None:
        """Files make room for each other, and what is larger than all of it is passed on"""
        small = large(400_000, fields=((b"Cache-Control", b"max-age=60"),))
        backend = live.recording({"/big": _big()}, default=small)
        _serve(live, backend, _table(tmp_path, 'size = "2MiB"', memory='max_object = "500KiB"'))
        with live.client() as client:
            for number in range(20):
                assert hashlib.sha256(client.ask(target=b"/%d" % number).body).hexdigest() == digest(400_000)
            for _ in range(2):
                big = client.ask(target=b"/big")
                assert hashlib.sha256(big.body).hexdigest() == digest(BIG)
                assert told(big) == 'fwd=uri-miss; detail="too large"'
        until(lambda: stat(live.proxy)["disk"]["used"] <= 2 * MIB, "it keeps to its limit")
        on_disk = sum(one.stat().st_size for one in tmp_path.rglob("*") if one.is_file())
        assert on_disk <= 3 * MIB

    def test_a_directory_that_has_gone(self, live: Live, tmp_path: Path) -> None:
        backend = live.recording({"/big": _big(), "/page": cacheable(b"page")})
        place = tmp_path / "place"
        place.mkdir()
        _serve(live, backend, _table(place))
        with live.client() as client:
            client.ask(target=b"/big")
            _written(live.proxy, 1)
            for one in sorted(place.rglob("*"), reverse=True):
                if one.is_dir():
                    one.rmdir()
                else:
                    one.unlink()
            place.rmdir()
            for _ in range(3):
                assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
                assert client.ask(target=b"/page").body == b"page"
