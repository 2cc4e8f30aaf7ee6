"""What OpenSSL's errors mean, in words from a closed set."""

from __future__ import annotations

import errno

import pytest
from OpenSSL import SSL

from lbproxy.net.tls.failures import TlsFailure, Truncated, certificate_failure, handshake_failure


def said(*reasons: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", reason) for reason in reasons])


def word_of(problem: SSL.Error, *codes: int) -> str:
    failure = handshake_failure(problem, codes)
    assert isinstance(failure, TlsFailure)
    assert failure.errno == errno.EPROTO
    assert failure.strerror, "the log is told something"
    return failure.word


class TestHandshakes:
    @pytest.mark.parametrize(
        ("reason", "word"),
        [
            ("unsupported protocol", "protocol_version"),
            ("version too low", "protocol_version"),
            ("inappropriate fallback", "protocol_version"),
            ("no shared cipher", "no_shared_cipher"),
            ("no suitable signature algorithm", "no_shared_cipher"),
            ("no suitable key share", "no_shared_cipher"),
            ("peer did not return a certificate", "no_certificate"),
            ("wrong version number", "not_tls"),
            ("http request", "not_tls"),
            ("packet length too long", "not_tls"),
            ("decryption failed or bad record mac", "bad_record"),
            ("no application protocol", "no_application_protocol"),
            ("no renegotiation", "renegotiation"),
        ],
    )
    def test_a_reason_that_is_known(self, reason: str, word: str) -> None:
        assert word_of(said(reason)) == word

    def test_the_first_reason_that_is_known_counts(self) -> None:
        assert word_of(said("something", "no shared cipher", "http request")) == "no_shared_cipher"

    def test_an_alert_of_the_peer_is_quoted(self) -> None:
        failure = handshake_failure(said("sslv3 alert handshake failure"), ())
        assert isinstance(failure, TlsFailure)
        assert failure.word == "peer_alert"
        assert "handshake failure" in str(failure.strerror)

    def test_a_reason_that_is_unknown_is_told_as_it_is(self) -> None:
        failure = handshake_failure(said("the moon is full"), ())
        assert isinstance(failure, TlsFailure)
        assert (failure.word, failure.strerror) == ("protocol", "the moon is full")

    @pytest.mark.parametrize("problem", [SSL.Error(), SSL.Error([]), SSL.Error("text")], ids=repr)
    def test_an_error_without_reasons(self, problem: SSL.Error) -> None:
        assert word_of(problem) == "protocol"

    def test_an_end_within_the_handshake_is_no_failure_of_tls(self) -> None:
        failure = handshake_failure(said("unexpected eof while reading"), ())
        assert not isinstance(failure, TlsFailure)
        assert failure.errno == errno.ECONNRESET

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [((-1, "Unexpected EOF"), errno.ECONNRESET), ((errno.ETIMEDOUT, "x"), errno.ETIMEDOUT), ((), errno.ECONNRESET)],
    )
    def test_a_connection_that_is_lost_keeps_its_error(self, arguments: tuple[object, ...], code: int) -> None:
        failure = handshake_failure(SSL.SysCallError(*arguments), ())
        assert not isinstance(failure, TlsFailure)
        assert failure.errno == code


class TestCertificates:
    @pytest.mark.parametrize(
        ("code", "word"),
        [
            (2, "unknown_ca"),
            (18, "unknown_ca"),
            (19, "unknown_ca"),
            (20, "unknown_ca"),
            (21, "unknown_ca"),
            (9, "expired_certificate"),
            (10, "expired_certificate"),
            (23, "revoked_certificate"),
            (3, "crl_unavailable"),
            (11, "crl_unavailable"),
            (12, "crl_unavailable"),
            (26, "bad_certificate"),
        ],
    )
    def test_the_codes_of_verification(self, code: int, word: str) -> None:
        assert word_of(said("certificate verify failed"), code) == word

    def test_the_first_code_counts(self) -> None:
        assert certificate_failure([10, 20]).word == "expired_certificate"

    def test_without_a_code_it_was_refused(self) -> None:
        assert certificate_failure([]).word == "bad_certificate"

    def test_an_unknown_code_is_told(self) -> None:
        assert "26" in str(certificate_failure([26]).strerror)


def test_an_end_without_close_notify_is_no_failure_of_tls() -> None:
    assert not isinstance(Truncated(), TlsFailure)
    assert Truncated().errno == errno.ECONNABORTED
