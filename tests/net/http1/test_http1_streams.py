"""Many requests and answers of all kinds in one stream, cut anywhere: each arrives whole, in order and as it was."""

from __future__ import annotations

import random
import socket

import hypothesis.strategies as st
from hypothesis import given, settings

from lbproxy.model_http import HttpRouteSettings, Mirror
from tests.net.http1.http_rig import GET, OK, HttpRig, dechunked, head_and_body, http_rig
from tests.net.net_rig import put, take_all, turn

LAST = b"0\r\n\r\n"


def chunked(chance: random.Random, payload: bytes) -> bytes:
    """A body in chunks of any size, some with extensions."""
    out = b""
    while payload:
        size = chance.randint(1, len(payload))
        out += b"%x%b\r\n%b\r\n" % (size, chance.choice([b"", b";a=b"]), payload[:size])
        payload = payload[size:]
    return out + LAST


class Message:
    """One request with its answer, as they are sent; and what must come of them."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.method = chance.choice([b"GET", b"HEAD", b"POST", b"PUT"])
        self.payload = b""
        self.path = b"/%d" % number
        lines = [b"%b %b HTTP/1.1" % (self.method, self.path), b"Host: a.example"]
        wire = b""
        if self.method in (b"POST", b"PUT"):
            self.payload = chance.randbytes(chance.choice([0, 1, 10, 3000, 70_000]))
            if chance.random() < 0.5:
                lines.append(b"Content-Length: %d" % len(self.payload))
                wire = self.payload
            else:
                lines.append(b"Transfer-Encoding: chunked")
                wire = chunked(chance, self.payload)
        self.is_chunked = b"Transfer-Encoding: chunked" in lines
        self.request = b"\r\n".join([*lines, b"", b""]) + wire
        self.answered = b"" if self.method == b"HEAD" else chance.randbytes(chance.choice([0, 1, 5000, 70_000]))
        self.kind = chance.choice(["length", "chunked", "close"])
        if self.kind == "length":
            self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.answered) + self.answered
        elif self.kind == "chunked":
            body = b"" if self.method == b"HEAD" else chunked(chance, self.answered)
            self.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        else:
            self.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self.answered

    def arrived(self, got: bytes) -> bool:
        """Whether this is all of the request, as a backend reads it."""
        head, body = head_and_body(got)
        assert head.startswith(b"%b %b HTTP/1.1\r\n" % (self.method, self.path)) or len(got) < 40
        if b"\r\n\r\n" not in got:
            return False
        if self.is_chunked:
            return body.endswith(LAST) and ends_here(body)
        return len(body) >= len(self.payload)

    def payload_of(self, got: bytes) -> bytes:
        body = head_and_body(got)[1]
        return dechunked(body) if self.is_chunked else body

    def heard(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The payload of this answer as a client reads it and what follows it, None while it is not complete."""
        if b"\r\n\r\n" not in data:
            return None
        head, rest = head_and_body(data)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        if self.method == b"HEAD":
            return b"", rest
        if self.kind == "length":
            size = len(self.answered)
            return None if len(rest) < size else (rest[:size], rest[size:])
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        payload = b""
        while True:
            line, found, behind = rest.partition(b"\r\n")
            if not found or len(behind) < int(line, 16) + 2:
                return None
            size = int(line, 16)
            payload, rest = payload + behind[:size], behind[size + 2 :]
            if not size:
                return payload, rest


def ends_here(body: bytes) -> bool:
    """Whether the last chunk is where it seems to be, and not within another chunk."""
    while body:
        line, found, behind = body.partition(b"\r\n")
        if not found or len(behind) < int(line, 16) + 2:
            return False
        if not int(line, 16):
            return True
        body = behind[int(line, 16) + 2 :]
    return False


class Stream:
    """One end and what is still to be sent on it, in pieces of any size."""

    def __init__(self, chance: random.Random, sock: socket.socket) -> None:
        self._chance = chance
        self.sock = sock
        self.left = b""
        self.got = b""
        self.fin = False

    def turns(self) -> None:
        if self.left and self._chance.random() < 0.8:
            size = self._chance.choice([1, 50, 1000, 20_000, len(self.left)])
            self.left = self.left[put(self.sock, self.left[:size]) :]
        data, fin = take_all(self.sock, self._chance.choice([100, 10_000, 1 << 20]))
        self.got += data
        self.fin = self.fin or fin


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_message_arrives_whole_in_order_and_as_it_was(seed: int) -> None:
    chance = random.Random(seed)
    messages = [Message(chance, number) for number in range(chance.randint(1, 8))]
    with http_rig() as rig:
        rig.backends()
        rig.listening[0].setblocking(False)
        _, sock = rig.client()
        client = Stream(chance, sock)
        client.left = b"".join(message.request for message in messages)
        served(rig, chance, client, messages)
        for message in messages:
            found = message.heard(client.got)
            assert found is not None
            payload, client.got = found
            assert payload == message.answered
        assert client.got == b""
        turn(rig.reactor, lambda: len(rig.told) == len(messages))
        assert [record.bytes_in for record in rig.told] == [len(message.request) for message in messages]
        assert {record.outcome for record in rig.told} == {"ok"}


def served(rig: HttpRig, chance: random.Random, client: Stream, messages: list[Message]) -> None:
    """Play the backend until the client has got all answers."""
    backend: Stream | None = None
    for message in messages:
        if backend is None:
            backend = Stream(chance, accepted(rig, client))
        while not message.arrived(backend.got):
            step(rig, client, backend)
            if backend.fin:  # it was closed between two requests, as our own rules want it
                assert backend.got == b""
                backend.sock.close()
                backend = Stream(chance, accepted(rig, client))
        assert message.payload_of(backend.got) == message.payload
        backend.got = b""
        backend.left = message.answer
        while backend.left:
            step(rig, client, backend)
        if message.kind == "close":
            backend.sock.close()
            backend = None
    for _ in range(2000):
        rest: bytes | None = client.got
        for message in messages:
            found = None if rest is None else message.heard(rest)
            rest = None if found is None else found[1]
        if rest is not None:
            return
        step(rig, client, backend)
    raise AssertionError("not all answers came")


def step(rig: HttpRig, client: Stream, backend: Stream | None) -> None:
    client.turns()
    if backend is not None and not backend.fin:
        backend.turns()
    rig.reactor.runUntilCurrent()
    rig.reactor.doIteration(0.0005)


def accepted(rig: HttpRig, client: Stream) -> socket.socket:
    """The next connection to the backend; the client goes on sending meanwhile."""
    for _ in range(2000):
        try:
            sock, _ = rig.listening[0].accept()
        except BlockingIOError:
            step(rig, client, None)
            continue
        sock.setblocking(False)
        rig.sockets.append(sock)
        return sock
    raise AssertionError("nobody dialled")


def test_a_copy_is_answered_and_nobody_hears_of_it() -> None:
    """The answer to a mirrored request is read and thrown away, and its connection is used again."""
    route = HttpRouteSettings(mirror=Mirror("web", unsafe=True))
    with http_rig(route=route) as rig:
        pool = rig.backends(2, policy="round-robin")
        _, client = rig.client()
        first = second = None
        for _ in range(3):
            put(client, b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            first, second = first or rig.answered_by(0), second or rig.answered_by(1)
            original, copy = rig.hears(first, LAST), rig.hears(second, LAST)
            assert head_and_body(copy)[1] == b"2\r\nok\r\n" + LAST
            assert b"\r\nX-Mirror: 1\r\n" in copy
            assert b"X-Mirror" not in original
            put(second, b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwrong\r\n")
            turn(rig.reactor)
            put(second, LAST)
            put(first, OK)
            heard = rig.hears(client, b"ok")
            assert heard.startswith(b"HTTP/1.1 200 ")
            assert b"wrong" not in heard
            turn(rig.reactor, lambda: rig.worker.idle.count == 2)
        assert len(rig.told) == 3
        assert pool.active == 0
        assert rig.worker.copies.made == 3


def test_a_client_may_be_gone_while_its_copy_is_under_way() -> None:
    with http_rig(route=HttpRouteSettings(mirror=Mirror("web"))) as rig:
        rig.backends(2, policy="round-robin")
        _, client = rig.client()
        put(client, GET)
        first, second = rig.answered_by(0), rig.answered_by(1)
        rig.hears(first)
        rig.hears(second)
        client.close()
        turn(rig.reactor)
        for backend in (first, second):
            put(backend, OK)
        turn(rig.reactor, lambda: rig.worker.copies.active == 0)
