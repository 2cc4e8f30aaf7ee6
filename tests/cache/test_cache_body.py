"""The body of a stored answer as it comes: what is there, who is told, and how little of a long one is kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.cache.body import Body, BodyReaderLike

# So much is a piece of its own; what is shorter may be joined with what follows.
UNIT = 1024
DATA = bytes(itertools.islice(itertools.cycle(range(251)), 400 * UNIT))


class Reader:
    """Who reads up to `pace` bytes whenever it is told, and keeps them in `got`."""

    def __init__(self, body: Body, pace: int = 1 << 30, *, may_lag: bool = True) -> None:
        self.body = body
        self.pace = pace
        self.may_lag = may_lag
        self.position = 0
        self.got = b""
        self.told: list[tuple[int, bool, bool]] = []

    def more(self) -> None:
        body = self.body
        self.told.append((body.length, body.complete, body.failed))
        self.take(self.pace)

    def take(self, most: int) -> None:
        """Read so much of what is there, in memory or in the file behind it."""
        body = self.body
        left = min(most, body.length - self.position)
        while left > 0:
            if self.position < body.start:
                assert body.behind is not None
                data = bytes(DATA[self.position : self.position + min(left, body.behind.length - self.position)])
            else:
                data = bytes(body.read(self.position, left))
            assert 0 < len(data) <= left
            self.got += data
            self.position += len(data)
            left -= len(data)


class File:
    """As much of a file behind a body as the body asks for."""

    def __init__(self) -> None:
        self.length = 0
        self.expected = -1
        self.complete = self.failed = False

    def wait(self, reader: BodyReaderLike) -> None:
        raise AssertionError("who fills the body does so")

    def leave(self, reader: BodyReaderLike) -> None:
        raise AssertionError("who fills the body does so")

    def descriptor(self) -> int:
        raise AssertionError("nobody sends it here")

    def ready(self, position: int, most: int) -> bool:
        return True

    def load(self, position: int, most: int, then: Callable[[bytes | None], None]) -> None:
        raise AssertionError("nobody loads it here")


def body_of(*pieces: bytes, expected: int = -1) -> Body:
    body = Body(expected)
    for piece in pieces:
        body.add(piece)
    return body


class TestBytes:
    def test_an_empty_one_has_nothing(self) -> None:
        body = Body(7)
        assert (body.length, body.expected, body.start, body.lead, body.readers) == (0, 7, 0, 0, 0)
        assert (body.complete, body.failed, body.passing) == (False, False, False)
        assert body.read(0, 10) == b""
        assert body.whole() == b""
        body.finish()
        assert body.complete
        assert body.whole() == b""

    @given(
        st.lists(st.binary(max_size=20), max_size=12),
        st.booleans(),
        st.integers(0, 250),
        st.integers(1, 40),
    )
    @settings(max_examples=150, deadline=None)
    def test_any_read_gives_the_beginning_of_what_is_there(
        self, pieces: list[bytes], finished: bool, position: int, most: int
    ) -> None:
        body = body_of(*pieces)
        if finished:
            body.finish()
        whole = b"".join(pieces)
        read = bytes(body.read(position, most))
        assert whole[position:].startswith(read)
        assert len(read) <= most
        assert bool(read) is (position < len(whole))
        assert body.whole() == whole
        assert body.length == len(whole)

    def test_a_piece_that_is_wanted_whole_is_not_copied(self) -> None:
        piece = b"x" * 100
        first = DATA[: 10 * UNIT]
        body = body_of(first, piece)
        assert body.read(len(first), 100) is piece
        part = body.read(len(first) + 1, 100)
        assert isinstance(part, memoryview)
        assert part.obj is piece

    def test_short_pieces_cost_little_each(self) -> None:
        body = Body()
        for at in range(20 * UNIT):
            body.add(DATA[at : at + 1])
        assert body.whole() == DATA[: 20 * UNIT]
        pieces = at = 0
        while at < body.length:
            at += len(body.read(at, body.length))
            pieces += 1
        assert pieces <= 20

    def test_what_has_been_read_stays_as_it_is(self) -> None:
        body = body_of(b"one")
        read = body.read(1, 10)
        body.add(b"two")
        assert bytes(read) == b"ne"
        assert body.read(1, 10) == b"netwo"

    def test_the_end_makes_one_piece_of_it(self) -> None:
        body = body_of(b"one", b"two")
        body.finish()
        assert body.whole() is body.whole()
        assert body.read(0, 100) == b"onetwo"


class TestReaders:
    def test_they_are_told_of_each_piece_and_of_the_end(self) -> None:
        body = Body()
        reader = Reader(body)
        body.wait(reader)
        body.add(b"one")
        body.add(b"")
        body.add(b"two")
        body.finish()
        assert reader.told == [(3, False, False), (6, False, False), (6, True, False)]
        assert reader.got == b"onetwo"
        assert body.readers == 0, "there is nothing more to be told"

    def test_they_are_told_of_a_failure(self) -> None:
        body = body_of(b"one")
        reader = Reader(body)
        body.wait(reader)
        body.fail()
        assert reader.told == [(3, False, True)]
        assert body.readers == 0
        assert body.read(0, 9) == b"one", "what has come can still be read"

    def test_who_leaves_is_told_no_more(self) -> None:
        body = Body()
        first, second = Reader(body), Reader(body)
        body.wait(first)
        body.wait(second)
        body.leave(first)
        body.leave(first)
        body.add(b"one")
        assert (first.told, second.told) == ([], [(3, False, False)])
        assert body.readers == 1

    def test_one_may_leave_while_all_are_told(self) -> None:
        body = Body()

        class Leaving(Reader):
            def more(self) -> None:
                super().more()
                body.leave(self)
                body.leave(other)

        other = Reader(body)
        body.wait(Leaving(body))
        body.wait(other)
        body.add(b"one")
        body.add(b"two")
        assert body.readers == 0
        assert len(other.told) <= 1


class TestBodiesThatPass:
    def test_all_is_kept_until_it_is_known_to_be_too_long(self) -> None:
        body = body_of(b"one", b"two")
        assert body.start == 0
        body.advanced()
        assert body.start == 0

    def test_what_all_have_read_goes_and_room_is_told(self) -> None:
        body = Body()
        rooms: list[int] = []
        slow, fast = Reader(body, 0), Reader(body)
        body.wait(slow)
        body.wait(fast)
        body.pass_on(lambda: rooms.append(body.lead))
        for _ in range(4):
            body.add(DATA[: 10 * UNIT])
        assert (body.start, body.lead, fast.position) == (0, 40 * UNIT, 40 * UNIT)
        assert rooms == []
        slow.take(25 * UNIT)
        body.advanced()
        assert (body.start, body.lead, rooms) == (20 * UNIT, 15 * UNIT, [15 * UNIT])
        body.leave(slow)
        assert (body.start, body.lead, rooms) == (30 * UNIT, 0, [15 * UNIT, 0]), "the last piece stays"

    def test_who_waits_from_the_beginning_loses_nothing_by_it(self) -> None:
        body = body_of(DATA[: 10 * UNIT], DATA[10 * UNIT : 20 * UNIT])
        reader = Reader(body, 0)
        body.wait(reader)
        body.pass_on(lambda: None)
        assert body.start == 0
        reader.take(100 * UNIT)
        assert reader.got == DATA[: 20 * UNIT]

    @pytest.mark.parametrize("how", ["finish", "fail"])
    def test_behind_its_end_nothing_is_taken_from_the_slow_ones(self, how: str) -> None:
        """They are told no more, so nobody knows any more how far they are."""
        body = Body()
        slow, fast = Reader(body, 0), Reader(body, 15 * UNIT)
        body.wait(slow)
        body.wait(fast)
        rooms: list[int] = []
        body.pass_on(lambda: rooms.append(1))
        for at in range(0, 40 * UNIT, 10 * UNIT):
            body.add(DATA[at : at + 10 * UNIT])
        getattr(body, how)()
        body.advanced()
        body.leave(fast)
        assert rooms == []
        slow.take(100 * UNIT)
        assert slow.got == DATA[: 40 * UNIT]

    def test_at_its_end_it_is_not_made_one_piece(self) -> None:
        body = Body()
        reader = Reader(body)
        body.wait(reader)
        body.pass_on(lambda: None)
        for at in range(0, 40 * UNIT, 10 * UNIT):
            body.add(DATA[at : at + 10 * UNIT])
            body.advanced()
        assert body.start == 30 * UNIT
        body.finish()
        assert body.length == 40 * UNIT
        assert body.read(35 * UNIT, 100 * UNIT) == DATA[35 * UNIT : 40 * UNIT]


class TestFilesBehind:
    @staticmethod
    def passing(may_lag: bool = True) -> tuple[Body, File, Reader]:
        body, file = Body(), File()
        reader = Reader(body, 0, may_lag=may_lag)
        body.wait(reader)
        behind: Any = file
        body.pass_on(lambda: None, behind)
        for at in range(0, 40 * UNIT, 10 * UNIT):
            body.add(DATA[at : at + 10 * UNIT])
        return body, file, reader

    def test_what_is_written_is_not_kept_for_those_who_may_lag(self) -> None:
        body, file, reader = self.passing()
        assert (body.start, body.lead) == (0, 40 * UNIT)
        file.length = 25 * UNIT
        body.advanced()
        assert (body.start, body.lead) == (20 * UNIT, 15 * UNIT)
        reader.take(100 * UNIT)
        assert reader.got == DATA[: 40 * UNIT]
        assert body.lead == 15 * UNIT, "the file has not got it yet"

    def test_it_is_kept_for_those_who_may_not(self) -> None:
        body, file, reader = self.passing(may_lag=False)
        file.length = 25 * UNIT
        body.advanced()
        assert (body.start, body.lead) == (0, 40 * UNIT)
        reader.take(30 * UNIT)
        body.advanced()
        assert (body.start, body.lead) == (20 * UNIT, 15 * UNIT)

    def test_without_readers_the_file_is_what_is_waited_for(self) -> None:
        body, file, reader = self.passing()
        body.leave(reader)
        assert (body.start, body.lead) == (0, 40 * UNIT)
        file.length = 40 * UNIT
        body.advanced()
        assert (body.start, body.lead) == (30 * UNIT, 0)

    def test_should_it_fail_readers_are_waited_for(self) -> None:
        body, file, reader = self.passing()
        reader.take(15 * UNIT)
        file.length, file.failed = 35 * UNIT, True
        body.advanced()
        assert (body.start, body.lead) == (10 * UNIT, 25 * UNIT)
        reader.take(100 * UNIT)
        assert reader.got == DATA[: 40 * UNIT]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 9 * UNIT)),
        st.tuples(st.just("join"), st.booleans()),
        st.tuples(st.just("take"), st.tuples(st.integers(0, 5), st.integers(1, 20 * UNIT))),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("write"), st.integers(1, 20 * UNIT)),
        st.tuples(st.just("pass"), st.booleans()),
        st.tuples(st.just("break"), st.none()),
        st.tuples(st.just("end"), st.booleans()),
    ),
    max_size=40,
)


class TestAnyOrder:
    @given(STEPS)
    @settings(max_examples=300, deadline=None)
    def test_nobody_misses_a_byte_and_no_more_is_kept_than_somebody_needs(self, steps: list[tuple[str, Any]]) -> None:
        """The model is DATA itself: whoever joined before the body began to pass reads all that has come of it, unless
        it has lagged behind a file that broke.
        """
        body, file = Body(), File()
        readers: list[Reader] = []
        with_file = False
        for step, word in steps:
            over = body.complete or body.failed
            if step == "add" and not over and body.length < len(DATA) - 9 * UNIT:
                body.add(DATA[body.length : body.length + word])
            elif step == "join" and not over and not body.passing and len(readers) < 6:
                reader = Reader(body, 0, may_lag=word)
                readers.append(reader)
                body.wait(reader)
            elif step == "take" and word[0] < len(readers):
                readers[word[0]].take(word[1])
                body.advanced()
            elif step == "leave" and word < len(readers):
                body.leave(readers.pop(word))
            elif step == "write" and with_file and not file.failed:
                file.length = min(body.length, file.length + word)
                body.advanced()
            elif step == "pass" and not body.passing and not over:
                with_file = word
                behind: Any = file if with_file else None
                body.pass_on(lambda: None, behind)
            elif step == "break" and with_file:
                file.failed = True
                for reader in [reader for reader in readers if reader.position < body.start]:
                    readers.remove(reader)
                    body.leave(reader)
            elif step == "end" and not over:
                if word:
                    body.finish()
                else:
                    body.fail()
            if not body.passing:
                assert body.start == 0
                assert body.whole() == DATA[: body.length]
            elif not (body.complete or body.failed):
                needed = self._needed(body, file if with_file else None, readers)
                assert body.lead == body.length - needed
                assert body.start <= needed
        for reader in readers:
            reader.take(len(DATA))
            assert reader.got == DATA[: body.length]

    @staticmethod
    def _needed(body: Body, file: File | None, readers: list[Reader]) -> int:
        """The first byte that has to be in memory."""
        if file is None or file.failed:
            return min([body.length, *[reader.position for reader in readers]])
        lagging = [file.length if reader.may_lag else reader.position for reader in readers]
        return min([body.length, file.length, *lagging])
