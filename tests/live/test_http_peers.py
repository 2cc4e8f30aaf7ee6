"""The HTTP peers themselves, without an lbproxy between them: a test that trusts them needs them to be true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import h11
import pytest

from tests.live.harness import until
from tests.live.http_peers import (
    Answer,
    Answered,
    Asked,
    Do,
    EvilBackend,
    Executions,
    RawClient,
    RecordingBackend,
    Step,
    chunked,
    drip,
    request,
    upgraded,
)
from tests.live.http_peers import evil_fixture as evil_fixture
from tests.live.http_peers import recording_fixture as recording_fixture
from tests.live.tls_peers import Papers, server_context, tls_client
from tests.live.tls_peers import authority_fixture as authority_fixture

Record = Callable[..., RecordingBackend]
Evil = Callable[..., EvilBackend]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def once(backend: RecordingBackend, **options: object) -> Answered:
    with RawClient(backend.port) as client:
        return client.ask(**options)  # type: ignore[arg-type]  # passed on as they are


class TestWhatIsRecorded:
    def test_a_request_is_kept_to_the_byte(self, recording: Record) -> None:
        backend = recording()
        fields = ((b"X-One", b"1"), (b"x-one", b"2"), (b"Cookie", b"a=b"))
        with RawClient(backend.port) as client:
            said = request(b"PUT", b"/a?b=%2f", fields, b"12345")
            client.send_bytewise(said)
            assert client.answer(b"PUT").body == b"ok"
        (asked,) = backend.wait_for(1)
        assert (asked.method, asked.target, asked.path, asked.version) == (b"PUT", b"/a?b=%2f", "/a", b"HTTP/1.1")
        assert asked.fields == [(b"Host", b"lbproxy.test"), *fields, (b"Content-Length", b"5")]
        assert (asked.body, asked.size, asked.wire, asked.head) == (b"12345", 5, said, said[:-5])
        assert asked.all(b"X-ONE") == [b"1", b"2"]

    def test_chunks_and_trailers(self, recording: Record) -> None:
        backend = recording(keep_bodies=False)
        body = chunked(b"abc", b"d" * 70_000, trailers=((b"X-Sum", b"1"),))
        once(backend, method=b"POST", fields=((b"Transfer-Encoding", b"chunked"),), body=body)
        (asked,) = backend.wait_for(1)
        assert (asked.size, asked.body, asked.trailers) == (70_003, b"", [(b"X-Sum", b"1")])

    def test_connections_have_numbers_and_pipelined_requests_stay_apart(self, recording: Record) -> None:
        backend = recording()
        with RawClient(backend.port) as client:
            client.send(request(target=b"/1") + request(b"POST", b"/2", body=b"two") + request(target=b"/3"))
            assert [client.answer().status for _ in range(3)] == [200] * 3
        once(backend, target=b"/4")
        seen = [(asked.target, asked.connection, asked.body) for asked in backend.wait_for(4)]
        assert seen == [(b"/1", 1, b""), (b"/2", 1, b"two"), (b"/3", 1, b""), (b"/4", 2, b"")]

    def test_executions_are_counted_over_all_backends_once_they_are_complete(self, recording: Record) -> None:
        executions = Executions()
        backends = [recording(executions=executions) for _ in range(2)]
        for backend in backends:
            once(backend, id=b"twice")
        once(backends[0], id=b"once")
        with RawClient(backends[0].port) as client:
            client.send(request(b"POST", body=b"whole", id=b"cut")[:-1])
            client.half_close()
            assert client.was_closed()
        assert [executions.of(id) for id in (b"once", b"twice", b"cut")] == [1, 2, 0]
        assert executions.several() == {b"twice": 2}
        assert [asked.complete for asked in backends[0].requests] == [True, True, False]

    @pytest.mark.parametrize(
        "bad", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: x\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
    )
    def test_what_is_no_canonical_request_fails_the_test(self, bad: bytes) -> None:
        backend = RecordingBackend()
        with RawClient(backend.port) as client:
            client.send(bad)
            assert client.was_closed()
        with pytest.raises(AssertionError):
            backend.stop()


class TestAnswers:
    def test_by_path_by_request_and_otherwise(self, recording: Record) -> None:
        def tell(asked: Asked) -> Answer:
            return Answer(body=asked.body.upper())

        backend = recording({"/gone": Answer(404), "/tell": tell}, default=Answer(fields=((b"X-Name", b"b1"),)))
        assert once(backend, target=b"/gone").status == 404
        assert once(backend, method=b"POST", target=b"/tell", body=b"loud").body == b"LOUD"
        assert once(backend).get(b"x-name") == b"b1"
        backend.answers = tell
        assert once(backend).body == b""

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_each_framing(self, recording: Record, framing: str) -> None:
        backend = recording(default=Answer(body=b"x" * 100, framing=framing, piece=7))  # type: ignore[arg-type]
        with RawClient(backend.port) as client:
            assert client.ask().body == b"x" * 100
            if framing == "close":
                assert client.was_closed()
            else:
                assert client.ask(b"HEAD").body == b""

    def test_made_bodies_and_trailers(self, recording: Record) -> None:
        stream = lambda: (b"z" * 1000 for _ in range(1000))  # noqa: E731  # a stream is a callable
        backend = recording({"/": Answer(stream=stream, size=10**6)})
        assert once(backend).body == b"z" * 10**6
        backend.default = Answer(stream=stream, framing="chunked", trailers=((b"X-Sum", b"1"),))
        assert once(backend, target=b"/c").trailers == ((b"X-Sum", b"1"),)

    def test_slowness(self, recording: Record) -> None:
        backend = recording(default=Answer(body=b"abc", piece=1, delay=0.05, pause=0.05))
        began = time.monotonic()
        assert once(backend).body == b"abc"
        assert time.monotonic() - began >= 0.05 + 3 * 0.05

    def test_interim_answers(self, recording: Record) -> None:
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        found = once(recording(default=Answer(interim=(hint, hint))))
        assert (found.interim, found.status, found.head[:15]) == ((103, 103), 200, b"HTTP/1.1 200 OK")

    def test_continue_is_said_to_those_who_wait_for_it(self, recording: Record) -> None:
        backend = recording()
        with RawClient(backend.port) as client:
            client.send(request(b"POST", fields=((b"Expect", b"100-continue"), (b"Content-Length", b"2"))))
            assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert client.send(b"hi").answer(b"POST").status == 200

    def test_an_early_answer_comes_before_the_body(self, recording: Record) -> None:
        backend = recording({"/": Answer(413, early=True)})
        with RawClient(backend.port) as client:
            said = request(b"POST", body=b"x" * 1000)
            client.send(said[:-1])
            assert client.answer(b"POST").status == 413
            assert not backend.requests[0].complete
            client.send(said[-1:])
            backend.wait_for(1)

    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_a_cut_body(self, recording: Record, end: str) -> None:
        backend = recording(default=Answer(body=b"x" * 100, cut=130, end=end))  # type: ignore[arg-type]
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            once(backend)

    def test_a_reset_without_a_byte(self, recording: Record) -> None:
        backend = recording(default=Answer(cut=0, end="reset"))
        with pytest.raises(ConnectionResetError):
            once(backend)

    def test_idle_connections_are_closed(self, recording: Record) -> None:
        with RawClient(recording(idle=0.05).port) as client:
            assert client.ask().status == 200
            assert client.was_closed()
        with RawClient(recording(most=2).port) as client:
            assert [client.ask().get(b"connection") for _ in range(2)] == [None, None]
            assert client.was_closed()

    def test_upgrades(self, recording: Record) -> None:
        backend = recording({"/": upgraded()})
        with RawClient(backend.port) as client:
            client.send(request(fields=((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))) + b"ahead ")
            found = client.answer(upgrade=True)
            assert (found.status, found.get(b"upgrade")) == (101, b"websocket")
            client.send(b"and behind")
            client.half_close()
            assert client.read_to_end() == b"ahead and behind"

    def test_tls(self, recording: Record, authority: Papers) -> None:
        backend = recording(tls=server_context(authority.server()))
        sock = tls_client(backend.port, ca=authority.ca)
        with RawClient(sock=sock) as client:
            assert [client.ask().status for _ in range(2)] == [200, 200]

    def test_many_at_once_are_all_recorded(self, recording: Record) -> None:
        backend = recording()
        threads = [threading.Thread(target=once, args=(backend,), kwargs={"id": b"%d" % n}) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [backend.executions.of(b"%d" % n) for n in range(20)] == [1] * 20
        assert sorted(asked.connection for asked in backend.requests) == list(range(1, 21))


class TestTheClient:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            b"<html>\r\n\r\n",
            b"",
        ],
    )
    def test_answers_that_are_none(self, evil: Evil, answer: bytes) -> None:
        backend = evil([Do.READ_HEAD, answer])
        with RawClient(backend.port) as client, pytest.raises((h11.RemoteProtocolError, AssertionError)):
            client.ask()

    def test_nothing_behind_an_answer_is_lost(self, evil: Evil) -> None:
        backend = evil([Do.READ_HEAD, OK + b"HTTP/1.1 204 No\r\n\r\ntail"])
        with RawClient(backend.port) as client:
            assert (client.ask().status, client.answer().status) == (200, 204)
            assert (client.take(2), client.read_to_end()) == (b"ta", b"il")


class TestMisbehaviour:
    def test_each_connection_has_its_script_and_the_last_one_is_for_all_further(self, evil: Evil) -> None:
        first: list[Step] = [Do.READ_HEAD, *drip(OK, 0.001), Do.FIN, Do.READ_ALL]
        backend = evil(first, [Do.READ_HEAD, b"HTTP/1.1 ", 0.01, Do.RESET])
        with RawClient(backend.port) as client:
            assert client.ask(target=b"/1").body == b"ok"
            assert client.was_closed()
        for _ in range(2):
            with RawClient(backend.port) as client, pytest.raises(ConnectionResetError):
                client.ask(target=b"/2")
        until(lambda: backend.open == 0, "all scripts have ended")
        assert [bytes(heard)[:7] for heard in backend.heard] == [b"GET /1 ", b"GET /2 ", b"GET /2 "]
