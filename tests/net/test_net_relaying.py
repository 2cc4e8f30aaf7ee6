"""The way of a byte between two real connections, turned by hand: order, back-pressure, ends, resets, bulk."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.balancing.pool import Pool
from lbproxy.model import SendProxySettings
from lbproxy.net.relaying import RelaySide
from lbproxy.net.splicing import Pipes
from lbproxy.net.transport import RECEIVE_BYTES
from lbproxy.session.phases import DATA, ENDING, OVER, QUEUE
from lbproxy.session.relay import Relay
from tests.net.net_rig import Rig, put, reset, rig, take_all, turn

MEGABYTE = random.Random(7).randbytes(1 << 20)


@pytest.fixture(params=["epoll", "stock"])
def place(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with rig(stock=request.param == "stock") as made:
        made.backends()
        yield made


def side_of(session: Relay, *, backend: bool = False) -> RelaySide:
    side = session.backend_side if backend else session.client
    assert isinstance(side, RelaySide)
    return side


def pump(place: Rig, source: socket.socket, target: socket.socket, data: bytes, *, end: bool = True) -> bytes:
    """Send all of `data`, then FIN; what came out at the other end, which is read as fast as it comes."""
    sent, got, ended = 0, bytearray(), False
    shut = not end

    def step() -> bool:
        nonlocal sent, shut, ended
        sent += put(source, data[sent : sent + 300_000])
        if sent == len(data) and not shut:
            source.shutdown(socket.SHUT_WR)
            shut = True
        more, ended = take_all(target)
        got.extend(more)
        return ended if end else len(got) >= len(data)

    turn(place.reactor, step)
    return bytes(got)


class TestBytes:
    def test_there_and_back(self, place: Rig) -> None:
        session, client, backend = place.relay()
        client.send(b"question")
        turn(place.reactor)
        assert take_all(backend) == (b"question", False)
        backend.send(b"answer")
        turn(place.reactor)
        assert take_all(client) == (b"answer", False)
        client.close()
        backend.close()
        record = place.until_over(session)
        assert (record.outcome, record.bytes_in, record.bytes_out) == ("ok", 8, 6)
        place.check_clean()

    @pytest.mark.parametrize("way", ["up", "down"])
    def test_a_megabyte_is_the_same_at_the_other_end(self, place: Rig, way: str) -> None:
        session, client, backend = place.relay()
        one, other = (client, backend) if way == "up" else (backend, client)
        assert pump(place, one, other, MEGABYTE) == MEGABYTE
        other.close()
        record = place.until_over(session)
        assert record.outcome == "ok"
        assert (record.bytes_in if way == "up" else record.bytes_out) == len(MEGABYTE)
        place.check_clean()

    def test_both_ways_at_once_with_small_buffers(self, place: Rig) -> None:
        place.close()
        place.backends(receive=4096)
        session, client, backend = place.relay(send=4096, receive=4096)
        got_up, got_down = bytearray(), bytearray()
        sent_up = sent_down = 0
        data = MEGABYTE[:400_000]

        def step() -> bool:
            nonlocal sent_up, sent_down
            sent_up += put(client, data[sent_up:])
            sent_down += put(backend, data[sent_down:])
            got_up.extend(take_all(backend, 7000)[0])
            got_down.extend(take_all(client, 9000)[0])
            return len(got_up) == len(got_down) == len(data)

        turn(place.reactor, step)
        assert got_up == got_down == data
        client.close()
        backend.close()
        place.until_over(session)
        place.check_clean()

    @settings(max_examples=25, deadline=None)
    @given(
        chunks=st.lists(st.tuples(st.booleans(), st.integers(1, 90_000), st.booleans()), max_size=14),
        small=st.booleans(),
        stock=st.booleans(),
    )
    def test_any_chunks_arrive_as_they_were_sent(
        self, chunks: list[tuple[bool, int, bool]], small: bool, stock: bool
    ) -> None:
        with rig(stock=stock) as place:
            place.backends(receive=4096 if small else 0)
            session, client, backend = place.relay(4096 if small else 0, 4096 if small else 0)
            sent, got = {True: bytearray(), False: bytearray()}, {True: bytearray(), False: bytearray()}
            for number, (up, size, read) in enumerate(chunks):
                data = bytes([number]) * size
                sent[up] += data[: put(client if up else backend, data)]
                turn(place.reactor)
                if read:
                    got[up] += take_all(backend if up else client)[0]
            client.shutdown(socket.SHUT_WR)
            backend.shutdown(socket.SHUT_WR)
            ends: dict[bool, bool] = {}

            def step() -> bool:
                for up, sock in ((True, backend), (False, client)):
                    data, end = take_all(sock)
                    got[up] += data
                    ends[up] = end
                return ends[True] and ends[False]

            turn(place.reactor, step)
            assert got == sent
            record = place.until_over(session)
            assert (record.outcome, record.bytes_in, record.bytes_out) == ("ok", len(sent[True]), len(sent[False]))
            place.check_clean()


class TestBeforeTheJoin:
    def test_what_the_client_sends_early_comes_first(self, place: Rig) -> None:
        session, client = place.accept()
        client.send(b"early ")
        backend = place.answered_by()
        turn(place.reactor, lambda: session.phase == DATA)
        client.send(b"late")
        turn(place.reactor)
        assert take_all(backend)[0] == b"early late"

    def test_what_is_kept_is_one_buffer_at_the_most(self, place: Rig) -> None:
        # The only slot is taken, so that the client waits.
        pool = place.pools["web"]
        place.pools["web"] = Pool(replace(pool.settings, max_active=1), random.Random(1).random, place.now)
        place.relay()
        session, client = place.accept()
        assert session.phase == QUEUE
        client.send(b"x")
        turn(place.reactor)
        put(client, MEGABYTE)
        turn(place.reactor)
        assert side_of(session).bytes_in > 1000
        assert side_of(session).bytes_in <= RECEIVE_BYTES, "one buffer per direction (threats.md, section 2)"

    def test_a_proxy_header_comes_before_everything(self, place: Rig) -> None:
        place.close()
        place.backends(send_proxy=SendProxySettings(1))
        _, client, backend = place.relay()
        client.send(b"hello")
        turn(place.reactor)
        assert take_all(backend)[0] == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello"

    def test_a_client_that_half_closed_early_gets_its_answer(self, place: Rig) -> None:
        session, client = place.accept()
        client.send(b"question")
        client.shutdown(socket.SHUT_WR)
        backend = place.answered_by()
        got = bytearray()

        def all_came() -> bool:
            data, ended = take_all(backend)
            got.extend(data)
            return ended

        turn(place.reactor, all_came)
        assert got == b"question"
        backend.send(b"answer")
        backend.close()
        assert place.until_over(session).outcome == "ok"
        assert take_all(client) == (b"answer", True)


class TestBackPressure:
    def test_a_writer_is_not_read_while_the_reader_takes_nothing(self, place: Rig) -> None:
        place.close()
        place.backends(receive=4096)
        session, client, backend = place.relay()
        sent = 0
        for _ in range(60):
            sent += put(client, MEGABYTE)
            turn(place.reactor)
        side, other = side_of(session), side_of(session, backend=True)
        assert other.held <= 1 << 20
        assert sent < 30 << 20, "somebody takes without end"
        assert place.worker.budget.used == other.held, "what a pipe holds counts, too"
        read_so_far = side.bytes_in
        turn(place.reactor)
        assert side.bytes_in == read_so_far
        got = 0

        def drained() -> bool:
            nonlocal got
            got += len(take_all(backend)[0])
            return got == sent

        turn(place.reactor, drained)
        assert place.worker.budget.used == 0
        assert other.held == 0

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reader_that_takes_nothing_is_cut(self, who: str) -> None:
        with rig(write_stall=3.0) as place:
            place.backends(receive=4096 if who == "backend" else 0)
            session, client, backend = place.relay(4096, 4096)
            writer = client if who == "backend" else backend
            for _ in range(30):
                put(writer, MEGABYTE)
                turn(place.reactor)
            place.passes(2.5)
            assert session.phase == DATA
            place.passes(3.5)  # the kernel may have moved its last bytes during the first
            assert place.records[0].outcome == "write_stall"
            assert place.records[0].state == ("sD--" if who == "backend" else "cD--")
            place.check_clean()

    @pytest.mark.parametrize("bulk", [False, True])
    def test_the_record_counts_what_the_client_was_really_given(self, bulk: bool) -> None:
        with rig(write_stall=3.0) as place:
            place.backends()
            session, client, backend = place.relay(*(() if bulk else (8192, 8192)))
            if bulk:
                pump(place, backend, client, MEGABYTE * 2, end=False)
            for _ in range(30):
                put(backend, MEGABYTE)
                turn(place.reactor)
            side = side_of(session)
            given = side_of(session, backend=True).bytes_in - side.held
            assert side.held > 0
            assert (place.worker.pipes.in_use > 0) == bulk
            place.passes(4.0)
            assert place.records[0].bytes_out == given


class TestLiveness:
    def test_both_connections_of_a_session_that_stays_are_watched_over(self) -> None:
        with rig(write_stall=7.0, connect=2.0) as place:
            place.backends()
            session, _, _ = place.relay()
            sides = [side_of(session), side_of(session, backend=True)]

            def limits() -> list[int]:
                socks = [side.sock for side in sides if side.sock is not None]
                return [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for sock in socks]

            assert limits() == [0, 0], "no system call for a session that is soon over"
            place.passes(2.5)
            assert limits() == [7000, 7000]
            session.kill(session.outcome)
            place.check_clean()


class TestEnds:
    def test_fin_is_passed_on_behind_the_data(self, place: Rig) -> None:
        place.close()
        place.backends(receive=4096)
        session, client, backend = place.relay()
        data = MEGABYTE[:500_000]
        sent = put(client, data)
        turn(place.reactor)
        while sent < len(data):
            sent += put(client, data[sent:])
            turn(place.reactor)
            if side_of(session).bytes_in > 100_000 and sent > 200_000:
                break
        client.shutdown(socket.SHUT_WR)
        got = bytearray()

        def ended() -> bool:
            more, end = take_all(backend, 5000)
            got.extend(more)
            return end

        turn(place.reactor, ended)
        assert got == data[:sent]
        backend.send(b"thanks")
        turn(place.reactor)
        assert take_all(client)[0] == b"thanks", "the other direction goes on"

    def test_a_half_closed_backend_still_gets_bytes(self, place: Rig) -> None:
        session, client, backend = place.relay()
        backend.send(b"bye")
        backend.shutdown(socket.SHUT_WR)
        turn(place.reactor)
        assert take_all(client) == (b"bye", True)
        assert session.phase == DATA
        client.send(b"still here")
        turn(place.reactor)
        assert take_all(backend) == (b"still here", False)
        client.close()
        assert place.until_over(session).outcome == "ok"
        place.check_clean()

    def test_a_reset_client_resets_the_backend(self, place: Rig) -> None:
        session, client, backend = place.relay()
        client.send(b"x")
        turn(place.reactor)
        take_all(backend)
        reset(client)
        assert place.until_over(session).outcome == "client_gone"
        with pytest.raises(ConnectionResetError):
            take_all(backend)
        place.check_clean()

    def test_a_reset_backend_resets_the_client(self, place: Rig) -> None:
        session, client, backend = place.relay()
        client.send(b"x")
        turn(place.reactor)
        reset(backend)
        assert place.until_over(session).outcome == "backend_cut"
        with pytest.raises(ConnectionResetError):
            take_all(client)
        place.check_clean()

    @pytest.mark.parametrize("bulk", [False, True])
    def test_what_was_read_from_a_backend_comes_before_its_reset(self, bulk: bool) -> None:
        """Both readers take nothing; then the backend is reset, and the client begins to read again."""
        with rig() as place:
            if not bulk:
                place.worker.pipes = Pipes(0)
            place.backends(receive=8192)
            session, client, backend = place.relay(*(() if bulk else (8192,)))
            got = bytearray(pump(place, backend, client, MEGABYTE, end=False))
            for _ in range(40):
                put(backend, MEGABYTE)
                put(client, MEGABYTE)
                turn(place.reactor)
            ours = side_of(session, backend=True)
            assert side_of(session).held
            assert ours.held
            assert (ours.pipe is not None) == bulk
            reset(backend)
            turn(place.reactor)
            try:
                for _ in range(2000):
                    got.extend(take_all(client)[0])
                    if session.phase == OVER:
                        break
                    place.passes(0.01)  # the kernel's own clock is real: all rounds together are less than write_stall
                    turn(place.reactor)
                got.extend(take_all(client)[0])
            except ConnectionResetError:
                pass
            assert len(got) == ours.bytes_in, "bytes that were read from the backend are missing"

    def test_a_backend_that_resets_before_any_byte_is_replaced(self, place: Rig) -> None:
        place.close()
        place.backends(2)
        session, client = place.accept()
        first = place.answered_by(0)
        turn(place.reactor, lambda: session.phase == DATA)
        reset(first)
        second = place.answered_by(1)
        turn(place.reactor, lambda: session.phase == DATA)
        client.send(b"hello")
        turn(place.reactor)
        assert take_all(second)[0] == b"hello"
        session.kill(session.outcome)
        place.check_clean()

    def test_a_refused_backend_is_replaced(self, place: Rig) -> None:
        place.close()
        place.backends(2)
        place.listening[0].close()
        session, _ = place.accept()
        place.answered_by(1)
        turn(place.reactor, lambda: session.phase == DATA)
        session.kill(session.outcome)
        record = place.records[-1]
        assert [(one.backend, one.error) for one in record.tries] == [("b0", "refused"), ("b1", None)]
        assert place.avoided == ["b0"]
        place.check_clean()

    def test_a_fault_of_ours_ends_this_session_only(self, place: Rig) -> None:
        session, client, _ = place.relay()
        other, _, _ = place.relay()

        def fail(side: object) -> None:
            raise ZeroDivisionError

        session.__class__ = type("Broken", (Relay,), {"__slots__": (), "first_bytes": lambda self, side: fail(side)})
        client.send(b"x")
        assert place.until_over(session).outcome == "internal"
        assert [type(problem) for problem in place.faults] == [ZeroDivisionError]
        assert other.phase == DATA
        place.faults.clear()


class TestBulk:
    def test_a_bulk_stream_is_spliced_and_a_thin_one_is_not(self) -> None:
        with rig() as place:
            place.backends()
            session, client, backend = place.relay()
            for _ in range(20):
                client.send(b"x" * 100)
                turn(place.reactor)
            assert place.worker.pipes.in_use == 0
            take_all(backend)
            assert pump(place, client, backend, MEGABYTE * 2, end=False) == MEGABYTE * 2
            assert place.worker.pipes.in_use == 1
            for _ in range(30):
                client.send(b"x" * 100)
                turn(place.reactor)
            assert place.worker.pipes.in_use == 0, "a stream that grew thin is copied again"
            assert take_all(backend)[0] == b"x" * 3000
            client.close()
            backend.close()
            place.until_over(session)
            place.check_clean()

    def test_a_killed_stream_gives_its_pipe_back(self) -> None:
        with rig() as place:
            place.backends(receive=4096)
            session, client, _ = place.relay()
            for _ in range(30):
                put(client, MEGABYTE)
                turn(place.reactor)
            session.kill(session.outcome)
            place.check_clean()

    def test_without_pipes_it_is_copied(self) -> None:
        with rig() as place:
            place.backends()
            place.worker.pipes = Pipes(0)
            _, client, backend = place.relay()
            assert pump(place, client, backend, MEGABYTE * 2) == MEGABYTE * 2


class TestTheBudget:
    def test_beyond_it_those_who_hold_most_are_ended_and_nobody_else_is(self) -> None:
        with rig() as place:
            place.worker.pipes = Pipes(0)
            place.worker.budget.limit = 200_000
            place.backends()
            slow = [place.relay(4096, 4096) for _ in range(8)]
            session, client, backend = place.relay()
            for _ in range(30):
                for _, _, one in slow:
                    with contextlib.suppress(ConnectionError):
                        put(one, MEGABYTE)
                turn(place.reactor)
                assert place.worker.budget.used <= 200_000
            cut = [record.outcome for record in place.records]
            assert cut == ["local_resource"] * place.worker.shed_total
            assert 0 < len(cut) < 8, "no more than needed"
            client.send(b"hello")
            turn(place.reactor)
            assert take_all(backend) == (b"hello", False)
            for each in [*slow, (session, client, backend)]:
                each[0].kill(each[0].outcome)
            place.check_clean()

    def test_it_ends_until_a_quarter_is_free(self) -> None:
        with rig() as place:
            place.worker.pipes = Pipes(0)
            place.backends()
            slow = [place.relay(4096, 4096) for _ in range(6)]
            for _ in range(10):
                for _, _, one in slow:
                    put(one, MEGABYTE)
                turn(place.reactor)
            held = {one: one.holds for one, _, _ in slow}
            place.worker.budget.limit = place.worker.budget.used - 1
            place.worker.over_budget()
            ended = [size for one, size in held.items() if one.phase == OVER]
            left = [size for one, size in held.items() if one.phase == DATA]
            assert min(ended) >= max(left) > 0
            assert place.worker.budget.used <= place.worker.budget.limit * 3 // 4
            assert place.worker.shed_total == len(ended)
            for session in held:
                session.kill(session.outcome)
            place.check_clean()

    def test_what_is_kept_before_a_backend_counts_and_is_given_back(self) -> None:
        with rig() as place:
            pool = place.backends(max_active=1)
            first, _, _ = place.relay()
            waiting = [place.accept() for _ in range(3)]
            for _, client in waiting:
                put(client, MEGABYTE[:10_000])
            turn(place.reactor)
            assert place.worker.budget.used == 30_000
            assert [session.holds for session, _ in waiting] == [10_000] * 3
            waiting[0][0].kill(first.outcome)
            assert place.worker.budget.used == 20_000
            first.kill(first.outcome)
            turn(place.reactor, lambda: waiting[1][0].phase == DATA)
            assert place.worker.budget.used == 10_000, "what the kernel of the backend took is held no more"
            for session, _ in waiting:
                session.kill(session.outcome)
            assert pool.queued == 0
            place.check_clean()

    def test_those_who_only_wait_may_be_ended_too(self) -> None:
        with rig() as place:
            place.worker.budget.limit = 100_000
            place.backends(max_active=1)
            first, _, _ = place.relay()
            waiting = [place.accept() for _ in range(3)]
            for _, client in waiting:
                put(client, MEGABYTE)
            turn(place.reactor)
            assert [record.outcome for record in place.records] == ["local_resource"] * place.worker.shed_total
            assert place.worker.shed_total > 0
            assert place.worker.budget.used <= 100_000
            assert first.phase == DATA
            for session in [first, *(session for session, _ in waiting)]:
                session.kill(session.outcome)
            place.check_clean()

    def test_what_a_pipe_could_not_get_rid_of_counts_until_it_has(self, place: Rig) -> None:
        session, client, backend = place.relay()
        got = bytearray(pump(place, backend, client, MEGABYTE, end=False))
        sent = len(MEGABYTE)
        for _ in range(40):
            sent += put(backend, MEGABYTE)
            turn(place.reactor)
        side, other = side_of(session), side_of(session, backend=True)
        assert other.pipe is not None
        assert place.worker.budget.used == other.pipe.held == side.held > 0
        before = side.held

        def some_moved() -> bool:
            got.extend(take_all(client, 50_000)[0])
            return side.held != before

        turn(place.reactor, some_moved)
        assert place.worker.budget.used == side.held

        def all_came() -> bool:
            got.extend(take_all(client)[0])
            return len(got) == sent

        turn(place.reactor, all_came)
        turn(place.reactor)
        assert place.worker.budget.used == 0
        session.kill(session.outcome)
        place.check_clean()

    @pytest.mark.parametrize("end", ["kill", "reset client", "reset backend", "close client", "close backend", "stall"])
    @pytest.mark.parametrize("bulk", [False, True])
    @pytest.mark.parametrize("both", [False, True])
    def test_nothing_stays_counted_however_a_session_ends(self, place: Rig, end: str, bulk: bool, both: bool) -> None:
        if not bulk:
            place.worker.pipes = Pipes(0)
        session, client, backend = place.relay()
        pump(place, backend, client, MEGABYTE, end=False)
        if both:
            pump(place, client, backend, MEGABYTE, end=False)
        for _ in range(40):
            put(backend, MEGABYTE)
            if both:
                put(client, MEGABYTE)
            turn(place.reactor)
        assert place.worker.budget.used > 0
        how, _, who = end.partition(" ")
        if how == "kill":
            session.kill(session.outcome)
        elif how != "stall":
            (reset if how == "reset" else socket.socket.close)(client if who == "client" else backend)
        turn(place.reactor)
        for _ in range(20):
            place.passes(20.0)
            turn(place.reactor)
            if session.phase == OVER:
                break
        assert session.phase == OVER
        place.check_clean()


class TestFailedWrites:
    def test_an_answer_before_a_reset_reaches_a_client_that_still_sends(self, place: Rig) -> None:
        """The backend answers early and closes without having read everything: its kernel resets."""
        for _ in range(10):
            session, client, backend = place.relay()
            client.send(b"u" * 1000)
            turn(place.reactor)
            backend.send(b"a" * 2000)
            backend.close()  # with unread bytes: a reset behind the answer
            client.send(b"u" * 1000)
            # Whichever comes first: the reset is met by the write, or by the read.
            side_of(session).doRead()
            got = bytearray()

            def came(client: socket.socket = client, got: bytearray = got) -> bool:
                got.extend(take_all(client, 2000 - len(got))[0])
                return len(got) == 2000

            turn(place.reactor, came)
            assert got == b"a" * 2000
            record = place.until_over(session)
            assert (record.outcome, record.bytes_out) == ("backend_cut", 2000)
            with pytest.raises(ConnectionResetError):
                take_all(client)
        place.check_clean()

    def test_a_side_that_cannot_be_written_any_more_is_never_taken_for_one_that_finished(self, place: Rig) -> None:
        session, client, backend = place.relay()
        client.send(b"u")
        turn(place.reactor)
        reset(backend)
        client.send(b"u" * 1000)
        side_of(session).doRead()  # this write meets the reset
        turn(place.reactor)
        assert place.until_over(session).outcome == "backend_cut"
        with pytest.raises(ConnectionResetError):
            take_all(client)
        place.check_clean()

    def test_what_a_client_sent_before_its_reset_reaches_the_backend(self, place: Rig) -> None:
        session, client, backend = place.relay()
        backend.send(b"answer")
        turn(place.reactor)
        client.send(b"q" * 3000)
        client.close()  # with the answer unread: a reset
        backend.send(b"more")
        side_of(session, backend=True).doRead()
        got = bytearray()

        def came() -> bool:
            got.extend(take_all(backend, 3000 - len(got))[0])
            return len(got) == 3000

        turn(place.reactor, came)
        assert place.until_over(session).outcome == "client_gone"
        place.check_clean()

    @pytest.mark.parametrize("unread", [b"", b"u" * 1000])
    @pytest.mark.parametrize("where", ["here", "in the kernel"])
    def test_a_second_reset_ends_what_was_still_on_its_way(self, where: str, unread: bytes) -> None:
        """The backend was reset, the client still gets the rest; then the client is reset as well."""
        with rig(write_stall=30.0) as place:
            place.worker.pipes = Pipes(0)
            place.backends()
            session, client, backend = place.relay(0 if where == "in the kernel" else 8192, 8192)
            if where == "in the kernel":
                put(backend, MEGABYTE[:150_000])
                turn(place.reactor)
            for _ in range(0 if where == "in the kernel" else 20):
                put(backend, MEGABYTE)
                turn(place.reactor)
            side = side_of(session)
            assert side.unsent() > 1000
            assert bool(side.held) == (where == "here")
            reset(backend)
            for _ in range(5000):
                turn(place.reactor)
                if session.phase == ENDING:
                    break
                take_all(client, 5000)
            assert session.phase == ENDING
            client.send(unread)
            reset(client)
            turn(place.reactor)
            place.passes(1.0)
            turn(place.reactor)
            assert session.phase == OVER, "nobody is there to wait for"
            assert place.records[0].outcome == "backend_cut"
            place.check_clean()


class TestDials:
    def test_a_name_without_address_is_a_try_that_took_no_time(self) -> None:
        with rig() as place:
            place.backends(2)
            place.targets["b0"] = None
            session, _ = place.accept()
            place.answered_by(1)
            turn(place.reactor, lambda: session.phase == DATA)
            session.kill(session.outcome)
            assert [(one.backend, one.error, one.ms) for one in place.records[0].tries] == [
                ("b0", "dns", 0.0),
                ("b1", None, 0.0),
            ]
            place.check_clean()

    def test_no_descriptor_left_is_no_fault_of_the_backend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*words: object) -> None:
            raise OSError(24, "Too many open files")

        with rig() as place:
            pool = place.backends(1)
            monkeypatch.setattr("lbproxy.net.backend.open_connection", fail)
            place.accept()
            assert place.records[0].outcome == "local_resource"
            assert pool.backends["b0"].connects_failed_total == 0
            assert place.avoided == []
            place.check_clean()

    def test_a_backend_that_speaks_first_is_heard_from_its_first_byte(self, place: Rig) -> None:
        for _ in range(20):
            session, client = place.accept()
            backend, _ = place.listening[0].accept()
            backend.send(b"220 hello")
            turn(place.reactor, lambda session=session: session.phase == DATA)  # type: ignore[misc]  # bound at once
            turn(place.reactor)
            assert take_all(client) == (b"220 hello", False)
            session.kill(session.outcome)
            backend.close()
        place.check_clean()
