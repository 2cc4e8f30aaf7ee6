"""Every input in every phase, the late and the pointless ones too, and what may come of any order of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbproxy import errors
from lbproxy.errors import TryError
from lbproxy.session.phases import CONNECT, DATA, ENDING, HANDSHAKE, HEADER, HELLO, OVER, PHASES, QUEUE
from lbproxy.session.relay import Relay
from lbproxy.session.seams import Opening
from lbproxy.session.secured import TlsFacts
from tests.preamble import hellos
from tests.session.session_fakes import Conversation, FakeSide, opening_with

Event = Callable[[Conversation, Relay], object]


def in_phase(phase: int) -> tuple[Conversation, Relay]:
    """A session that is in this phase."""
    talk = Conversation("a b", max_active=1 if phase == QUEUE else 10)
    if phase == QUEUE:
        talk.busy("a")
        talk.busy("b")
    session = talk.accept(opening=opening_with(header=phase == HEADER, tls=phase in (HELLO, HANDSHAKE)))
    if phase == HANDSHAKE:
        talk.sends(session, hellos.hello())
    if phase in (DATA, ENDING, OVER):
        session.connected()
        talk.answers(session)
    if phase == ENDING:
        talk.client(session).queued = 5
        talk.loses(session, talk.side(session))
    if phase == OVER:
        session.kill(errors.KILLED_BY_OPERATOR)
    talk.did()
    assert session.phase == phase
    return talk, session


def own_side(talk: Conversation, session: Relay) -> FakeSide:
    sides = talk.factory.sides.get(session)
    return sides[-1] if sides else FakeSide("nobody", talk.log, talk.now)


# What is told to a session; each must be harmless where the table says "nothing".
EVENTS: dict[str, Event] = {
    "arrived": lambda talk, session: session.arrived(),
    "client ended": lambda talk, session: talk.ends(session, talk.client(session)),
    "backend ended": lambda talk, session: talk.ends(session, own_side(talk, session)),
    "client lost": lambda talk, session: talk.loses(session, talk.client(session)),
    "backend lost": lambda talk, session: talk.loses(session, own_side(talk, session)),
    "flushed": lambda talk, session: session.flushed(),
    "stalled": lambda talk, session: session.stalled(),
    "client bytes": lambda talk, session: session.first_bytes(talk.client(session)),
    "early question": lambda talk, session: session.expire(talk.now),
    "kill": lambda talk, session: session.kill(errors.KILLED_BY_OPERATOR),
    "broken": lambda talk, session: session.broken(ValueError()),
}
# Phase -> input -> the phase afterwards. What is not listed changes nothing. "backend" inputs before there is a
# backend cannot happen and are left out.
TABLE: dict[int, dict[str, int]] = {
    HEADER: {"client ended": OVER, "client lost": OVER, "kill": OVER, "broken": OVER},
    HELLO: {"client ended": OVER, "client lost": OVER, "kill": OVER, "broken": OVER},
    HANDSHAKE: {"client ended": OVER, "client lost": OVER, "kill": OVER, "broken": OVER},
    QUEUE: {"client lost": OVER, "kill": OVER, "broken": OVER},
    CONNECT: {"client lost": OVER, "kill": OVER, "broken": OVER},
    DATA: {"client lost": OVER, "backend lost": OVER, "kill": OVER, "broken": OVER},
    ENDING: {"client lost": OVER, "backend lost": OVER, "kill": OVER, "broken": OVER},
    OVER: {},
}
NO_BACKEND_YET = {
    HEADER: {"backend ended", "backend lost"},
    HELLO: {"backend ended", "backend lost"},
    HANDSHAKE: {"backend ended", "backend lost"},
    QUEUE: {"backend ended", "backend lost"},
    CONNECT: {"backend ended", "backend lost"},
}


CASES = [
    pytest.param(phase, event, id=f"{PHASES[phase]}-{event}")
    for phase in TABLE
    for event in EVENTS
    if event not in NO_BACKEND_YET.get(phase, ())
]


@pytest.mark.parametrize(("phase", "event"), CASES)
def test_every_input_in_every_phase(phase: int, event: str) -> None:
    talk, session = in_phase(phase)
    EVENTS[event](talk, session)
    assert PHASES[session.phase] == PHASES[TABLE[phase].get(event, phase)]
    assert talk.log.count("left 192.0.2.7") + talk.log.count("left None") == (session.phase == OVER != phase)
    assert len(talk.over) == (session.phase == OVER)
    assert talk.pool.active - 2 * (phase == QUEUE) == (session.backend is not None)


@pytest.mark.parametrize("event", EVENTS)
def test_late_and_pointless_inputs_change_nothing(event: str) -> None:
    talk, session = in_phase(OVER)
    record = talk.records[0]
    EVENTS[event](talk, session)
    EVENTS[event](talk, session)
    assert talk.did() == []
    assert (session.phase, session.outcome) == (OVER, errors.KILLED_BY_OPERATOR)
    assert talk.records == [record]
    talk.check_clean()


@pytest.mark.parametrize("phase", [HEADER, HANDSHAKE, QUEUE, CONNECT], ids=PHASES.__getitem__)
def test_bytes_before_the_backend_change_nothing_but_what_is_kept(phase: int) -> None:
    talk, session = in_phase(phase)
    talk.sends(session, b"P")
    assert session.phase == phase
    assert talk.did() == []


STEPS = (
    "accept",
    "header",
    "hello",
    "half a hello",
    "secured",
    "not secured",
    "gives way",
    "securing",
    "not TLS",
    "garbage",
    "bytes",
    "connected",
    "refused",
    "timeout",
    "local",
    "answer",
    "client ended",
    "backend ended",
    "client lost",
    "backend lost",
    "stall client",
    "stall backend",
    "flush",
    "queue kernel",
    "time",
    "long time",
    "kill",
    "broken",
    "expire",
    "maint",
    "ready",
    "dns fails",
    "dns works",
)


# What a client sends before it is joined; how a try fails. In some phases nobody reads.
TEXTS = {
    "header": b"PROXY TCP4 192.0.2.8 192.0.2.9 1 2\r\n",
    "garbage": b"\0",
    "bytes": b"PROXY",
    "hello": hellos.hello(hellos.server_name(b"a.example")),
    "half a hello": hellos.hello()[:20],
}
ERRORS = {"refused": TryError.REFUSED, "timeout": TryError.TIMEOUT, "local": TryError.LOCAL, "not TLS": TryError.TLS}
UNHEARD = (HANDSHAKE, DATA, ENDING)
FACTS = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", "", resumed=False, seconds=0.1)
OPENINGS = [
    opening_with(header=header, hello=kind == "hello", tls=kind == "tls", proxy_header=4.0)
    for header in (False, True)
    for kind in ("", "hello", "tls")
]


class Play:
    """Plays steps on sessions as real sides would tell them: nothing is told by a side that is closed."""

    def __init__(self, talk: Conversation, opening: Opening) -> None:
        self.talk = talk
        self.opening = opening

    def step(self, word: str, number: int) -> None:
        talk = self.talk
        if word == "accept":
            talk.accept(opening=self.opening)
        elif word in ("time", "long time"):
            talk.passes(0.7 if word == "time" else 6.0, step=0.3)
        elif word in ("maint", "ready"):
            name = "abc"[number % 3]
            talk.pool.set_admin(talk.pool.backends[name], "maint" if word == "maint" else "ready", talk.now)
        elif word == "dns fails":
            talk.factory.at_once = {"abc"[number % 3]: TryError.DNS}
        elif word == "dns works":
            talk.factory.at_once = {}
        elif talk.sessions:
            self.tell(word, talk.sessions[number % len(talk.sessions)])

    def tell(self, word: str, session: Relay) -> None:
        talk, client = self.talk, self.talk.client(session)
        sides = talk.factory.sides.get(session)
        side = sides[-1] if sides and sides[-1].open else None
        dialled = side is not None and session.phase == CONNECT
        joined = side is not None and client.open and session.phase == DATA
        if word in ("kill", "broken", "expire"):
            EVENTS[{"expire": "early question"}.get(word, word)](talk, session)
        elif word in TEXTS:
            if client.open and client.reading and not client.finished and session.phase not in UNHEARD:
                talk.sends(session, TEXTS[word])
            elif word == "bytes" and joined and not client.finished:
                talk.asks(session)
        elif word in ERRORS:
            if dialled:
                talk.refuses(session, ERRORS[word])
        elif word in ("secured", "not secured", "gives way"):
            self.tell_of_handshake(word, session)
        elif word in ("connected", "securing"):
            if dialled and not (word == "securing" and session.securing_since >= 0):
                (session.connected if word == "connected" else session.securing)()
        elif word == "client ended":
            if client.open and client.reading and not client.finished and session.phase != ENDING:
                talk.ends(session, client)
        elif word == "client lost":
            if client.open:
                talk.loses(session, client)
        elif word == "queue kernel":
            client.queued = client.open * 7
        elif side is not None and session.phase in (DATA, ENDING):
            self.tell_of_backend(word, session, side, joined)

    def tell_of_handshake(self, word: str, session: Relay) -> None:
        if session.phase != HANDSHAKE:
            return
        if word == "secured":
            session.secured(FACTS)
        elif word == "gives way":
            session.gave_way()
        else:
            session.handshake_failed("protocol", "it is not to be understood")

    def tell_of_backend(self, word: str, session: Relay, side: FakeSide, joined: bool) -> None:
        talk, client = self.talk, self.talk.client(session)
        if word == "backend lost":
            talk.loses(session, side)
        elif word == "flush":
            for one in (client, side):
                if one.open and one.held:
                    talk.drains(session, one)
        elif joined and not side.finished and word == "answer":
            talk.answers(session)
        elif joined and not side.finished and word == "backend ended":
            talk.ends(session, side)
        elif joined and word in ("stall client", "stall backend"):
            talk.stalls(session, client if word == "stall client" else side)

    def check(self) -> None:
        """What holds between any two steps."""
        talk = self.talk
        over = [session for session in talk.sessions if session.phase == OVER]
        assert sorted(map(id, talk.over)) == sorted(map(id, over)), "over, and told so exactly once"
        assert talk.pool.active == sum(session.backend is not None for session in talk.sessions)
        assert talk.pool.queued == sum(session.phase == QUEUE for session in talk.sessions)
        assert talk.pool.retries == sum(session.retrying for session in talk.sessions)
        assert len(talk.gate.inside) == sum(session.admitted is not None for session in talk.sessions) - sum(
            session.admitted is not None for session in over
        )
        assert talk.gate.sessions == len(talk.sessions) - len(over)
        if self.opening.tls:
            begun = [session for session in talk.sessions if session.hello_began >= 0]
            shaking = [session for session in begun if session.phase in (HELLO, HANDSHAKE)]
            assert len(talk.gate.handshakes) == len(begun) - len(shaking), "each handshake has one end"
        for session in talk.sessions:
            assert (session.phase == OVER) <= (session.backend is None), "a lease is given back at the end"
            assert session.phase == OVER or session in talk.wheel.due, "everybody alive has a deadline"
            if session.phase == OVER:
                assert not talk.client(session).open
                assert not any(side.open for side in talk.factory.sides.get(session, ()))
        for record in talk.records:
            assert record.bytes_in >= 0
            assert record.retries <= talk.pool.settings.tries


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=60),
    most=st.sampled_from([1, 2, 100]),
    places=st.sampled_from([0, 1, 10]),
    tries=st.integers(1, 4),
    opening=st.sampled_from(OPENINGS),
)
def test_a_lease_is_given_back_exactly_once(
    steps: list[tuple[str, int]], most: int, places: int, tries: int, opening: Opening
) -> None:
    talk = Conversation(max_active=most, queue_size=places, tries=tries, timeouts={"queue": 2.0, "write_stall": 3.0})
    play = Play(talk, opening)
    for word, number in steps:
        play.step(word, number)
        play.check()
    for session in talk.sessions:
        session.kill(errors.KILLED_BY_OPERATOR)
    talk.passes(0.5)
    talk.check_clean()


@pytest.mark.parametrize("seed", range(20))
def test_a_long_day_leaves_nothing_behind(seed: int) -> None:
    chance = random.Random(seed)
    talk = Conversation(max_active=3, queue_size=4)
    play = Play(talk, OPENINGS[seed % len(OPENINGS)])
    for _ in range(300):
        play.step(chance.choice(STEPS), chance.randrange(12))
    play.check()
    for session in talk.sessions:
        session.kill(errors.KILLED_BY_OPERATOR)
    talk.passes(0.5)
    talk.check_clean()
