"""OCSP: what is asked, which answers count, when it is asked again, and that nothing fails without an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from lbproxy.net.reactor import ProxyReactor
from lbproxy.net.resolving import SystemResolver
from lbproxy.service.ocsp_answers import OcspError, question, read_answer, responder_of
from lbproxy.service.ocsp_asking import MOST_BYTES, SECONDS, asking
from tests.certificates.making import Authority, Issued, Kind
from tests.net.net_rig import hand_reactor, turn
from tests.service.certificate_rig import Place, Said, configured, put, renew, tls, visit

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = Authority(now=NOW)
CA = ROOT.intermediate()
URL = "http://ocsp.example/"
A = CA.issue("a.example", responder=URL)
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(monkeypatch)


@pytest.fixture
def place(said: Said) -> Iterator[Place]:
    made = Place(said, now=NOW)
    yield made
    if made.service.running:
        made.service.stopService()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    renew(tmp_path / "a.pem", A)
    return tmp_path / "a.pem"


def stapled(place: Place) -> bytes:
    return visit(place.site("a.example")).ocsp


def delegated(
    responder: Issued, *, enclosed: x509.Certificate | None = None, bare: bool = False, by_key: bool = True
) -> bytes:
    """A response about A that `responder` signed; its certificate, or `enclosed`, is in it unless that is `bare`."""
    form = ocsp.OCSPResponderEncoding.HASH if by_key else ocsp.OCSPResponderEncoding.NAME
    good = ocsp.OCSPCertStatus.GOOD
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(A.certificate, CA.certificate, hashes.SHA1(), good, NOW, NOW + timedelta(days=1), None, None)
        .responder_id(form, responder.certificate)
    )
    if not bare:
        builder = builder.certificates([enclosed or responder.certificate])
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)


def refused(der: bytes) -> str:
    with pytest.raises(OcspError) as caught:
        read_answer(der, A.certificate, CA.certificate, NOW)
    return str(caught.value)


IMPOSTOR = Authority(CA.name, now=NOW)
SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])


class TestAnAnswer:
    def test_counts_until_its_end(self) -> None:
        answer = read_answer(CA.ocsp(A), A.certificate, CA.certificate, NOW)
        assert answer.ends == NOW + timedelta(days=7)
        assert not answer.revoked

    def test_that_names_no_end_counts_for_a_day(self) -> None:
        answer = read_answer(CA.ocsp(A, days=None), A.certificate, CA.certificate, NOW)
        assert answer.ends == NOW + timedelta(days=1)

    def test_may_say_that_the_certificate_is_revoked(self) -> None:
        assert read_answer(CA.ocsp(A, revoked=True), A.certificate, CA.certificate, NOW).revoked

    @pytest.mark.parametrize("kind", ["ECDSA", "RSA", "Ed25519"])
    def test_may_be_signed_with_any_kind_of_key(self, kind: Kind) -> None:
        authority = Authority(kind=kind, now=NOW)
        issued = authority.issue("a.example")
        assert read_answer(authority.ocsp(issued), issued.certificate, authority.certificate, NOW).der

    @pytest.mark.parametrize("by_key", [True, False])
    def test_may_be_signed_by_whom_the_issuer_made_a_responder(self, by_key: bool) -> None:
        responder = CA.issue(subject="Responder", extensions=[SIGNING])
        assert read_answer(delegated(responder, by_key=by_key), A.certificate, CA.certificate, NOW).der

    @pytest.mark.parametrize(
        "der",
        [
            delegated(CA.issue(subject="Not for this")),
            delegated(CA.issue(subject="Late", extensions=[SIGNING], days=-1)),
            delegated(CA.issue(subject="Absent", extensions=[SIGNING]), bare=True),
            delegated(ROOT.issue(subject="Another's", extensions=[SIGNING])),
            delegated(IMPOSTOR.issue(subject="Same name", extensions=[SIGNING])),
            delegated(
                CA.issue(subject="Twin"),
                enclosed=CA.issue(subject="Twin", extensions=[SIGNING]).certificate,
                by_key=False,
            ),
            delegated(Issued(IMPOSTOR.certificate, IMPOSTOR.key), bare=True, by_key=False),
            delegated(A),
        ],
        ids=["use", "expired", "absent", "issuer", "forged issuer", "key", "forged", "the certificate itself"],
    )
    def test_that_is_signed_by_nobody_who_may_is_refused(self, der: bytes) -> None:
        assert refused(der) == "the answer is signed by nobody who may"

    def test_about_another_certificate_is_refused(self) -> None:
        assert refused(CA.ocsp(CA.issue("b.example"))) == "the answer is about another certificate"
        assert refused(IMPOSTOR.ocsp(A)) == "the answer is about another certificate"

    def test_that_is_out_of_date_is_refused(self) -> None:
        assert "is out of date since" in refused(CA.ocsp(A, days=-1))

    def test_from_the_future_is_refused(self) -> None:
        assert "is not valid before" in refused(CA.ocsp(A, now=NOW + timedelta(days=1)))

    @pytest.mark.parametrize("der", [b"", b"junk", CA.ocsp(A)[:-1], CA.ocsp(A)[:40]], ids=["", "text", "cut", "head"])
    def test_that_is_none_is_refused(self, der: bytes) -> None:
        assert refused(der) == "the answer is no OCSP response"

    def test_that_has_been_tampered_with_is_refused(self) -> None:
        der = bytearray(CA.ocsp(A))
        der[-1] ^= 1
        assert refused(bytes(der)) in ("the answer is signed by nobody who may", "the answer is no OCSP response")

    def test_that_is_an_excuse_is_refused(self) -> None:
        excuse = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
        assert refused(excuse.public_bytes(Encoding.DER)) == "the responder said 'try later'"

    def test_that_knows_nothing_is_refused(self) -> None:
        unknown = ocsp.OCSPCertStatus.UNKNOWN
        builder = ocsp.OCSPResponseBuilder().add_response(
            A.certificate, CA.certificate, hashes.SHA1(), unknown, NOW, NOW + timedelta(days=1), None, None
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, CA.certificate)
        der = builder.sign(CA.key, hashes.SHA256()).public_bytes(Encoding.DER)
        assert refused(der) == "the responder does not know the certificate"


class TestTheQuestion:
    def test_names_the_certificate_with_sha1(self) -> None:
        request = ocsp.load_der_ocsp_request(question(A.certificate, CA.certificate))
        assert request.serial_number == A.serial
        assert isinstance(request.hash_algorithm, hashes.SHA1)

    @pytest.mark.parametrize(
        ("url", "found"),
        [(URL, URL), ("https://ocsp.example/", None), ("ldap://ocsp.example/", None), ("", None)],
    )
    def test_goes_to_responders_over_plain_http_only(self, url: str, found: str | None) -> None:
        assert responder_of(CA.issue("a.example", responder=url).certificate) == found

    def test_goes_nowhere_when_none_is_named(self) -> None:
        assert responder_of(CA.issue("a.example").certificate) is None


class TestFetching:
    def test_staples_what_the_responder_says(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        assert stapled(place) == b"", "nobody waits for it"
        ((url, request),) = place.asked.questions
        assert (url, request) == (URL, question(A.certificate, CA.certificate))
        response = CA.ocsp(A)
        place.asked.answers[0].callback(response)
        assert stapled(place) == response
        assert place.counters.certificates == {"ocsp_fetched": 1}

    @pytest.mark.parametrize(
        ("days", "seconds"), [(7, 12 * HOUR), (1, 12 * HOUR), (0.25, 3 * HOUR), (5 / 1440, 300.0), (None, 12 * HOUR)]
    )
    def test_asks_again_at_half_of_its_life(self, place: Place, file: Path, days: float | None, seconds: float) -> None:
        place.go(configured(**{"in": tls(file)}))
        place.asked.answers[0].callback(CA.ocsp(A, days=days))
        place.clock.advance(seconds - 1)
        assert len(place.asked.questions) == 1
        place.clock.advance(1)
        assert len(place.asked.questions) == 2

    def test_asks_again_after_a_failure_later_each_time(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        for number, seconds in enumerate((300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0), 1):
            place.asked.answers[-1].errback(OSError("no route"))
            place.clock.advance(seconds - 1)
            assert len(place.asked.questions) == number
            place.clock.advance(1)
            assert len(place.asked.questions) == number + 1
        assert place.counters.certificates == {"ocsp_failed": 6}
        assert place.said.take("warn") == place.said.take("error") == [], "it is quiet"
        assert len(place.said.take("debug")) == 6
        assert stapled(place) == b"", "and no handshake fails"

    def test_a_bad_answer_is_a_failure(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        place.asked.answers[0].callback(b"junk")
        assert place.counters.certificates == {"ocsp_failed": 1}
        told = place.service.stapler.describe(A.fingerprint)
        assert told["state"] == "failed"
        assert told["problem"] == f"no OCSP response from {URL}: the answer is no OCSP response"

    def test_a_response_is_kept_over_failures_until_it_ends(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        response = CA.ocsp(A, days=1)
        place.asked.answers[0].callback(response)
        place.clock.advance(12 * HOUR)
        place.asked.answers[1].errback(OSError("no route"))
        place.clock.advance(11 * HOUR)
        assert stapled(place) == response
        place.clock.advance(HOUR)
        assert stapled(place) == b""
        assert place.service.stapler.describe(A.fingerprint)["until"] is None

    def test_a_response_is_kept_over_reloads_while_its_certificate_stays(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        response = CA.ocsp(A)
        place.asked.answers[0].callback(response)
        place.go(configured(**{"in": tls(file)}))
        assert stapled(place) == response
        assert len(place.asked.questions) == 1
        fresh = CA.issue("a.example", responder=URL)
        renew(file, fresh)
        place.go(configured(**{"in": tls(file)}))
        assert stapled(place) == b""
        assert len(place.asked.questions) == 2
        assert A.fingerprint not in place.service.stapler.stapled

    def test_a_revoked_certificate_is_told_once(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        response = CA.ocsp(A, revoked=True)
        place.asked.answers[0].callback(response)
        assert stapled(place) == response
        place.clock.advance(12 * HOUR)
        place.asked.answers[1].callback(CA.ocsp(A, revoked=True))
        (line,) = place.said.take("error")
        assert line.startswith(f"{file}: the certificate is revoked")

    def test_is_left_out_when_it_is_switched_off(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file, ocsp_fetch=False)}))
        assert place.asked.questions == []

    def test_needs_the_issuer(self, place: Place, tmp_path: Path) -> None:
        issued = ROOT.issue("a.example", responder=URL)
        renew(tmp_path / "a.pem", issued)
        place.go(configured(**{"in": tls(tmp_path / "a.pem")}))
        assert place.asked.questions == []

    def test_asks_few_at_once(self, place: Place, tmp_path: Path) -> None:
        for number in range(6):
            renew(tmp_path / f"{number}.pem", CA.issue(f"{number}.example", responder=URL))
        place.go(configured(**{"in": tls(tmp_path)}))
        assert len(place.asked.questions) == 4
        place.asked.answers[0].errback(OSError("no route"))
        assert len(place.asked.questions) == 5

    def test_one_that_is_under_way_at_the_end_comes_to_nothing(self, place: Place, file: Path) -> None:
        place.go(configured(**{"in": tls(file)}))
        place.service.stopService()
        assert place.counters.certificates == {}
        assert place.clock.getDelayedCalls() == []


class TestAFile:
    def test_is_stapled_and_nobody_is_asked(self, place: Place, file: Path) -> None:
        response = CA.ocsp(A)
        put(file.with_suffix(".ocsp"), response)
        place.go(configured(**{"in": tls(file)}))
        assert stapled(place) == response
        assert place.asked.questions == []
        assert place.service.stapler.describe(A.fingerprint)["source"] == "file"

    def test_out_of_date_is_not_stapled_and_warned_of(self, place: Place, file: Path) -> None:
        put(file.with_suffix(".ocsp"), CA.ocsp(A, days=-1))
        place.go(configured(**{"in": tls(file)}))
        assert stapled(place) == b""
        (line,) = place.said.take("warn")
        assert line.startswith(f"{file}: the OCSP response in its file is not stapled: it is out of date since ")

    def test_that_ends_while_it_is_served_is_stapled_no_more(self, place: Place, file: Path) -> None:
        put(file.with_suffix(".ocsp"), CA.ocsp(A, days=1))
        place.go(configured(**{"in": tls(file)}))
        place.clock.advance(DAY)
        assert stapled(place) == b""
        assert len(place.said.take("warn")) == 1


class Responder(Resource):
    """A responder that does what it is told."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], bytes | int]) -> None:
        super().__init__()
        self._answer = answer
        self.seen: list[tuple[bytes, bytes | None]] = []

    def render_POST(self, request: Request) -> bytes | int:
        content = request.content
        assert content is not None
        self.seen.append((content.read(), request.requestHeaders.getRawHeaders(b"content-type", [None])[0]))
        return self._answer(request)


class TestOverHttp:
    def ask(
        self, reactor: ProxyReactor, answer: Callable[[Request], bytes | int]
    ) -> tuple[Responder, list[object], str]:
        """Ask a real one on a loopback port; what came of it."""
        reactor.installNameResolver(SystemResolver(reactor))
        responder = Responder(answer)
        port = reactor.listenTCP(0, Site(responder, reactor=reactor), interface="127.0.0.1")
        url = f"http://127.0.0.1:{port.getHost().port}/ocsp"
        outcome: list[object] = []
        asked = asking(reactor)(url, question(A.certificate, CA.certificate))
        asked.addBoth(outcome.append)
        turn(reactor, lambda: outcome)
        port.stopListening()
        turn(reactor)
        return responder, outcome, url

    def test_an_answer_is_brought(self) -> None:
        response = CA.ocsp(A)
        with hand_reactor() as reactor:
            responder, outcome, _ = self.ask(reactor, lambda _: response)
        assert outcome == [response]
        assert responder.seen == [(question(A.certificate, CA.certificate), b"application/ocsp-request")]

    def test_a_body_that_is_too_large_is_not_taken(self) -> None:
        with hand_reactor() as reactor:
            _, outcome, _ = self.ask(reactor, lambda _: b"x" * (MOST_BYTES + 1))
        assert "larger than 64 KiB" in str(outcome[0])

    def test_another_status_is_no_answer(self) -> None:
        def missing(request: Request) -> bytes:
            request.setResponseCode(404)
            return CA.ocsp(A)

        with hand_reactor() as reactor:
            _, outcome, _ = self.ask(reactor, missing)
        assert "HTTP status 404" in str(outcome[0])

    def test_nobody_there_is_a_failure(self) -> None:
        with hand_reactor() as reactor:
            reactor.installNameResolver(SystemResolver(reactor))
            port = reactor.listenTCP(0, Site(Resource(), reactor=reactor), interface="127.0.0.1")
            number = port.getHost().port
            port.stopListening()
            turn(reactor)
            outcome: list[object] = []
            asking(reactor)(f"http://127.0.0.1:{number}/", b"").addBoth(outcome.append)
            turn(reactor, lambda: outcome)
        assert "refused" in str(outcome[0])

    def test_a_url_that_is_none_is_a_failure(self, place: Place, tmp_path: Path) -> None:
        with hand_reactor() as reactor:
            place.service.stapler.ask = asking(reactor)
            renew(tmp_path / "a.pem", CA.issue("a.example", responder="http://[::/"))
            place.go(configured(**{"in": tls(tmp_path / "a.pem")}))
            turn(reactor, lambda: place.counters.certificates)
        assert place.counters.certificates == {"ocsp_failed": 1}

    def test_a_responder_is_given_ten_seconds(self) -> None:
        class Timed:
            """A reactor whose delayed calls are only noted."""

            def __init__(self, reactor: ProxyReactor) -> None:
                self.reactor = reactor
                self.delays: list[float] = []

            def callLater(self, delay: float, *call: Any, **named: Any) -> Any:
                self.delays.append(delay)
                return self.reactor.callLater(delay, *call, **named)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.reactor, name)

        with hand_reactor() as reactor:
            timed = Timed(reactor)
            asked: Deferred[bytes] = asking(timed)("http://127.0.0.1:9/", b"")
            asked.addErrback(lambda _: None)
            assert SECONDS in timed.delays
            asked.cancel()
            turn(reactor)
