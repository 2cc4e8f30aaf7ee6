"""Compression in a real process: every coding comes back byte for byte, and heads tell the truth of every body."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import h11
import pytest

from tests.live.cache_scripts import Stepwise, caching, is_hit, packed, route, unpacked
from tests.live.http_peers import Answer, Answered, Asked, Fields, RawClient, chunked, http_site, request
from tests.live.http_scripts import Live, Recording, blocks, digest
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE
from tests.live.tls_peers import Papers
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, https, tls_keys

pytest.importorskip("brotli")
pytest.importorskip("backports.zstd")

CODINGS = (b"gzip", b"br", b"zstd")
WORDS = b"".join(b"line %d of many that look alike\n" % number for number in range(300))
SHORT = WORDS[:100]
STRONG, WEAK = b'"v1"', b'W/"v1"'
MODIFIED = (b"Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT")
PLAIN_TYPE = (b"Content-Type", b"text/plain")
KEEP = (b"Cache-Control", b"max-age=60")
# Accept-Encoding, and which of our codings is best for it.
ACCEPTS: dict[bytes | None, bytes | None] = {
    None: None,
    b"gzip": b"gzip",
    b"br": b"br",
    b"zstd": b"zstd",
    b"identity;q=0, gzip": b"gzip",
    b" ,gzip;q=0.8,, BR;q=1.0 ;x=y, deflate;;, zstd;q=nonsense, foo=bar": b"br",
}


def _accepting(accept: bytes | None) -> Fields:
    return () if accept is None else ((b"Accept-Encoding", accept),)


# The matrix.


@dataclass(frozen=True)
class Kind:
    """What the backend answers. `plain` is the text, `framing` how it comes, `coding` how it is coded.

    `packs` tells that lbproxy may pack it, `short` that it does so only for who refuses plain bodies, `sealed` that it
    may not unpack it either. `stored` tells that it may be stored. `ask` is what the client adds, `gets` the status
    that this brings about.
    """

    fields: tuple[tuple[bytes, bytes], ...] = (KEEP,)
    plain: bytes = WORDS
    framing: str = "length"
    coding: bytes | None = None
    packs: bool = True
    short: bool = False
    sealed: bool = False
    stored: bool = True
    status: int = 200
    etag: bytes = STRONG
    ask: Fields = ()
    gets: int = 0


KINDS = {
    "with length": Kind(),
    "chunked": Kind(framing="chunked"),
    "until close": Kind(framing="close"),
    "weak tag": Kind(etag=WEAK),
    "gzip": Kind(coding=b"gzip", packs=False),
    "gzip that says so in Vary": Kind((KEEP, (b"Vary", b"Accept-Encoding")), coding=b"gzip", packs=False),
    "gzip, no-transform": Kind(
        ((b"Cache-Control", b"max-age=60, no-transform"),), coding=b"gzip", packs=False, sealed=True
    ),
    "short": Kind(plain=SHORT, short=True),
    "empty": Kind(plain=b"", packs=False),
    "no-transform": Kind(((b"Cache-Control", b"max-age=60, no-transform"),), packs=False),
    "Set-Cookie": Kind((KEEP, (b"Set-Cookie", b"id=1")), packs=False, stored=False),
    "private": Kind(((b"Cache-Control", b"private, max-age=60"),), packs=False, stored=False),
    "404": Kind(status=404, packs=False),
    "206": Kind(ask=((b"Range", b"bytes=10-109"),), gets=206, packs=False, stored=False),
    "304, strong": Kind(ask=((b"If-None-Match", STRONG),), gets=304),
    "304, weak": Kind(ask=((b"If-None-Match", WEAK),), gets=304),
    "another type": Kind((KEEP, (b"X-Type", b"image/png")), packs=False),
    "with Vary": Kind((KEEP, (b"Vary", b"X-Other"))),
}


def _origin(kind: Kind) -> object:
    """A backend that knows single ranges and If-None-Match, and does not look at Accept-Encoding."""
    body = kind.plain if kind.coding is None else packed(kind.plain, kind.coding)
    fields = [one for one in kind.fields if one[0] != b"X-Type"]
    types = [value for name, value in kind.fields if name == b"X-Type"]
    told = [*fields, (b"ETag", kind.etag), MODIFIED]

    def answer(asked: Asked) -> Answer:
        if STRONG in (asked.get(b"if-none-match") or b""):
            return Answer(304, fields=told, reason=b"Not Modified")
        about = [(b"Content-Type", types[0] if types else b"text/plain"), (b"Accept-Ranges", b"bytes")]
        if kind.coding is not None:
            about.append((b"Content-Encoding", kind.coding))
        if kind.status == 200 and asked.get(b"range") == b"bytes=10-109" and asked.method == b"GET":
            about.append((b"Content-Range", b"bytes 10-109/%d" % len(body)))
            return Answer(206, body=body[10:110], fields=[*told, *about])
        framing = kind.framing
        assert framing in ("length", "chunked", "close")
        return Answer(kind.status, body=body, fields=[*told, *about], framing=framing)  # type: ignore[arg-type]

    return answer


def _varies(answer: Answered) -> bool:
    return b"accept-encoding" in b", ".join(answer.all(b"vary")).lower()


def _look_at_framing(answer: Answered, method: bytes) -> None:
    """What is true of any answer: one framing, lengths that are those of the bytes, one ETag, one Vary for all."""
    length = answer.get(b"content-length")
    moving = answer.get(b"transfer-encoding")
    assert length is None or moving is None, answer.head
    if method == b"GET" and length is not None and answer.status != 304:
        assert int(length) == len(answer.body), answer.head
    for once in (b"etag", b"content-encoding", b"content-type", b"date", b"accept-ranges"):
        answer.get(once)  # which fails where there are two
    vary = [one.strip().lower() for one in b",".join(answer.all(b"vary")).split(b",") if one.strip()]
    assert len(vary) == len(set(vary)), vary


def _look_at_content(answer: Answered, kind: Kind, accept: bytes | None, method: bytes) -> None:
    """What this client must get of this kind."""
    best = ACCEPTS[accept]
    coding = answer.get(b"content-encoding")
    recoded = coding != kind.coding
    if method == b"GET":
        assert unpacked(answer.body, coding) == kind.plain, answer.head
    if kind.packs:
        wanted = best if not kind.short or (accept or b"").startswith(b"identity;q=0") else None
        if method == b"GET":
            assert coding == wanted, answer.head
        assert _varies(answer), "it depends on Accept-Encoding"
    elif kind.coding is not None:
        readable = kind.sealed or b"gzip" in (accept or b"")
        assert coding == (b"gzip" if readable or (method == b"HEAD" and coding) else None), answer.head
    else:
        assert not recoded
    etag = answer.get(b"etag")
    if recoded:
        assert etag == WEAK, answer.head
        assert answer.get(b"accept-ranges") is None, answer.head
        assert _varies(answer)
    else:
        assert etag == kind.etag, answer.head
    if method == b"HEAD" and answer.get(b"content-length") is not None and not recoded:
        body = kind.plain if kind.coding is None else packed(kind.plain, kind.coding)
        assert answer.get(b"content-length") == b"%d" % len(body)


def _look_at_part(answer: Answered, kind: Kind) -> None:
    assert (answer.status, answer.body) == (206, kind.plain[10:110])
    assert answer.get(b"content-range") == b"bytes 10-109/%d" % len(kind.plain)
    assert answer.get(b"content-encoding") is None
    assert answer.get(b"etag") == STRONG


def _look_at_confirmation(answer: Answered, kind: Kind, accept: bytes | None) -> None:
    """A 304 speaks of what the client has, with the tag that it knows."""
    assert (answer.status, answer.body) == (304, b"")
    known = next(value for name, value in kind.ask if name == b"If-None-Match")
    assert answer.get(b"content-encoding") is None
    if accept is not None and known == WEAK:
        assert answer.get(b"etag") == WEAK, "the strong one is that of another body"


class _Seen:
    """All that one URL was answered: what has the same strong tag must be the same bytes (RFC 9110, 8.8.1)."""

    def __init__(self) -> None:
        self._strong: dict[tuple[bytes, bytes], bytes] = {}
        self._codings: dict[bytes, set[bytes | None]] = {}
        self._without_vary: set[bytes] = set()

    def note(self, target: bytes, answer: Answered) -> None:
        if answer.status != 200:
            return
        etag = answer.get(b"etag") or b"W/"
        if not etag.startswith(b"W/"):
            known = self._strong.setdefault((target, etag), answer.body)
            assert known == answer.body, f"two bodies with the strong tag {etag!r}"
        self._codings.setdefault(target, set()).add(answer.get(b"content-encoding"))
        if not _varies(answer):
            self._without_vary.add(target)

    def finish(self) -> None:
        """Where answers differ by coding, each says so."""
        several = {target for target, codings in self._codings.items() if len(codings) > 1}
        assert not several & self._without_vary


@pytest.mark.parametrize("caches", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("name", KINDS)
def test_the_matrix(live: Live, name: str, caches: bool) -> None:
    """Route, kind of answer, method, Accept-Encoding, hit or miss"""
    kind, seen = KINDS[name], _Seen()
    got: dict[tuple[bytes, bytes | None], Answered] = {}
    backend = live.recording(_origin(kind))
    caching(live, backend.address, cache="true" if caches else "", compress="true")
    client = live.client()

    def ask(target: bytes, accept: bytes | None, method: bytes, *, hit: bool | None) -> None:
        nonlocal client
        fields = (*_accepting(accept), *kind.ask)
        asked = len(backend.requests)
        answer = client.ask(method, target, fields)
        if answer.get(b"connection") == b"close":
            client = live.client()
        if hit is not None:
            assert (len(backend.requests) == asked) == hit, answer.head
            # One whose end has not come yet is had together with who asked for it.
            assert (is_hit(answer) or b"collapsed" in (answer.get(b"cache-status") or b"")) == hit
        _look_at_framing(answer, method)
        if kind.gets == 206 and method == b"GET":
            _look_at_part(answer, kind)
        elif answer.status == 304:
            assert kind.gets == 304
            _look_at_confirmation(answer, kind, accept)
        elif kind.gets != 304 or answer.status == 200:
            assert answer.status == kind.status
            _look_at_content(answer, kind, accept, method)
            if method == b"GET":
                seen.note(target, answer)
                got[target, accept] = answer
            elif hit:
                same = got[target, accept]
                for field in (b"content-encoding", b"etag", b"vary", b"content-length", b"accept-ranges"):
                    assert answer.all(field) == same.all(field) or (
                        field in (b"content-length",) and same.all(b"transfer-encoding")
                    )

    for number, accept in enumerate(ACCEPTS):
        target = b"/%d" % number
        ask(target, accept, b"HEAD", hit=False if caches else None)
        ask(target, accept, b"GET", hit=False if caches else None)
        for other in ACCEPTS:
            stored = caches and kind.stored
            sure = stored and (kind.coding is None or not _says_vary(kind))
            ask(target, other, b"GET", hit=True if sure else None)
            ask(target, other, b"HEAD", hit=True if sure else None)
    seen.finish()
    client.close()


def _says_vary(kind: Kind) -> bool:
    return any(name == b"Vary" for name, _ in kind.fields)


class TestOwnAnswers:
    """Fixed answers and error pages: packed once, with a length and a tag for each"""

    @pytest.mark.parametrize("accept", ACCEPTS)
    @pytest.mark.parametrize("caches", [False, True], ids=["uncached", "cached"])
    def test_fixed_answers_and_error_pages(
        self, live: Live, tmp_path: Path, accept: bytes | None, caches: bool
    ) -> None:
        page, sorry = tmp_path / "page.html", tmp_path / "sorry.html"
        page.write_bytes(b"<p>page</p>" + WORDS)
        sorry.write_bytes(b"<p>sorry</p>" + WORDS)
        dead = live.ports.reserve()
        error = f"error_pages = {{ 502 = '{sorry}' }}"
        fixed = f"path = '/fixed'\nanswer = {{ file = '{page}' }}\ncompress = true\n"
        more = f'\n[[route]]\nlistener = "in"\n{fixed}'
        more += "\n[[route]]\nlistener = \"in\"\npath = '/short'\nanswer = { body = 'short' }\ncompress = true\n"
        more += route("true" if caches else "", error, compress="true")
        live.serve(f"127.0.0.1:{dead}", more=more, pool="outlier = false")
        best = ACCEPTS[accept]
        with live.client() as client:
            etags = set()
            for _ in range(2):
                answer = client.ask(b"GET", b"/fixed", _accepting(accept))
                _look_at_framing(answer, b"GET")
                assert answer.get(b"content-encoding") == best
                assert unpacked(answer.body, best) == page.read_bytes()
                assert _varies(answer)
                etags.add(answer.get(b"etag"))
                head = client.ask(b"HEAD", b"/fixed", _accepting(accept))
                for name in (b"content-length", b"content-encoding", b"etag", b"vary"):
                    assert head.get(name) == answer.get(name)
            (etag,) = etags
            assert etag is not None
            assert etag.startswith(b"W/") == (best is not None)
            confirmed = client.ask(b"GET", b"/fixed", (*_accepting(accept), (b"If-None-Match", etag)))
            assert (confirmed.status, confirmed.body, confirmed.get(b"etag")) == (304, b"", etag)
            assert _varies(confirmed)
            changed = client.ask(b"GET", b"/fixed", (*_accepting(accept), (b"If-None-Match", b'"other"')))
            assert changed.status == 200
            failed = client.ask(b"GET", b"/dead", _accepting(accept))
            assert failed.status == 502
            _look_at_framing(failed, b"GET")
            assert failed.get(b"content-encoding") == best
            assert unpacked(failed.body, best) == sorry.read_bytes()
            assert _varies(failed)
            assert failed.get(b"etag") is None
            short = client.ask(b"GET", b"/short", _accepting(accept))
            assert short.get(b"content-length") == b"%d" % len(short.body)
            assert unpacked(short.body, short.get(b"content-encoding")) == b"short"


# Bodies, byte for byte.

_BODIES = {
    "text": WORDS * 50,
    "noise": b"".join(blocks(400_000)),
    "zeros": bytes(3_000_000),
    "large": b"".join(blocks(100_000)) * 40,
    "just enough": WORDS[:1024],
}


class TestRoundTrips:
    @pytest.mark.parametrize("caches", [False, True], ids=["uncached", "cached"])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_every_coding_of_every_body(self, live: Live, framing: str, caches: bool) -> None:
        def answer(asked: Asked) -> Answer:
            body = _BODIES[asked.path[1:].replace("%20", " ")]
            fields = (PLAIN_TYPE, KEEP)
            return Answer(body=body, fields=fields, framing="chunked" if framing == "chunked" else "length", piece=9999)

        backend = live.recording(answer)
        caching(live, backend.address, cache="true" if caches else "", compress="true")
        with live.client() as client:
            for name, body in _BODIES.items():
                for coding in (*CODINGS, *CODINGS[: 1 + caches]):
                    target = b"/" + name.replace(" ", "%20").encode()
                    got = client.ask(b"GET", target, ((b"Accept-Encoding", coding),))
                    assert got.get(b"content-encoding") == coding
                    assert unpacked(got.body, coding) == body
                    if name in ("text", "zeros"):
                        assert len(got.body) < len(body) // 5
        if caches:
            assert len(backend.requests) == len(_BODIES)

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    def test_curl_reads_them(self, live: Live, authority: Papers, coding: str) -> None:
        features = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
        if {"gzip": "libz", "br": "brotli", "zstd": "zstd"}[coding] not in features:
            pytest.skip(f"this curl does not know {coding}")
        body = b"".join(blocks(50_000)) * 20
        backend = live.recording({"/": Answer(body=body, fields=(PLAIN_TYPE, KEEP))})
        caching(live, backend.address, compress="true", listener=tls_keys(authority.issue(NAME)))
        words = ["curl", "-sS", "-m", str(PATIENCE), "--noproxy", "*", "--compressed", "--cacert", authority.ca]
        words += ["--resolve", f"{NAME}:{live.port}:127.0.0.1", "-H", f"Accept-Encoding: {coding}"]
        # The second one from the cache, where it has been packed already.
        done = subprocess.run(
            [*words, f"https://{NAME}:{live.port}/", f"https://{NAME}:{live.port}/"], capture_output=True, check=True
        )
        assert done.stdout == body * 2
        assert [one["coding"] for one in live.records(2)] == [coding] * 2
        assert len(backend.requests) == 1

    @pytest.mark.parametrize("coding", CODINGS)
    def test_many_who_want_the_same_coding_while_it_comes(self, live: Live, coding: bytes) -> None:
        """Packed once as it comes, with whatever is there given out at once"""
        body = Stepwise(live.stack, WORDS, WORDS[::-1], WORDS * 3)
        backend = live.recording({"/": body.answer(PLAIN_TYPE)})
        caching(live, backend.address, compress="true")
        clients = [live.client() for _ in range(10)]
        for client in clients:
            client.send(request(fields=((b"Accept-Encoding", coding),)))
        body.step()
        for client in clients:
            assert b"\r\n\r\n" in client.take(400), "the first piece is not held back until there are more"
        with ExitStack() as late:
            others = [late.enter_context(RawClient(live.port)) for _ in range(3)]
            for other, accept in zip(others, (b"gzip", b"br", b"zstd"), strict=True):
                other.send(request(fields=((b"Accept-Encoding", accept),)))
            body.all()
            for other, accept in zip(others, (b"gzip", b"br", b"zstd"), strict=True):
                assert unpacked(other.answer().body, accept) == body.whole
        assert len(backend.requests) == 1
        with live.client() as client:
            again = client.ask(fields=((b"Accept-Encoding", coding),))
        assert again.get(b"content-length") == b"%d" % len(again.body)
        assert unpacked(again.body, coding) == body.whole

    def test_old_clients_get_plain_bodies(self, live: Live) -> None:
        backend = live.recording({"/": Answer(body=WORDS, fields=(PLAIN_TYPE, KEEP))})
        for cache in ("", "true"):
            caching(live, backend.address, cache=cache, compress="true")
            for _ in range(2):
                with live.client() as client:
                    client.send(request(fields=((b"Accept-Encoding", b"gzip"),), version=b"HTTP/1.0"))
                    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
                assert b"content-encoding" not in head.lower()
                assert body == WORDS

    def test_over_tls(self, live: Live, authority: Papers) -> None:
        backend = live.recording({"/": Answer(body=WORDS * 100, fields=(PLAIN_TYPE, KEEP))})
        caching(live, backend.address, compress="true", listener=tls_keys(authority.issue(NAME)))
        with https(live) as client:
            for coding in CODINGS * 2:
                answer = client.ask(fields=((b"Accept-Encoding", coding),), host=NAME.encode())
                assert unpacked(answer.body, coding) == WORDS * 100
        assert len(backend.requests) == 1


class TestStreams:
    @pytest.mark.parametrize("coding", CODINGS)
    @pytest.mark.parametrize("caches", [False, True], ids=["uncached", "cached"])
    def test_events_are_sent_on_one_by_one(self, live: Live, coding: bytes, caches: bool) -> None:
        events = [b"data: %d\n\n" % number for number in range(5)]
        body = Stepwise(live.stack, *events)
        backend = live.recording(
            {"/": body.answer((b"Content-Type", b"text/event-stream"), cc=b"no-store", chunked=True)}
        )
        caching(live, backend.address, cache="true" if caches else "", compress="{ events = true }")
        with live.client() as client:
            client.send(request(fields=((b"Accept-Encoding", coding),)))
            reading = _Incremental(client, coding)
            for event in events:
                body.step()
                assert reading.next_event() == event
            assert reading.coding == coding
            body.step()

    def test_events_are_plain_unless_asked_for(self, live: Live) -> None:
        body = Stepwise(live.stack, b"data: 1\n\n" * 1000)
        backend = live.recording(
            {"/": body.answer((b"Content-Type", b"text/event-stream"), cc=b"no-store", chunked=True)}
        )
        caching(live, backend.address, cache="", compress="true")
        body.all()
        with live.client() as client:
            answer = client.ask(fields=((b"Accept-Encoding", b"gzip"),))
        assert (answer.get(b"content-encoding"), answer.body) == (None, body.whole)


class _Incremental:
    """Reads a coded stream as far as it has come."""

    def __init__(self, client: RawClient, coding: bytes) -> None:
        self.coding: bytes | None = None
        self._client = client
        self._parser = h11.Connection(h11.CLIENT)
        self._parser.send(h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"x")]))
        self._parser.send(h11.EndOfMessage())
        self._events = b""
        if coding == b"gzip":
            self._unpack = zlib.decompressobj(31).decompress
        elif coding == b"br":
            self._unpack = import_module("brotli").Decompressor().process
        else:
            self._unpack = import_module("backports.zstd").ZstdDecompressor().decompress

    def next_event(self) -> bytes:
        """The next one, once it is there."""
        while b"\n\n" not in self._events:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                self._parser.receive_data(self._client.sock.recv(65536))
            elif isinstance(event, h11.Response):
                self.coding = dict(event.headers).get(b"content-encoding")
            else:
                assert isinstance(event, h11.Data), event
                self._events += self._unpack(bytes(event.data))
        found, _, self._events = self._events.partition(b"\n\n")
        return found + b"\n\n"


class TestBackendsThatPack:
    @pytest.mark.parametrize("coding", CODINGS)
    @pytest.mark.parametrize("caches", [False, True], ids=["uncached", "cached"])
    def test_what_they_packed_is_unpacked_for_who_cannot_read_it(self, live: Live, coding: bytes, caches: bool) -> None:
        fields = (PLAIN_TYPE, KEEP, (b"Content-Encoding", coding), (b"ETag", STRONG), (b"Content-MD5", b"x"))
        backend = live.recording({"/": Answer(body=packed(WORDS, coding), fields=fields)})
        caching(live, backend.address, cache="true" if caches else "", compress="true")
        with live.client() as client:
            for _ in range(2):
                for accept in (*CODINGS, None):
                    answer = client.ask(fields=_accepting(accept))
                    theirs = answer.get(b"content-encoding")
                    assert unpacked(answer.body, theirs) == WORDS
                    if accept == coding:
                        assert (theirs, answer.get(b"etag"), answer.get(b"content-md5")) == (coding, STRONG, b"x")
                    else:
                        assert theirs != coding
                        assert (answer.get(b"etag"), answer.get(b"content-md5")) == (WEAK, None)
                        assert _varies(answer)
        assert len(backend.requests) == (1 if caches else 8)

    @pytest.mark.parametrize("lines", [(b"gzip", b"gzip"), (b"gzip, gzip",), (b"gzip", b"br")])
    def test_what_is_packed_twice_goes_on_as_it_came(self, live: Live, lines: tuple[bytes, ...]) -> None:
        body = packed(packed(WORDS, b"gzip"), b"gzip")
        fields = (PLAIN_TYPE, KEEP, *[(b"Content-Encoding", one) for one in lines])
        backend = live.recording({"/": Answer(body=body, fields=fields)})
        for cache in ("", "true"):
            caching(live, backend.address, cache=cache, compress="true")
            with live.client() as client:
                for accept in (None, b"gzip", None, b"gzip"):
                    answer = client.ask(fields=_accepting(accept))
                    assert answer.body == body
                    assert b", ".join(answer.all(b"content-encoding")) == b", ".join(lines)

    def test_offload_asks_for_plain_bodies(self, live: Live) -> None:
        def answer(asked: Asked) -> Answer:
            if b"gzip" in (asked.get(b"accept-encoding") or b""):
                return Answer(body=packed(WORDS, b"gzip"), fields=(PLAIN_TYPE, (b"Content-Encoding", b"gzip")))
            return Answer(body=WORDS, fields=(PLAIN_TYPE, KEEP))

        backend = live.recording(answer)
        for cache in ("", "true"):
            caching(live, backend.address, cache=cache, compress="{ offload = true }")
            with live.client() as client:
                got = client.ask(fields=((b"Accept-Encoding", b"gzip, br"),))
            assert (got.get(b"content-encoding"), unpacked(got.body, b"br")) == (b"br", WORDS)
        assert all(not (asked.get(b"accept-encoding") or b"").strip() or asked.get(b"accept-encoding") == b"identity"
                   for asked in backend.requests)  # fmt: skip

    def test_what_is_not_what_its_coding_says_is_cut_off(self, live: Live) -> None:
        body = packed(WORDS, b"gzip")
        broken = body[:60] + b"\xff" * 20 + body[80:]
        fields = (PLAIN_TYPE, KEEP, (b"Content-Encoding", b"gzip"))
        for answer in (Answer(body=broken, fields=fields), Answer(body=body[:-9], fields=fields)):
            for cache in ("", "true"):
                caching(live, live.recording({"/": answer}).address, cache=cache, compress="true")
                for _ in range(2):
                    with live.client() as client:
                        client.send(request())
                        with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                            got = client.answer()
                            assert got.status == 502, got
                            raise h11.RemoteProtocolError("it says so itself")

    def test_a_bomb_is_not_unpacked_to_its_end(self, live: Live) -> None:
        """R7"""
        bomb = packed(bytes(100_000_000), b"gzip")
        answer = Answer(body=bomb, fields=(PLAIN_TYPE, (b"Content-Encoding", b"gzip")))
        caching(live, live.recording({"/": answer}).address, cache="", compress="true")
        with live.client() as client:
            client.send(request())
            with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                got = client.answer()
                assert got.status == 502
                raise h11.RemoteProtocolError("it says so itself")
        with live.client() as client:
            assert client.ask(fields=((b"Accept-Encoding", b"gzip"),)).body == bomb


class TestSecrets:
    """R7, BREACH: what is for one client alone is not compressed unless the route says so"""

    @pytest.mark.parametrize("private", [False, True])
    @pytest.mark.parametrize("fields", [((b"Set-Cookie", b"a=b"),), ((b"Cache-Control", b"private"),)])
    def test_private_answers(self, live: Live, fields: Fields, private: bool) -> None:
        backend = live.recording({"/": Answer(body=WORDS, fields=(PLAIN_TYPE, *fields))})
        for cache in ("", "true"):
            caching(live, backend.address, cache=cache, compress="{ private = true }" if private else "true")
            with live.client() as client:
                answer = client.ask(fields=((b"Accept-Encoding", b"gzip"),))
            assert (answer.get(b"content-encoding") is not None) == private
            assert unpacked(answer.body, answer.get(b"content-encoding")) == WORDS
        assert len(backend.requests) == 2

    def test_clients_may_forbid_it(self, live: Live) -> None:
        backend = live.recording({"/": Answer(body=WORDS, fields=(PLAIN_TYPE,))})
        caching(live, backend.address, cache="", compress="true")
        with live.client() as client:
            answer = client.ask(fields=((b"Accept-Encoding", b"gzip"), (b"Cache-Control", b"no-transform")))
        assert (answer.get(b"content-encoding"), answer.body) == (None, WORDS)


# Requests.

_UNPACKED = (b"gzip", b"br", b"zstd", b"deflate")


class TestRequests:
    def _serve(self, live: Live, settings: str = "true", more: str = "") -> Recording:
        backend = live.recording(lambda asked: Answer(body=asked.digest.encode()))
        live.serve(backend.address, more=route("", f"decompress_requests = {settings}\n{more}"))
        return backend

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("coding", _UNPACKED)
    def test_bodies_come_unpacked_and_say_so(self, live: Live, coding: bytes, framing: str) -> None:
        backend = self._serve(live)
        body = packed(WORDS * 2, coding)
        fields: Fields = ((b"Content-Encoding", coding), (b"Content-MD5", b"x"), (b"Content-Type", b"text/plain"))
        with live.client() as client:
            if framing == "length":
                client.send(request(b"POST", b"/", fields, body))
            else:
                pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
                client.send(request(b"POST", b"/", (*fields, (b"Transfer-Encoding", b"chunked")), chunked(*pieces)))
            assert client.answer().status == 200
            assert client.ask(target=b"/next").status == 200
        asked = backend.requests[0]
        assert asked.body == WORDS * 2
        assert [asked.get(name) for name in (b"content-encoding", b"content-md5")] == [None, None]
        assert asked.get(b"content-type") == b"text/plain"
        length = asked.get(b"content-length")
        assert length is None or int(length) == len(WORDS) * 2
        assert (length is None) != (asked.get(b"transfer-encoding") is None)

    @pytest.mark.parametrize("coding", _UNPACKED)
    def test_bombs_are_refused(self, live: Live, coding: bytes) -> None:
        """R7"""
        backend = self._serve(live)
        bomb = packed(bytes(40_000_000), coding)
        with live.client() as client:
            answer = client.ask(b"POST", b"/", ((b"Content-Encoding", coding),), bomb)
        assert answer.status == 413
        assert not any(asked.complete for asked in backend.requests)
        assert live.record()["outcome"] == "body_large"

    def test_the_bound_of_the_route_counts_for_what_comes_out(self, live: Live) -> None:
        backend = self._serve(live, more="max_body = '2KiB'")
        with live.client() as client:
            assert (
                client.ask(b"POST", b"/", ((b"Content-Encoding", b"gzip"),), packed(b"x" * 2048, b"gzip")).status == 200
            )
        with live.client() as client:
            assert (
                client.ask(b"POST", b"/", ((b"Content-Encoding", b"gzip"),), packed(b"x" * 2049, b"gzip")).status == 413
            )
        assert [asked.size for asked in backend.requests if asked.complete] == [2048]

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("what", ["nonsense", "cut", "behind"])
    @pytest.mark.parametrize("coding", _UNPACKED)
    def test_what_is_corrupt_is_refused(self, live: Live, coding: bytes, what: str, framing: str) -> None:
        backend = self._serve(live)
        good = packed(WORDS, coding)
        body = {"nonsense": b"\xff" * 50, "cut": good[:-5], "behind": good + b"\xffbehind it"}[what]
        fields: Fields = ((b"Content-Encoding", coding),)
        with live.client() as client:
            if framing == "length":
                client.send(request(b"POST", b"/", fields, body))
            else:
                client.send(request(b"POST", b"/", (*fields, (b"Transfer-Encoding", b"chunked")), chunked(body)))
            assert client.answer().status == 400
        assert not any(asked.complete for asked in backend.requests)

    @pytest.mark.parametrize("value", [b"gzip, gzip", b"gzip, br", b"foo", b"aes128gcm", b"identity", b"gzip;q=1"])
    def test_what_is_not_one_known_coding_goes_on_as_it_came(self, live: Live, value: bytes) -> None:
        """Never half of it: what is told of a body stays true of it"""
        backend = self._serve(live)
        body = packed(packed(b"inner", b"gzip"), b"gzip")
        with live.client() as client:
            assert client.ask(b"POST", b"/", ((b"Content-Encoding", value),), body).status in (200, 415)
        for asked in backend.requests:
            assert (asked.body, asked.get(b"content-encoding")) == (body, value)
            assert asked.get(b"content-length") == b"%d" % len(body)

    def test_the_coding_in_two_lines(self, live: Live) -> None:
        """Nothing ambiguous reaches the backend"""
        backend = self._serve(live)
        body = packed(packed(b"inner", b"gzip"), b"gzip")
        twice: Fields = ((b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip"))
        with live.client() as client:
            assert client.ask(b"POST", b"/", twice, body).status in (200, 400, 415)
        for asked in backend.requests:
            if asked.complete:
                assert asked.body == body
                assert b", ".join(asked.all(b"content-encoding")) == b"gzip, gzip"

    def test_a_request_within_a_packed_body_is_nobodys(self, live: Live) -> None:
        """F19"""
        backend = self._serve(live)
        inner = request(target=b"/inner")
        with live.client() as client:
            client.send(request(b"POST", b"/", ((b"Content-Encoding", b"gzip"),), packed(inner, b"gzip")))
            client.send(request(target=b"/last"))
            assert [client.answer().status for _ in range(2)] == [200, 200]
        assert [(one.target, one.body) for one in backend.requests] == [(b"/", inner), (b"/last", b"")]

    def test_large_bodies_come_whole(self, live: Live) -> None:
        backend = self._serve(live)
        with live.client() as client:
            body = packed(b"".join(blocks(5_000_000)), b"gzip")
            assert client.ask(b"PUT", b"/", ((b"Content-Encoding", b"gzip"),), body).body == digest(5_000_000).encode()
        assert backend.requests[0].size == 5_000_000

    def test_without_the_key_they_pass_as_they_are(self, live: Live) -> None:
        backend = live.recording()
        live.serve_text(http_site(live.ports.reserve(), backend.address))
        live.serve(backend.address)
        body = packed(WORDS, b"gzip")
        with live.client() as client:
            client.ask(b"POST", b"/", ((b"Content-Encoding", b"gzip"),), body)
        assert (backend.requests[0].body, backend.requests[0].get(b"content-encoding")) == (body, b"gzip")
