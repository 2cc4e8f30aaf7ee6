"""Whatever happens in whatever order: every request ends, nobody gets what is not for it, nothing is left over."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.model_cache import CacheSettings, RouteCacheSettings
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import ANSWER, CONNECT, DATA, OVER
from tests.session.cache_fakes import CachingTalk, FakeDisk
from tests.session.http_fakes import FakeBackend, FakeStream

SAID = (
    "Cache-Control: max-age=20",
    "Cache-Control: max-age=20, stale-while-revalidate=20",
    "Cache-Control: max-age=20, stale-if-error=20",
    "Cache-Control: max-age=20, must-revalidate",
    "Cache-Control: no-cache",
    "Cache-Control: no-store",
    "Cache-Control: max-age=20|Set-Cookie: id=1",
)
SHARES = (4, 4, 4, 2, 2, 1, 1)
ASKED = ("", "Range: bytes=1-3", 'If-None-Match: "v1"', "Cache-Control: no-cache", "Cache-Control: only-if-cached")


class Play:
    """A world in which things happen as `chance` has it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        shared = CacheSettings(waiters=chance.choice([1, 3, 100]), max_object=300, memory=20_000)
        rules = RouteCacheSettings(
            honour_clients=chance.random() < 0.3,
            collapse=chance.random() < 0.8,
            stale_if_error=chance.choice([None, 30.0]),
        )
        self.talk = CachingTalk("a b", shared=shared, rules=rules, max_active=chance.choice([2, 100]))
        self.disk = FakeDisk()
        if chance.random() < 0.5:
            self.talk.cache.disk = self.disk
        self.asked: dict[Exchange, tuple[str, str]] = {}
        self.coming: dict[FakeBackend, bytes] = {}
        self.whole: dict[tuple[str, str], set[bytes]] = {}
        self.slow: list[FakeStream] = []
        self.versions = 0

    # What may happen.

    def asks(self) -> None:
        chance, talk = self.chance, self.talk
        stream = talk.slow(chance.randrange(50)) if chance.random() < 0.2 else talk.stream(talk.accept())
        if stream.room is not None:
            self.slow.append(stream)
        path, variant = chance.choice(["/0", "/1"]), chance.choice(["", "1", "2"])
        fields = chance.choice(ASKED) if chance.random() < 0.25 else ""
        method = chance.choices(["GET", "HEAD", "POST"], [18, 1, 1])[0]
        parts = "|".join(part for part in (fields, f"X-A: {variant}" if variant else "") if part)
        exchange = talk.asks(stream.conversation, path=path, method=method, fields=parts)
        self.asked[exchange] = (path, variant)

    def connects(self) -> None:
        one = self._one(lambda one: one.phase == CONNECT and isinstance(one.backend_side, FakeBackend))
        if one is not None:
            if self.chance.random() < 0.15:
                self.talk.refuses(one)
            else:
                one.connected()

    def answers(self) -> None:
        chance = self.chance
        one = self._one(lambda one: one.phase == ANSWER and one.backend_side is not None)
        if one is None or one.head is None:
            return
        path, variant = one.head.path.decode(), (one.head.get(b"x-a") or b"").decode()
        side = self.talk.side(one)
        if chance.random() < 0.1:
            self.talk.loses(one)
            return
        self.versions += 1
        etag = f'|ETag: "v{self.versions % 3}"|Vary: X-A'
        if chance.random() < 0.2 and b"if-none-match" in side.asked.lower():
            etag = f'|ETag: "v{chance.randrange(3)}"|Vary: X-A'
            self.talk.answers(one, status=304, fields=chance.choice(SAID) + etag)
        elif chance.random() < 0.15:
            self.talk.answers(one, status=chance.choice([404, 500, 503]), fields="Content-Length: 0")
        else:
            body = f"{path}|{variant}|{self.versions}|".encode() + bytes(chance.choice([0, 50, 400, 2000]))
            self.whole.setdefault((path, variant), set()).add(body)
            known = chance.random() < 0.5
            framing = f"|Content-Length: {len(body)}" if known else "|Transfer-Encoding: chunked"
            cut = chance.choice([0, len(body) // 3, len(body)])
            if one.head.method == b"HEAD":
                cut, body = 0, b""
            self.coming[side] = body[cut:]
            self.talk.answers(one, fields=chance.choices(SAID, SHARES)[0] + etag + framing, body=body[:cut])
        self._end_if_empty(one, side)

    def _end_if_empty(self, one: Exchange, side: FakeBackend) -> None:
        """An answer without a body that its client is given ends with its head."""
        if side.exchange is one and side.sink is None and one.phase == DATA and one.answer is not None:
            assert one.head is not None
            if one.answer.length == 0 or one.answer.status == 304 or one.head.method == b"HEAD":
                self.talk.completes(one, 0)

    def brings(self) -> None:
        side = self._side()
        if side is None or not side.wanted:
            return
        rest, chance = self.coming.get(side, b""), self.chance
        if side.sink is None:
            one = side.exchange
            assert one is not None
            self.talk.completes(one)
            return
        count = len(rest) if chance.random() < 0.3 else min(len(rest), chance.randrange(1, 500))
        self.coming[side] = rest[count:]
        if rest or side.left < 0:
            self.talk.brings(side, rest[:count], last=count == len(rest))

    def breaks(self) -> None:
        side = self._side()
        if side is None or side.exchange is None:
            return
        if side.sink is None:
            self.talk.loses(side.exchange)
        else:
            self.talk.breaks(side)

    def leaves(self) -> None:
        one = self._one(lambda one: one in self.asked and one.phase != OVER)
        if one is not None:
            self.talk.leaves(one.conversation)

    def reads(self) -> None:
        for stream in self.slow:
            if stream.open:
                self.talk.reads(stream, self.chance.randrange(300))

    def passes(self) -> None:
        self.talk.passes(self.chance.choice([0.0, 0.2, 1.0, 11.0]))

    def purges(self) -> None:
        self.talk.cache.bans.add("all", b"", self.talk.cache.now(), soft=self.chance.random() < 0.5)

    def disk_works(self) -> None:
        if self.disk.loads:
            self.disk.fails() if self.chance.random() < 0.2 else self.disk.gives()
        for file in self.disk.files:
            if not file.failed and not file.complete:
                file.fail() if self.chance.random() < 0.1 else file.writes()

    # Who it happens to.

    def _one(self, fits: Callable[[Exchange], bool]) -> Exchange | None:
        known = dict.fromkeys([*self.talk.exchanges, *self.talk.http_factory.seeking])
        found = [one for one in known if fits(one)]
        return self.chance.choice(found) if found else None

    def _side(self) -> FakeBackend | None:
        found = [
            side
            for side in self.talk.http_factory.all
            if side.open and side.exchange is not None and side.exchange.phase == DATA
        ]
        return self.chance.choice(found) if found else None

    # The end.

    def ends(self) -> None:
        """Everything that is under way comes to its end, and then some time passes."""
        for _ in range(2000):
            self.disk_works()
            self.connects()
            self.answers()
            self.brings()
            for stream in self.slow:
                if stream.open:
                    self.talk.reads(stream, 10_000)
            if not self._under_way():
                break
            self.talk.passes(0.1)
        self.talk.passes(200)

    def _under_way(self) -> bool:
        return bool(self.disk.loads) or any(one.phase != OVER for one in self.asked)

    def check(self) -> None:
        talk = self.talk
        assert [one for one in self.asked if one.phase != OVER] == [], "somebody was forgotten"
        assert len(talk.records) == len(self.asked)
        for one, (path, variant) in self.asked.items():
            stream = talk.streams[one.conversation]
            if stream.face is None or stream.face.head.status != 200 or not stream.content:
                continue
            bodies = self.whole[path, variant]
            if one.outcome.word == "ok":
                assert stream.content in bodies, "it was not whole, or not for this one"
            else:
                assert any(body.startswith(stream.content) for body in bodies)
        assert talk.cache.store.used <= talk.cache.settings.memory
        talk.check_at_rest()


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(5, 60))
def test_whatever_happens_everybody_is_served_once_and_with_the_right_thing(chance: random.Random, steps: int) -> None:
    play = Play(chance)
    happenings = [
        play.asks,
        play.connects,
        play.answers,
        play.brings,
        play.breaks,
        play.leaves,
        play.reads,
        play.passes,
        play.purges,
        play.disk_works,
    ]
    weights = [8, 8, 6, 6, 1, 1, 2, 2, 0.3, 3]
    for _ in range(steps):
        chance.choices(happenings, weights)[0]()
        assert play.talk.faults == []
    play.ends()
    play.check()
