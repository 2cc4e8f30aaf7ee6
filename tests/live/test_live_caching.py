"""The caching suite around lbproxy: what is required holds, and where it does not do what others do, that is meant."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.live.caching_case import Kind
from tests.live.caching_cases import CASES, TOPIC_OF, TOPICS, WISHES
from tests.live.caching_suite import FAILED, PASSED, Outcome, run
from tests.live.http_peers import http_listener, http_pool
from tests.live.http_scripts import Live, Shared
from tests.live.http_scripts import shared_fixture as shared_fixture

_UNWELL = "what says that the backend is unwell, or that the request is, is not stored"
_PARTS = "a part is never stored"
_COOKIES = "an answer with Set-Cookie is for one client"
_LANGUAGES = "the order in Accept-Language matters, and backends choose the language"
# What a good cache may do, and this one does not.
NOT_DONE = {
    "guess-405": "nothing is guessed for errors other than 404 and 410",
    "guess-414": _UNWELL,
    "guess-501": _UNWELL,
    "status-400": _UNWELL,
    "status-502": _UNWELL,
    "status-503": _UNWELL,
    "status-504": _UNWELL,
    "vary-language-order": _LANGUAGES,
    "vary-language-chosen": _LANGUAGES,
    "part-kept": _PARTS,
    "part-of-part": _PARTS,
    "part-of-part-to-its-end": _PARTS,
    "part-of-part-its-last": _PARTS,
    "answer-with-Set-Cookie": _COOKIES,
    "post-answers-a-get": "answers to POST are not stored",
}
# What is required of those who do these things.
UNTESTED = {
    "status-400-stale": _UNWELL,
    "status-502-stale": _UNWELL,
    "status-503-stale": _UNWELL,
    "status-504-stale": _UNWELL,
    "keeps-Set-Cookie": _COOKIES,
}
_MALFORMED = "a lifetime that is no number is 0"
_AGE = "an Age that is no number is not there"
_BODY = "what says how the body is stored stays"
_REPLACED = "the backend has said that the older answer is over"
_UNASKED = "nothing is served stale unless the answer or the route allows it"
# Where both is right: what the suite calls yes, and this cache answers with no.
ANSWERED_NO = {
    "max-age-twice-short-first": "the first counts, as with max-age-twice-long-first",
    "max-age-with-fraction-0": _MALFORMED,
    "max-age-with-fraction-5": _MALFORMED,
    "max-age-with-letter-in-front": _MALFORMED,
    "max-age-with-letter-behind": _MALFORMED,
    "age-with-parameter": _AGE,
    "age-with-parameter-of-digits": _AGE,
    "older-answer-survives-no-store": _REPLACED,
    "older-answer-survives-private": _REPLACED,
    "targeted-in-any-case": "keys of structured fields are in lower case",
    "stale-when-closed": _UNASKED,
    "stale-when-503": _UNASKED,
    "asks-by-unquoted-etag-quoted": "an ETag goes back as it came",
    "if-none-match-is-passed-on": "what is to be stored is asked for as a whole",
    "304-changes-Content-Encoding": _BODY,
    "304-changes-Content-Range": _BODY,
    "304-changes-Set-Cookie": _COOKIES,
    "304-changes-Set-Cookie2": _COOKIES,
    "head-410-changes-fields": "an error in answer to HEAD is no news of a stored answer",
    "client-max-stale-of-aged": "what is stale when it comes, and cannot be confirmed, is not stored",
    "client-no-store": "that a client wants nothing stored does not keep it from what is",
}


def _config(ports: Sequence[int], origins: Sequence[socket.socket]) -> str:
    """Two listeners, of which the second obeys clients, with a pool each."""
    text = ""
    caches = ("true", '{ client_revalidate = "honour" }')
    for name, port, origin, cache in zip(("in", "in2"), ports, origins, caches, strict=True):
        text += http_listener(port, name=name)
        text += f'\n[[route]]\nlistener = "{name}"\npool = "to-{name}"\ncache = {cache}\n'
        text += http_pool(f"to-{name}", f"127.0.0.1:{origin.getsockname()[1]}", more="outlier = false")
    return text


@dataclass
class Played:
    """What became of the cases where clients have no say, and of those of their wishes where they have."""

    ignored: dict[str, Outcome]
    honoured: dict[str, Outcome]

    def of(self, topic: str, *kinds: Kind) -> list[Outcome]:
        """The outcomes of a topic, each from where it counts."""
        outcomes = self.honoured if topic == WISHES else self.ignored
        return [outcomes[case.id] for case in TOPICS[topic] if case.kind in kinds]

    def missed(self, topic: str, *kinds: Kind) -> dict[str, str]:
        """What did not pass of these kinds, and why."""
        return {one.case.id: one.why for one in self.of(topic, *kinds) if one.verdict != PASSED}


@pytest.fixture(name="played", scope="module")
def played_fixture(shared: Shared) -> Iterator[Played]:
    """All of it is played once and at once, as most of the time is spent on growing stale."""
    with ExitStack() as stack:
        live = Live(Shared.get(), stack)
        origins = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in range(2)]
        ports = [live.ports.reserve() for _ in origins]
        live.serve_text(_config(ports, origins))
        wishes = [case.id for case in TOPICS[WISHES]]
        with ThreadPoolExecutor(2) as threads:
            both = threads.map(run, origins, ports, (list(CASES), wishes))
            played = Played(*({one.case.id: one for one in outcomes} for outcomes in both))
        stack.close()
        live.finish()
        yield played


def _meant(topic: str, *tables: Iterable[str]) -> set[str]:
    return {id for table in tables for id in table if TOPIC_OF[id] == topic}


@pytest.mark.parametrize("topic", TOPICS)
class TestTopics:
    def test_nothing_that_is_required_fails(self, played: Played, topic: str) -> None:
        assert [one for one in played.of(topic, Kind.REQUIRED) if one.verdict == FAILED] == []

    def test_what_is_not_done_is_what_is_meant(self, played: Played, topic: str) -> None:
        missed = played.missed(topic, Kind.REQUIRED, Kind.OPTIONAL)
        assert missed.keys() == _meant(topic, NOT_DONE, UNTESTED), missed

    def test_questions_are_answered_as_is_meant(self, played: Played, topic: str) -> None:
        missed = played.missed(topic, Kind.QUESTION)
        assert missed.keys() == _meant(topic, ANSWERED_NO), missed


def test_clients_have_no_say_unless_the_route_listens(played: Played) -> None:
    passed = {case.id for case in TOPICS[WISHES] if played.ignored[case.id].verdict == PASSED}
    assert passed == {"client-only-if-cached", "client-unknown-directives"}
