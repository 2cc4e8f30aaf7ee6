"""Clients that stay with their backend: lbproxy's own cookie from end to end, what drain makes of it, learnt keys."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path

import pytest

from tests.live.http_peers import Answer, Answered, Asked, Chooses, Fields, RawClient, http_listener, http_pool
from tests.live.http_scripts import Live, Recording
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture

# semantics.md 12: the name of the cookie for the pool "web", and its values with a key of 32 zero bytes.
NAME = b"lb_4b5e57f6"
VALUES = {b"web1": b"v1.h-a3tPvjG-haPPnRBd3FAg", b"web2": b"v1.4Rhf0GQp7YcIkUuk4Cph_Q"}


def naming(name: bytes, *fields: tuple[bytes, bytes]) -> Chooses:
    return lambda asked: Answer(body=name, fields=fields)


class Site:
    """A pool "web" of two backends that say their names."""

    def __init__(self, live: Live, directory: Path, sticky: str = "", *, more: str = "", fields: Fields = ()) -> None:
        keys = directory / "keys"
        keys.write_text(base64.b64encode(bytes(32)).decode() + "\n")
        self.live = live
        self.backends = [live.recording(naming(name, *fields)) for name in (b"web1", b"web2")]
        self.ports = live.ports.reserve()
        listed = [f'{{ id = "web{number}", address = "{one.address}" }}' for number, one in enumerate(self.backends, 1)]
        sticky = sticky or f'{{ by = "cookie", key_file = "{keys}" }}'
        if "KEYS" in sticky:
            sticky = sticky.replace("KEYS", f'key_file = "{keys}"')
        live.port = self.ports
        pool = f'policy = "round-robin"\nsticky = {sticky}\n{more}'
        live.serve_text(http_listener(live.port, more='pool = "web"') + http_pool("web", *listed, more=pool))

    def ask(self, cookie: bytes = b"", *fields: tuple[bytes, bytes]) -> Answered:
        """One request on a connection of its own."""
        with RawClient(self.live.port) as client:
            return client.ask(fields=(*fields, *(((b"Cookie", cookie),) if cookie else ())))

    def state(self, backend: str, state: str) -> None:
        """Set the state of a backend."""
        status, answer = self.live.proxy.ask("PATCH", f"/v1/pools/web/backends/{backend}", {"state": state})
        assert status == 200, answer

    def seen(self) -> list[Asked]:
        """All requests."""
        return [asked for backend in self.backends for asked in backend.requests]


def cookie_of(answer: Answered) -> tuple[bytes, bytes, set[bytes]]:
    """Name, value and attributes of the one cookie that an answer sets."""
    (line,) = answer.all(b"set-cookie")
    pair, *attributes = line.split(b"; ")
    name, _, value = pair.partition(b"=")
    return name, value, set(attributes)


class TestCookie:
    def test_it_is_as_documented(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path)
        for _ in range(2):
            answer = site.ask()
            name, value, attributes = cookie_of(answer)
            assert (name, value) == (NAME, VALUES[answer.body])
            assert attributes == {b"Path=/", b"HttpOnly", b"SameSite=Lax"}
            assert answer.get(b"cache-control") == b"private"
        assert {record["state"] for record in live.records(2)} == {"--NI"}

    def test_a_client_stays(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path)
        for name, value in VALUES.items():
            for _ in range(5):
                answer = site.ask(NAME + b"=" + value)
                assert (answer.body, answer.all(b"set-cookie"), answer.all(b"cache-control")) == (name, [], [])
        assert {record["state"] for record in live.records(10)} == {"--VN"}

    def test_one_connection_may_carry_many_clients(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path)
        with live.client() as client:
            for _ in range(3):
                for name, value in VALUES.items():
                    assert client.ask(fields=((b"Cookie", NAME + b"=" + value),)).body == name
        assert len(site.seen()) == 6

    @pytest.mark.parametrize(
        ("sent", "left"),
        [
            (b"%b", []),
            (b"a=b; %b", [b"a=b"]),
            (b"%b; a=b", [b"a=b"]),
            (b"a=b; %b; c=d", [b"a=b; c=d"]),
            (b'a="x;y"; %b; lb=1; xlb_4b5e57f6=2', [b'a="x;y"; lb=1; xlb_4b5e57f6=2']),
        ],
    )
    def test_the_backend_never_sees_it(self, live: Live, tmp_path: Path, sent: bytes, left: list[bytes]) -> None:
        site = Site(live, tmp_path)
        assert site.ask(sent.replace(b"%b", NAME + b"=" + VALUES[b"web2"])).body == b"web2"
        (asked,) = site.backends[1].wait_for(1)
        assert asked.all(b"cookie") == left
        assert NAME + b"=" not in asked.head.replace(b"x" + NAME, b"")

    @pytest.mark.parametrize(
        "value", [b"", b"v1.", b"v1.AAAAAAAAAAAAAAAAAAAAAA", b"v2.h-a3tPvjG-haPPnRBd3FAg", b"\xff" * 30, b"x" * 4000]
    )
    def test_a_wrong_one_is_replaced(self, live: Live, tmp_path: Path, value: bytes) -> None:
        site = Site(live, tmp_path)
        answer = site.ask(NAME + b"=" + value)
        assert cookie_of(answer)[1] == VALUES[answer.body]
        assert live.record()["state"] == "--II"
        assert all(NAME not in asked.head for asked in site.seen())

    def test_drain_honours_it_and_maint_does_not(self, live: Live, tmp_path: Path) -> None:
        """Sections 12 and 20"""
        site = Site(live, tmp_path)
        mine = NAME + b"=" + VALUES[b"web1"]
        site.state("web1", "drain")
        for _ in range(3):
            assert site.ask(mine).body == b"web1"
            assert site.ask().body == b"web2"
        site.state("web1", "maint")
        answer = site.ask(mine)
        assert (answer.body, cookie_of(answer)[1]) == (b"web2", VALUES[b"web2"])
        site.state("web1", "ready")
        assert site.ask(mine).body == b"web1"
        states = [record["state"] for record in live.records(8)]
        assert states == ["--VN", "--NI"] * 3 + ["--DI", "--VN"]

    def test_a_backend_that_is_gone_means_another_one_and_a_new_cookie(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, more="outlier = false")
        site.backends[0].stop()
        answer = site.ask(NAME + b"=" + VALUES[b"web1"])
        assert (answer.body, cookie_of(answer)[1]) == (b"web2", VALUES[b"web2"])
        record = live.record()
        assert (record["retries"], record["backend"], record["state"][3]) == (1, "web2", "I")

    def test_strict_means_503(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, '{ by = "cookie", KEYS, strict = true }')
        mine = NAME + b"=" + VALUES[b"web1"]
        assert site.ask(mine).body == b"web1"
        site.state("web1", "maint")
        assert site.ask(mine).status == 503
        assert site.ask().body == b"web2"
        site.state("web1", "drain")
        assert site.ask(mine).body == b"web1"

    def test_one_grows_old(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, '{ by = "cookie", KEYS, max_idle = "1s" }')
        name, value, _ = cookie_of(site.ask())
        assert re.fullmatch(rb"v1\.[\w-]{22}\.\d+\.\d+\.[\w-]{22}", value)
        assert site.ask(name + b"=" + value).status == 200
        time.sleep(2.1)
        assert site.ask(name + b"=" + value).all(b"set-cookie")
        states = [record["state"] for record in live.records(3)]
        assert states[0] == "--NI"
        assert states[1] in ("--VN", "--VU")
        assert states[2] == "--EI"

    def test_the_applications_word_on_caching_stands(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, fields=((b"Cache-Control", b"max-age=60"), (b"Set-Cookie", b"app=1")))
        answer = site.ask()
        assert answer.all(b"cache-control") == [b"max-age=60"]
        assert [line.partition(b"=")[0] for line in answer.all(b"set-cookie")] == [b"app", NAME]

    def test_settings_of_the_cookie(self, live: Live, tmp_path: Path) -> None:
        sticky = '{ by = "cookie", KEYS, name = "stay", max_age = "1h", same_site = "strict", domain = "example.com" }'
        site = Site(live, tmp_path, sticky)
        name, _, attributes = cookie_of(site.ask())
        assert name == b"stay"
        assert {b"Max-Age=3600", b"SameSite=Strict", b"Domain=example.com"} <= attributes


class TestLearnt:
    def test_by_the_clients_address(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, '"client_ip"')
        assert len({site.ask().body for _ in range(8)}) == 1
        assert not site.ask().all(b"set-cookie")

    def test_by_a_header(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, '"header:X-User"')
        found = {user: {site.ask(b"", (b"X-User", user)).body for _ in range(4)} for user in (b"a", b"b", b"c", b"d")}
        assert all(len(bodies) == 1 for bodies in found.values())
        assert {body for bodies in found.values() for body in bodies} == {b"web1", b"web2"}
        assert {site.ask().body for _ in range(4)} == {b"web1", b"web2"}

    def test_by_a_cookie_that_the_application_sets(self, live: Live, tmp_path: Path) -> None:
        site = Site(live, tmp_path, '"cookie:SESSION"')
        count = 0

        def login(asked: Asked, backend: Recording, name: bytes) -> Answer:
            nonlocal count
            if asked.path == "/login":
                count += 1
                return Answer(body=name, fields=((b"Set-Cookie", b"SESSION=%b-%d; Path=/" % (name, count)),))
            return Answer(body=name)

        for backend, name in zip(site.backends, (b"web1", b"web2"), strict=True):
            backend.answers = lambda asked, backend=backend, name=name: login(asked, backend, name)
        for _ in range(4):
            with RawClient(live.port) as client:
                answer = client.ask(target=b"/login")
            session = answer.all(b"set-cookie")[0].partition(b";")[0]
            assert {site.ask(session).body for _ in range(4)} == {answer.body}
        assert all(asked.get(b"cookie") for asked in site.seen() if asked.path == "/")
