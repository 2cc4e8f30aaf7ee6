"""Answers of backends that are packed, or unpacked, on their way to clients."""

from __future__ import annotations

import contextlib
import random
import socket
import zlib
from typing import Any

import pytest

from lbproxy.compress.codings import AVAILABLE, decode, encode
from lbproxy.compress.decoding import FREE
from lbproxy.model_cache import CompressSettings
from lbproxy.model_http import HttpRouteSettings
from tests.net.http1.http_rig import HttpRig, dechunked, head_and_body, http_rig
from tests.net.http1.presenting_rig import Taker, serve_tls
from tests.net.net_rig import put, reset, take_all, turn

KIB = 1024
DATE = b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
DICE = random.Random(7)
WORDS = [DICE.randbytes(6).hex().encode() for _ in range(900)]
CODED = sorted(AVAILABLE)


def text(size: int, seed: int = 1) -> bytes:
    """What packs well, but not too well."""
    dice = random.Random(seed)
    return b" ".join(dice.choices(WORDS, k=size // 12))[:size].ljust(size, b".")


def asking(coding: bytes = b"", version: bytes = b"1.1", method: bytes = b"GET", more: bytes = b"") -> bytes:
    accept = b"Accept-Encoding: %b\r\n" % coding if coding else b""
    return b"%b / HTTP/%b\r\nHost: a.example\r\n%b%b\r\n" % (method, version, accept, more)


def answer(lines: bytes = b"", body: bytes = b"", status: bytes = b"200 OK", kind: bytes = b"text/plain") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Type: %b\r\n%b\r\n%b" % (status, DATE, kind, lines, body)


def chunked(body: bytes, size: int) -> bytes:
    out = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for at in range(0, len(body), size) if (piece := body[at : at + size])
    )
    return out + b"0\r\n\r\n"


def packing(**settings: Any) -> HttpRouteSettings:
    settings.setdefault("min_size", 1)
    return HttpRouteSettings(compress=CompressSettings(**settings))


def lines_of(heard: bytes) -> list[bytes]:
    return head_and_body(heard)[0].lower().split(b"\r\n")


class Scene:
    """A client and, once it has asked, a backend, in front of a route that packs."""

    def __init__(self, rig: HttpRig, *, tls: bool = False, small: bool = False) -> None:
        self.rig = rig
        if not rig.pools:
            rig.backends()
        if tls:
            serve_tls(rig)
        self.client = Taker(rig, tls=tls, send=8192 if small else 0, receive=8192 if small else 0)
        self.backend: socket.socket

    def asks(self, request: bytes, *, again: bool = False) -> None:
        """`again` has it come on the backend's old connection."""
        self.client.ask(request)
        if not again:
            self.backend = self.rig.answered_by()
        self.rig.hears(self.backend)

    def answers(self, data: bytes) -> None:
        """As fast as it is taken, while the client takes what comes."""
        left = memoryview(data)

        def gone() -> bool:
            nonlocal left
            left = left[put(self.backend, bytes(left[:262_144])) :]
            return not left

        self.client.until(gone)

    def hears_chunks(self) -> tuple[bytes, bytes]:
        """A head, and the payload of the chunks behind it."""
        client = self.client
        client.until(lambda: client.got.endswith(b"\r\n0\r\n\r\n") or client.ended or client.cut)
        head, body = head_and_body(bytes(client.got))
        client.got.clear()
        return head, dechunked(body)


FRAMINGS = ["length", "chunks", "small_chunks", "until_close"]


def framed(body: bytes, framing: str, lines: bytes = b"") -> bytes:
    if framing == "length":
        return answer(lines + b"Content-Length: %d\r\n" % len(body), body)
    if framing == "until_close":
        return answer(lines, body)
    return answer(lines + b"Transfer-Encoding: chunked\r\n", chunked(body, 70_000 if framing == "chunks" else 300))


class TestPacking:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("coding", CODED)
    @pytest.mark.parametrize("size", [1, 5000, 300 * KIB])
    def test_every_byte_comes_out_again(self, coding: bytes, framing: str, size: int) -> None:
        body = text(size)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(coding))
            scene.answers(framed(body, framing, b'ETag: "a"\r\n'))
            if framing == "until_close":
                scene.backend.shutdown(socket.SHUT_WR)
            head, packed = scene.hears_chunks()
            assert decode(coding, packed, ratio=None, most=None) == body
            if size > 1000:
                assert len(packed) < 0.8 * size
            lines = lines_of(head)
            assert b"content-encoding: " + coding in lines
            assert b"transfer-encoding: chunked" in lines
            assert b"vary: accept-encoding" in lines
            assert b'etag: w/"a"' in lines
            assert not any(line.startswith(b"content-length") for line in lines)
            turn(rig.reactor, lambda: rig.told)
            assert (rig.told[0].outcome, rig.told[0].status) == ("ok", 200)
            kept = framing != "until_close"
            assert rig.worker.idle.count == kept
            scene.asks(asking(coding), again=kept)  # both connections are used again, where they can be
            scene.answers(framed(body, "chunks"))
            assert decode(coding, scene.hears_chunks()[1], ratio=None, most=None) == body

    @pytest.mark.parametrize("coding", CODED)
    @pytest.mark.parametrize("framing", ["length", "chunks", "until_close"])
    def test_byte_by_byte(self, coding: bytes, framing: str) -> None:
        body = text(40)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(coding))
            wire = framed(body, framing)
            for at in range(len(wire)):
                put(scene.backend, wire[at : at + 1])
                turn(rig.reactor)
            if framing == "until_close":
                scene.backend.shutdown(socket.SHUT_WR)
            assert decode(coding, scene.hears_chunks()[1], ratio=None, most=None) == body

    @pytest.mark.parametrize("kind", [b"text/plain", b"text/event-stream"])
    @pytest.mark.parametrize("coding", CODED)
    def test_what_has_come_can_be_read_before_the_rest(self, coding: bytes, kind: bytes) -> None:
        with http_rig(route=packing(events=True)) as rig:
            scene = Scene(rig)
            scene.asks(asking(coding))
            put(scene.backend, answer(b"Transfer-Encoding: chunked\r\n", kind=kind))
            client = scene.client
            client.hears_head()
            reader: Any = zlib.decompressobj(31) if coding == b"gzip" else None
            packed = b""
            for number in range(5):
                event = b"data: %d\n\n" % number * (1 if number < 4 else 4000)
                if number == 4 and kind == b"text/plain":
                    break  # long pieces of other bodies may wait for more
                put(scene.backend, b"%x\r\n%b\r\n" % (len(event), event))
                client.until(lambda: client.got.endswith(b"\r\n"))
                turn(rig.reactor)
                client.pump()
                piece = dechunked(bytes(client.got) + b"0\r\n\r\n")
                client.got.clear()
                packed += piece
                if reader is not None:
                    assert reader.decompress(piece) == event
            put(scene.backend, b"0\r\n\r\n")
            packed += scene_rest(client)
            plain = b"".join(b"data: %d\n\n" % number * (1 if number < 4 else 4000) for number in range(5))
            if kind == b"text/plain":
                plain = plain[: plain.index(b"data: 4")]
            assert decode(coding, packed, ratio=None, most=None) == plain

    def test_a_stream_of_events_passes_as_it_is_unless_the_route_says_otherwise(self) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(b"gzip"))
            wire = answer(b"Transfer-Encoding: chunked\r\n", b"8\r\ndata: 1\n\r\n0\r\n\r\n", kind=b"text/event-stream")
            put(scene.backend, wire)
            assert scene.client.hears(len(wire)) == wire

    @pytest.mark.parametrize("extra", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    def test_bytes_behind_it_are_nobodys(self, extra: bytes) -> None:
        body = text(3000)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            for number, framing in enumerate(("length", "chunks")):
                scene.asks(asking(b"gzip"))
                scene.answers(framed(body, framing) + extra)
                assert decode(b"gzip", scene.hears_chunks()[1], ratio=None, most=None) == body
                turn(rig.reactor, lambda number=number: len(rig.told) > number)  # type: ignore[misc]  # bound early
                assert rig.worker.idle.count == 0, "whoever says more than it should is not asked again"
                assert rig.told[number].outcome == "ok"

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_slow_client_holds_the_backend_up(self, tls: bool) -> None:
        size = 1_500_000
        body = random.Random(3).randbytes(size)  # which packing does not make shorter
        with http_rig(route=packing(codings=("gzip",), gzip_level=1)) as rig:
            rig.backends(receive=8192)
            scene = Scene(rig, tls=tls, small=True)
            scene.asks(asking(b"gzip"))
            scene.backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            wire = framed(body, "length")
            sent = 0
            client = scene.client
            client.idle = True
            client.pump()

            def held() -> bool:
                nonlocal sent
                sent += put(scene.backend, wire[sent : sent + 262_144])
                return client.held > 0

            turn(rig.reactor, held)
            for _ in range(3):
                turn(rig.reactor, None)
                sent += put(scene.backend, wire[sent : sent + 262_144])
            assert sent < size
            assert 0 < rig.worker.budget.used <= 1 << 18
            client.idle = False

            def all_there() -> bool:
                nonlocal sent
                sent += put(scene.backend, wire[sent : sent + 262_144])
                return client.got.endswith(b"\r\n0\r\n\r\n") and bool(rig.told)

            client.until(all_there)
            packed = dechunked(head_and_body(bytes(client.got))[1])
            assert decode(b"gzip", packed, ratio=None, most=None) == body
            assert rig.told[0].bytes_out == len(client.got)

    def test_a_client_that_leaves_takes_the_backend_with_it(self) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig, small=True)
            scene.asks(asking(b"gzip"))
            body = random.Random(3).randbytes(2_000_000)
            put(scene.backend, framed(body, "length"))
            scene.client.until(lambda: len(scene.client.got) > 10_000, most=5000)
            reset(scene.client.sock)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "client_gone"
            assert rig.worker.idle.count == 0

    @pytest.mark.parametrize("how", ["fin", "reset", "bad_chunk"])
    @pytest.mark.parametrize("first", [b"", text(5000)], ids=len)
    def test_an_answer_that_is_cut_is_no_whole_one(self, how: str, first: bytes) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(b"gzip"))
            piece = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
            if how == "bad_chunk":
                put(scene.backend, answer(b"Transfer-Encoding: chunked\r\n", piece + b"what\r\n"))
            else:
                put(scene.backend, answer(b"Transfer-Encoding: chunked\r\n", piece))
                scene.client.hears_head()
                turn(rig.reactor)
                if how == "fin":
                    scene.backend.shutdown(socket.SHUT_WR)
                else:
                    reset(scene.backend)
            if how == "bad_chunk":
                assert scene.client.hears_head().startswith(b"HTTP/1.1 502 ")
                assert rig.told[0].rule == "B7"
            else:
                rest = scene.client.hears_end()
                assert scene.client.cut
                assert b"0\r\n\r\n" not in rest
                assert (rig.told[0].outcome, rig.told[0].rule) == ("backend_cut", "B5")
            assert rig.worker.idle.count == 0


def scene_rest(client: Taker) -> bytes:
    """The payload up to the last chunk."""
    client.until(lambda: client.got.endswith(b"0\r\n\r\n"))
    rest = dechunked(bytes(client.got))
    client.got.clear()
    return rest


class TestLeftAsTheyAre:
    @pytest.mark.parametrize(
        ("request_", "wire"),
        [
            (asking(b"gzip", method=b"HEAD"), answer(b"Content-Length: 5000\r\n")),
            (asking(b"gzip"), answer(b"Content-Length: 5\r\n", b"hello", b"404 Not Found")),
            (asking(b"gzip"), answer(b"Content-Range: bytes 0-4/9\r\nContent-Length: 5\r\n", b"hello", b"206 Partial")),
            (asking(b"gzip"), answer(b"Content-Length: 5\r\n", b"hello", kind=b"image/png")),
            (asking(b"gzip"), answer(b"Content-Encoding: br\r\nContent-Length: 5\r\n", b"hello", b"206 Partial")),
            (asking(b"gzip"), answer(b"Cache-Control: no-transform\r\nContent-Length: 5\r\n", b"hello")),
            (asking(), answer(b"Content-Encoding: x-odd\r\nContent-Length: 5\r\n", b"hello")),
            (asking(more=b"Range: bytes=0-4\r\n"), answer(
                b"Content-Encoding: gzip\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n", b"hello", b"206 X")),
        ],
        ids=["head", "404", "range", "image", "part_of_coded", "no_transform", "unknown", "part_for_who_cannot"],
    )  # fmt: skip
    def test_byte_for_byte(self, request_: bytes, wire: bytes) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(request_)
            put(scene.backend, wire)
            heard = scene.client.hears_head()
            fields = [line for line in lines_of(heard) if not line.startswith(b"vary")]
            assert fields == lines_of(wire)
            body = head_and_body(wire)[1]
            assert scene.client.hears(len(body)) == body
            turn(rig.reactor, lambda: rig.told)
            assert rig.worker.idle.count == 1

    def test_a_304_confirms_what_was_packed(self) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(b"gzip", more=b'If-None-Match: W/"a"\r\n'))
            put(scene.backend, answer(b'ETag: "a"\r\n', status=b"304 Not Modified"))
            lines = lines_of(scene.client.hears_head())
            assert b'etag: w/"a"' in lines
            assert b"vary: accept-encoding" in lines
            turn(rig.reactor, lambda: rig.told)
            assert rig.worker.idle.count == 1

    @pytest.mark.parametrize("accept", [b"", b"identity", b"gzip;q=0"])
    def test_for_who_accepts_none_only_vary_is_added(self, accept: bytes) -> None:
        body = text(5000)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(accept))
            scene.answers(framed(body, "length"))
            head = scene.client.hears_head()
            assert b"vary: accept-encoding" in lines_of(head)
            assert b"content-length: 5000" in lines_of(head)
            assert scene.client.hears(5000) == body

    def test_an_old_client_is_not_packed_for(self) -> None:
        body = text(5000)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(b"gzip", b"1.0"))
            scene.answers(framed(body, "length"))
            assert scene.client.hears_end().endswith(body)


class TestUnpacking:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("coding", CODED)
    @pytest.mark.parametrize("size", [0, 1, 5000, 300 * KIB])
    def test_every_byte_for_who_cannot_read_the_coding(self, coding: bytes, framing: str, size: int) -> None:
        body = text(size)
        packed = encode(coding, 3, body)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking())
            scene.answers(framed(packed, framing, b"Content-Encoding: %b\r\n" % coding))
            if framing == "until_close":
                scene.backend.shutdown(socket.SHUT_WR)
            head, plain = scene.hears_chunks()
            assert plain == body
            assert not any(line.startswith((b"content-encoding", b"content-length")) for line in lines_of(head))
            turn(rig.reactor, lambda: rig.told)
            assert rig.worker.idle.count == (framing != "until_close")

    @pytest.mark.parametrize("size", [0, 5000, 300 * KIB])
    @pytest.mark.parametrize("framing", ["length", "chunks", "until_close"])
    def test_an_old_client_reads_it_until_the_end(self, size: int, framing: str) -> None:
        body = text(size)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(version=b"1.0"))
            scene.answers(framed(encode(b"gzip", 3, body), framing, b"Content-Encoding: gzip\r\n"))
            if framing == "until_close":
                scene.backend.shutdown(socket.SHUT_WR)
            head, plain = head_and_body(scene.client.hears_end())
            assert head.startswith(b"HTTP/1.1 200 ")
            assert plain == body
            assert scene.client.ended

    def test_who_can_read_it_gets_it_as_it_is(self) -> None:
        packed = encode(b"gzip", 3, text(5000))
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking(b"gzip"))
            scene.answers(framed(packed, "length", b"Content-Encoding: gzip\r\n"))
            assert b"content-encoding: gzip" in lines_of(scene.client.hears_head())
            assert scene.client.hears(len(packed)) == packed

    @pytest.mark.parametrize("coding", CODED)
    @pytest.mark.parametrize("fault", ["garbage", "truncated", "trailing", "bomb"])
    @pytest.mark.parametrize("pieces", [1, 3])
    def test_one_that_is_not_what_it_says_is_cut_by_r7(self, coding: bytes, fault: str, pieces: int) -> None:
        body = text(3000)
        packed = encode(coding, 3, body)
        if fault == "garbage":
            packed = b"\x00\xff" * 50
        elif fault == "truncated":
            packed = packed[:-1]
        elif fault == "trailing":
            packed += b"\x00\xffmore"
        else:
            packed = encode(coding, 9, bytes(20 * FREE))
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking())
            lines = b"Content-Encoding: %b\r\nContent-Length: %d\r\n" % (coding, len(packed))
            put(scene.backend, answer(lines))
            scene.client.hears_head()
            for at in range(0, len(packed), len(packed) // pieces + 1):
                with contextlib.suppress(BrokenPipeError):  # the cut may have come with what was first
                    put(scene.backend, packed[at : at + len(packed) // pieces + 1])
                turn(rig.reactor)
            assert b"0\r\n\r\n" not in scene.client.hears_end()
            assert scene.client.cut
            assert (rig.told[0].outcome, rig.told[0].rule) == ("bad_response", "R7")
            assert rig.worker.idle.count == 0

    def test_with_nothing_sent_yet_it_is_502(self) -> None:
        with http_rig(route=packing()) as rig:
            scene = Scene(rig)
            scene.asks(asking())
            put(scene.backend, framed(b"no gzip at all", "length", b"Content-Encoding: gzip\r\n"))
            assert scene.client.hears_head().startswith(b"HTTP/1.1 502 ")
            assert rig.told[0].rule == "R7"

    def test_a_slow_client_is_not_drowned(self) -> None:
        """What comes out of one read is all that waits for it."""
        body = text(4_000_000)
        packed = encode(b"gzip", 1, body)
        with http_rig(route=packing()) as rig:
            scene = Scene(rig, small=True)
            scene.asks(asking())
            client = scene.client
            client.idle = True
            wire = memoryview(framed(packed, "length", b"Content-Encoding: gzip\r\n"))
            wire = wire[put(scene.backend, bytes(wire)) :]
            turn(rig.reactor, lambda: client.held)
            turn(rig.reactor)
            assert rig.worker.budget.used <= 64 * KIB * 8 < len(body)
            client.idle = False

            def all_there() -> bool:
                nonlocal wire
                wire = wire[put(scene.backend, bytes(wire)) :]
                return client.got.endswith(b"\r\n0\r\n\r\n")

            client.until(all_there)
            assert dechunked(head_and_body(bytes(client.got))[1]) == body
            take_all(client.sock)
