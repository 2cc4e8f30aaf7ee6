"""What tests of web sites have in common beyond http_scripts: https listeners, clients that go on, and cookies."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tests.live.harness import until
from tests.live.http_peers import Answer, Answered, Asked, Fields, RawClient, request
from tests.live.http_scripts import Live, Recording
from tests.live.peers import PATIENCE
from tests.live.tls_peers import Files, tls_client

NAME = "site.test"


class Unanswered(Exception):
    """The connection ended in front of an answer."""


class Asker(RawClient):
    """A client that tells an end in front of an answer from one within."""

    def answer(self, method: bytes = b"GET", *, upgrade: bool = False) -> Answered:
        """See RawClient. Raises Unanswered where not a byte of it came."""
        first = self.take(1)
        if not first:
            raise Unanswered
        self._ahead = first + self._ahead
        return super().answer(method, upgrade=upgrade)


def tls_keys(*files: Files, more: str = "") -> str:
    """The key `tls` of a listener that serves these certificates; `more` are further keys of its table."""
    listed = ", ".join(f'{{ cert = "{one.cert}", key = "{one.key}" }}' for one in files)
    return f"tls = {{ certificates = [{listed}]{', ' if more else ''}{more} }}\n"


def https(live: Live, port: int = 0, *, name: str | None = NAME, **options: Any) -> RawClient:
    """A client with TLS of the listener of this test; the options are those of `tls_client`."""
    client = Asker(sock=tls_client(port or live.port, server_name=name, **options))
    live.stack.callback(client.close)
    return client


def named(live: Live, name: bytes, **options: Any) -> Recording:
    """A backend whose answers are its name."""
    return live.recording(default=Answer(body=name), **options)


def listed(**backends: Recording) -> list[str]:
    """Tables for a pool, with the names of the arguments as ids."""
    return [f'{{ id = "{id}", address = "{backend.address}" }}' for id, backend in backends.items()]


def cookies_of(answer: Answered) -> dict[bytes, bytes]:
    """What an answer sets: name and value, without attributes."""
    pairs = (line.partition(b";")[0].partition(b"=") for line in answer.all(b"set-cookie"))
    return {name: value for name, _, value in pairs}


class Browser:
    """A client that keeps its cookies, on one connection for as long as that is allowed."""

    def __init__(self, live: Live, connect: Callable[[], RawClient] | None = None) -> None:
        self.jar: dict[bytes, bytes] = {}
        self._connect = connect or live.client
        self._client: RawClient | None = None

    def ask(self, method: bytes = b"GET", target: bytes = b"/", fields: Fields = ()) -> Answered:
        """One request with all cookies."""
        client = self._client or self._connect()
        jar = b"; ".join(b"%b=%b" % pair for pair in self.jar.items())
        answer = client.ask(method, target, [*fields, *([(b"Cookie", jar)] if jar else [])])
        self.jar |= cookies_of(answer)
        self._client = None if answer.get(b"connection") == b"close" else client
        if self._client is None:
            client.close()
        return answer


class Load:
    """Clients that ask one request after the other until they are stopped, each on one connection for as long as it is
    allowed. What is not answered with 200 is a failure; `answers` are bodies in the order of their coming.

    `kinds` are the requests, each client takes all in turn. With `race` a client whose connection, used before, was
    closed in front of an answer asks once more on another one: that is what browsers do, and the only way out of the
    race between a request and a close.
    """

    def __init__(
        self,
        connect: Callable[[], RawClient],
        *,
        clients: int = 4,
        pause: float = 0.0,
        kinds: Sequence[tuple[bytes, bytes | None]] = ((b"GET", None), (b"POST", b"body")),
        race: bool = False,
    ) -> None:
        self.failures: list[str] = []
        self.answers: list[bytes] = []
        self.closes = 0
        self.races = 0
        self._connect = connect
        self._pause = pause
        self._kinds = kinds
        self._race = race
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        client: RawClient | None = None
        for method, body in itertools.cycle(self._kinds):
            if self._stopped.wait(self._pause):
                break
            try:
                client = self._ask(client, method, body)
            except Exception as problem:
                self.failures.append(f"{method!r}: {problem!r}")
                client = None
        if client is not None:
            client.close()

    def _ask(self, client: RawClient | None, method: bytes, body: bytes | None) -> RawClient | None:
        used = client is not None
        client = client or self._connect()
        try:
            client.send(request(method, body=body))
            answer = client.answer(method)
        except Exception as problem:
            client.close()
            if used and self._race and isinstance(problem, (ConnectionError, Unanswered)):
                self.races += 1
                return self._ask(None, method, body)
            raise
        if answer.status == 200:
            self.answers.append(answer.body)
        else:
            self.failures.append(f"{method!r}: {answer.status} {answer.body!r}")
        if answer.get(b"connection") != b"close":
            return client
        self.closes += 1
        client.close()
        return None

    def go_on(self, count: int) -> None:
        """Wait for so many answers more."""
        goal = len(self.answers) + count
        until(lambda: len(self.answers) >= goal or self.failures, f"{count} answers more")

    def halt(self) -> None:
        """No request more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def stop(self) -> None:
        """No request more; fails when one has failed."""
        self.halt()
        assert not self.failures, (len(self.failures), len(self.answers), self.failures[:5])
        assert self.answers


def fields_of(asked: Asked, prefix: bytes) -> dict[bytes, bytes]:
    """The fields whose names begin so, in lower case."""
    return {name.lower(): value for name, value in asked.fields if name.lower().startswith(prefix)}
