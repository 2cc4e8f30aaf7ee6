"""Everything at once, by chance: clients and backends that behave and that do not, and no answer ever is another's.

Each request names what its backend shall do, each answer carries the mark of its request in every eight bytes.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import suppress
from functools import partial

import h11
import pytest

from tests.live.harness import until
from tests.live.http_peers import Answer, Asked, Executions, RawClient, chunked, request, upgraded
from tests.live.http_scripts import Live, Recording, all_at_once
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture

SIZES = (0, 1, 500, 20_000, 140_000, 1_000_000)
GOOD = ("length", "chunked", "close", "tiny", "hints", "slow")
BAD = ("cut", "reset", "nothing", "gone", "garbage", "early", "early-close", "much", "silent", "half")


def pattern(mark: bytes, size: int) -> bytes:
    """A body of this size that tells whose it is."""
    return (mark * (size // 8 + 1))[:size]


def act(asked: Asked) -> Answer:
    """What the target says: /mark/mode/size."""
    _, mark, mode, size = asked.target.split(b"/")
    body = pattern(mark, int(size))
    fields = ((b"X-Mark", mark), (b"X-Digest", asked.digest.encode()), (b"X-Size", b"%d" % asked.size))
    answers = {
        b"length": Answer(body=body, fields=fields),
        b"chunked": Answer(body=body, fields=fields, framing="chunked", piece=max(1, len(body) // 9)),
        b"close": Answer(body=body, fields=fields, framing="close"),
        b"tiny": Answer(body=body[:300], fields=fields, framing="chunked", piece=7),
        b"hints": Answer(body=body, fields=fields, interim=(b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n",) * 3),
        b"slow": Answer(body=body[:3000], fields=fields, piece=1000, pause=0.01),
        b"cut": Answer(body=body + b"x", fields=fields, cut=60 + len(body) // 2),
        b"reset": Answer(body=body, fields=fields, framing="chunked", cut=100 + len(body) // 3, end="reset"),
        b"nothing": Answer(raw=b"", end="close"),
        b"gone": Answer(raw=b"", end="reset"),
        b"garbage": Answer(raw=b"\x00nonsense\r\n\r\n" * 9, end="close"),
        b"early": Answer(413, body=b"early", early=True),
        b"early-close": Answer(413, body=b"early", early=True, end="close"),
        b"much": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mark: %b\r\n\r\nokHTTP/1.1 200 OK\r\n" % mark),
        b"silent": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Mark: %b\r\n\r\nx" % mark),
        b"half": Answer(raw=b"HTTP/1.1 200 OK\r\nX-Ma", end="reset"),
        b"upgrade": upgraded(),
    }
    return answers[mode]


class Chooser:
    """A client that does one thing after the other, by chance."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live = live
        self.chance = random.Random(seed)
        self.seed = seed
        self.count = 0
        self.wrong: list[str] = []

    def mark(self) -> bytes:
        self.count += 1
        return b"%03d%05d" % (self.seed % 1000, self.count)

    def request(self, mode: str) -> tuple[bytes, bytes, bytes, bytes, int]:
        """Mark, method, the bytes, the body, and the size that was asked for."""
        mark, chance = self.mark(), self.chance
        size = chance.choice(SIZES)
        method = chance.choice((b"GET", b"GET", b"POST", b"PUT", b"HEAD"))
        body = pattern(mark[::-1], chance.choice((0, 0, 10, 5000, 70_000, 400_000)))
        target = b"/%b/%b/%d" % (mark, mode.encode(), size)
        if mode.startswith("early") and method == b"HEAD":
            method = b"POST"
        if not body:
            wire = request(method, target, id=mark)
        elif chance.random() < 0.5:
            wire = request(method, target, (), body, id=mark)
        else:
            piece = chance.choice((100, 999, 20_000)) if len(body) < 10_000 else 30_000
            pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
            wire = request(method, target, ((b"Transfer-Encoding", b"chunked"),), chunked(*pieces), id=mark)
        return mark, method, wire, body, size

    def run(self, rounds: int) -> None:
        """So many connections."""
        for _ in range(rounds):
            with RawClient(self.live.port, receive_buffer=self.chance.choice((0, 0, 8192))) as client:
                ways = (self.converse, self.converse, self.abort, self.half_close, self.tunnel)
                with suppress(ConnectionError, h11.RemoteProtocolError):
                    self.chance.choice(ways)(client)

    def converse(self, client: RawClient) -> None:
        """Requests, some of them pipelined, in a connection that lasts as long as it can."""
        for _ in range(self.chance.randrange(1, 6)):
            group = [self.request(self.chance.choice(GOOD)) for _ in range(self.chance.choice((1, 1, 1, 3)))]
            cut = self.chance.random() < 0.3
            if cut:
                group.append(self.request(self.chance.choice(BAD)))
            wire = b"".join(one[2] for one in group)
            if len(wire) < 3000 and self.chance.random() < 0.3:
                client.send_bytewise(wire)
            elif len(group) == 1 or len(wire) < 100_000:
                client.send(wire)
            else:
                return
            for mark, method, _, body, size in group:
                try:
                    answer = client.answer(method)
                except (ConnectionError, h11.RemoteProtocolError) as problem:
                    # The reset of a cut answer may take with it what the client has not read of earlier ones.
                    if not cut:
                        self.wrong.append(f"{mark!r}: {problem!r}")
                    return
                self.judge(mark, answer.status, answer.get(b"x-mark"), answer.body, size, method)
                told = answer.get(b"x-digest")
                if told is not None and told != hashlib.sha256(body).hexdigest().encode():
                    self.wrong.append(f"{mark!r}: the body of {len(body)} did not arrive")
                if answer.get(b"connection") == b"close":
                    return

    def judge(self, mark: bytes, status: int, told: bytes | None, body: bytes, size: int, method: bytes) -> None:
        """Whether this can be the answer to the request with this mark."""
        if told is not None and told != mark:
            self.wrong.append(f"{mark!r} got the answer to {told!r}")
        if told is not None and method != b"HEAD" and body not in (b"ok", pattern(mark, size)):
            short = pattern(mark, size)
            if body not in (short[:300], short[:3000]):
                self.wrong.append(f"{mark!r}: {len(body)} bytes, not {size}: {body[:40]!r}")
        if told is None and status not in (400, 408, 413, 502, 503, 504):
            self.wrong.append(f"{mark!r}: {status}")

    def abort(self, client: RawClient) -> None:
        """Ask, read some, and reset or close."""
        _, _, wire, _, _ = self.request(self.chance.choice(GOOD + BAD))
        cut = self.chance.choice((len(wire), len(wire), self.chance.randrange(1, len(wire))))
        client.send(wire[:cut])
        for _ in range(self.chance.randrange(3)):
            client.sock.settimeout(0.02)
            with suppress(TimeoutError):
                client.sock.recv(self.chance.choice((1, 100, 100_000)))
        if self.chance.random() < 0.5:
            client.reset()

    def half_close(self, client: RawClient) -> None:
        """Ask, end our half, and read it all."""
        mark, method, wire, _, size = self.request(self.chance.choice(GOOD))
        client.send(wire)
        client.half_close()
        try:
            answer = client.answer(method)
        except (ConnectionError, h11.RemoteProtocolError) as problem:
            self.wrong.append(f"{mark!r}: {problem!r}")
            return
        self.judge(mark, answer.status, answer.get(b"x-mark"), answer.body, size, method)
        if not client.was_closed():
            self.wrong.append(f"{mark!r}: something came behind the answer")

    def tunnel(self, client: RawClient) -> None:
        """An upgrade, some talk, and any end."""
        mark = self.mark()
        fields = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        client.send(request(target=b"/%b/upgrade/0" % mark, fields=fields))
        if client.answer(upgrade=True).status != 101:
            return
        for _ in range(self.chance.randrange(4)):
            said = pattern(mark, self.chance.choice((1, 1000, 100_000)))
            client.send(said)
            if client.take(len(said)) != said:
                self.wrong.append(f"{mark!r}: the tunnel says something else")
        if self.chance.random() < 0.5:
            client.reset()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_by_chance(live: Live, seed: int) -> None:
    executions = Executions()
    backends = [live.recording(act, executions=executions, most=number, keep_bodies=False) for number in (7, 50)]
    timeouts = "response_head = '400ms', response_body_idle = '800ms', request_body_idle = '400ms', write_stall = '2s'"
    route = '[[route]]\nlistener = "in"\npool = "out"\nretry = "idempotent"\n'
    pool = f"outlier = false\ntimeouts = {{ {timeouts} }}"
    closed = f"127.0.0.1:{live.ports.reserve()}"
    live.serve(*(one.address for one in backends), closed, pool=pool, more=route if seed % 2 else "")
    clients = [Chooser(live, seed * 100 + number) for number in range(8)]
    all_at_once([partial(client.run, 20) for client in clients])
    assert not [wrong for client in clients for wrong in client.wrong]
    twice = [mark for mark in executions.several() if _method(backends, mark) == b"POST"]
    assert not twice
    until(lambda: live.proxy.pool()["active"] == 0, "all slots are free", 5.0)
    # What ends by itself has ended; what is spliced holds nothing.
    until(lambda: live.proxy.status()["pipes_in_use"] == 0, "no pipe is used", 5.0)


def _method(backends: list[Recording], mark: bytes) -> bytes:
    for backend in backends:
        for asked in backend.requests:
            if asked.get(b"X-Test-Id") == mark:
                return bytes(asked.method)
    return b""
