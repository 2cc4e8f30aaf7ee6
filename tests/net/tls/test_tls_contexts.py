"""What OpenSSL is told: versions, ciphers, tickets, staples, secrets; seen by clients with another OpenSSL."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from lbproxy.certificates import CertificateError, Pair, Trust
from lbproxy.model_tls import ClientAuthSettings, Profile, TlsPolicy
from lbproxy.net.tls import binding
from lbproxy.net.tls.contexts import client_context, server_context
from lbproxy.net.tls.facts import facts_of
from tests.certificates.making import Authority
from tests.net.tls_peers import NAME, TlsPeer, authority, client_ssl, issued, pair_of, server_ssl

TLS_1_1, TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
WEAK = "ALL:@SECLEVEL=0"  # what a client must say to offer TLS 1.1 at all


@cache
def pair(kind: Any = "ECDSA") -> Pair:
    return pair_of(issued(NAME, kind=kind))


def context(
    *pairs: Pair,
    policy: TlsPolicy | None = None,
    trust: Trust | None = None,
    tickets: bool = True,
    stapled: dict[str, bytes] | None = None,
    write_secret: Callable[[bytes], None] | None = None,
) -> SSL.Context:
    return server_context(
        pairs or (pair(),),
        policy or TlsPolicy(),
        trust=trust,
        tickets=tickets,
        stapled={} if stapled is None else stapled,
        write_secret=write_secret,
    )


def accepting(served: SSL.Context) -> SSL.Connection:
    connection = SSL.Connection(served, None)
    connection.set_accept_state()
    return connection


def shake(connection: SSL.Connection, peer: TlsPeer) -> None:
    """The whole handshake, through memory, with what comes behind it. Raises what either end raises."""
    done = False
    for _ in range(20):
        finished = peer.shake()
        data = peer.take()
        if data:
            connection.bio_write(data)
        if not done:
            try:
                connection.do_handshake()
                done = True
            except SSL.WantReadError:
                pass
            finally:
                _hand_over(connection, peer)
        if done and finished:
            break
    else:
        raise AssertionError("the handshake does not end")
    connection.send(b"over")
    _hand_over(connection, peer)
    peer.read()
    assert peer.got == b"over"


def _hand_over(connection: SSL.Connection, peer: TlsPeer) -> None:
    try:
        while True:
            peer.give(connection.bio_read(65536))
    except SSL.WantReadError:
        return


def met(served: SSL.Context, peer: TlsPeer | None = None, **client: Any) -> tuple[SSL.Connection, TlsPeer]:
    """Both ends of an established connection."""
    peer = peer or TlsPeer(client_ssl(**client))
    connection = accepting(served)
    shake(connection, peer)
    return connection, peer


def profiled(profile: Profile, **rest: Any) -> SSL.Context:
    return context(policy=TlsPolicy(profile), **rest)


class TestProfiles:
    @pytest.mark.parametrize(
        ("profile", "version"),
        [
            ("modern", TLS_1_3),
            ("intermediate", TLS_1_3),
            ("intermediate", TLS_1_2),
            ("old", TLS_1_3),
            ("old", TLS_1_2),
            ("old", TLS_1_1),
        ],
    )
    def test_what_is_accepted(self, profile: Profile, version: ssl.TLSVersion) -> None:
        _, peer = met(profiled(profile), least=version, most=version, ciphers=WEAK)
        assert peer.tls.version() == {"TLSv1_1": "TLSv1.1", "TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]

    @pytest.mark.parametrize(
        ("profile", "version"), [("modern", TLS_1_2), ("modern", TLS_1_1), ("intermediate", TLS_1_1)]
    )
    def test_what_is_refused(self, profile: Profile, version: ssl.TLSVersion) -> None:
        peer = TlsPeer(client_ssl(least=version, most=version, ciphers=WEAK))
        with pytest.raises(SSL.Error) as caught:
            shake(accepting(profiled(profile)), peer)
        assert "unsupported protocol" in str(caught.value) or "version too low" in str(caught.value)
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            peer.shake()

    @pytest.mark.parametrize(
        "cipher",
        [
            "AES128-SHA",
            "AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-SHA",
            "DHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-NULL-SHA",
        ],
    )
    def test_ciphers_that_intermediate_does_not_know(self, cipher: str) -> None:
        served = context(pair(), pair("RSA"))
        with pytest.raises(SSL.Error, match="no shared cipher"):
            met(served, most=TLS_1_2, ciphers=f"{cipher}:@SECLEVEL=0")

    @pytest.mark.parametrize("cipher", ["AES128-SHA", "AES128-GCM-SHA256"])
    def test_old_clients_get_what_they_can(self, cipher: str) -> None:
        _, peer = met(server_old(), most=TLS_1_2, ciphers=cipher)
        assert peer.tls.cipher() is not None

    def test_the_order_is_ours(self) -> None:
        theirs = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
        _, peer = met(context(), most=TLS_1_2, ciphers=theirs)
        cipher = peer.tls.cipher()
        assert cipher is not None
        assert cipher[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_nothing_is_compressed(self, version: ssl.TLSVersion) -> None:
        _, peer = met(context(), most=version)
        assert peer.tls.compression() is None

    @pytest.mark.parametrize(
        ("ciphers", "kind"), [("ECDHE-ECDSA-AES128-GCM-SHA256", "EC"), ("ECDHE-RSA-AES128-GCM-SHA256", "RSA")]
    )
    def test_each_client_gets_the_kind_that_it_knows(self, ciphers: str, kind: str) -> None:
        served = context(pair(), pair("RSA"))
        _, peer = met(served, most=TLS_1_2, ciphers=ciphers)
        wanted = issued(NAME, kind="RSA" if kind == "RSA" else "ECDSA")
        assert peer.tls.getpeercert(binary_form=True) == wanted.der

    def test_ecdsa_comes_first_for_who_knows_both(self) -> None:
        """It costs us less."""
        _, peer = met(context(pair("RSA"), pair()), most=TLS_1_2)
        assert peer.tls.getpeercert(binary_form=True) == issued(NAME).der

    def test_the_chain_is_served_with_each_certificate(self) -> None:
        intermediate = authority().intermediate()
        one = intermediate.issue(NAME)
        _, peer = met(context(pair_of(one)))
        assert peer.tls.getpeercert(binary_form=True) == one.der, "the client found its way to the root"

    @pytest.mark.skipif(not binding.AVAILABLE, reason="groups cannot be set")
    def test_a_client_with_an_old_group_is_served(self) -> None:
        client = client_ssl()
        client.set_ecdh_curve("secp384r1")
        met(context(), TlsPeer(client))


def server_old() -> SSL.Context:
    return context(pair(), pair("RSA"), policy=TlsPolicy("old"))


class TestAlpn:
    POLICY = TlsPolicy(alpn=("h2", "http/1.1"))

    @pytest.mark.parametrize(
        ("offered", "chosen"), [(("http/1.1", "h2"), "h2"), (("x", "http/1.1"), "http/1.1"), ((), None)]
    )
    def test_the_order_is_ours(self, offered: tuple[str, ...], chosen: str | None) -> None:
        _, peer = met(context(policy=self.POLICY), alpn=offered)
        assert peer.tls.selected_alpn_protocol() == chosen

    def test_without_protocols_of_ours_none_is_agreed_on(self) -> None:
        _, peer = met(context(), alpn=("h2",))
        assert peer.tls.selected_alpn_protocol() is None


def again(served: SSL.Context, client: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Whether the session of before is taken up; both ends agree about it."""
    assert session is not None
    connection, peer = met(served, TlsPeer(client, session=session))
    resumed = bool(peer.tls.session_reused)
    if binding.AVAILABLE:
        assert binding.was_resumed(connection) == resumed
    return resumed


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
class TestResumption:
    def test_a_ticket_is_taken_up(self, version: ssl.TLSVersion) -> None:
        served, client = context(), client_ssl(most=version)
        _, first = met(served, TlsPeer(client))
        assert again(served, client, first.tls.session)

    def test_with_tickets_off_there_is_nothing_to_take_up(self, version: ssl.TLSVersion) -> None:
        """No session ids either: they would need memory here."""
        served, client = context(tickets=False), client_ssl(most=version)
        _, first = met(served, TlsPeer(client))
        session = first.tls.session
        assert session is None or not session.has_ticket or version == TLS_1_3
        if session is not None:
            assert not again(served, client, session)

    @pytest.mark.parametrize("other", ["policy", "certificate", "the same"])
    def test_a_ticket_of_another_context_is_not(self, version: ssl.TLSVersion, other: str) -> None:
        """Whatever is alike: a ticket is good only under the settings under which it was given (L5)."""
        client = client_ssl(most=version)
        _, first = met(context(), TlsPeer(client))
        policy = TlsPolicy(alpn=("h2",)) if other == "policy" else TlsPolicy()
        served = pair_of(authority().issue(NAME)) if other == "certificate" else pair()
        assert not again(context(served, policy=policy), client, first.tls.session)

    def test_facts_tell_it(self, version: ssl.TLSVersion) -> None:
        served, client = context(policy=TlsPolicy(alpn=("h2",))), client_ssl(most=version, alpn=("h2",))
        connection, first = met(served, TlsPeer(client))
        facts = facts_of(connection, NAME, 0.5, asked=False)
        assert (facts.version, facts.alpn, facts.resumed) == (first.tls.version(), "h2", False)
        assert (facts.server_name, facts.seconds, facts.verified, facts.certificate) == (NAME, 0.5, "", None)
        assert facts.cipher == first.tls.cipher()[0]  # type: ignore[index]  # there is one, TLS stands
        connection, _ = met(served, TlsPeer(client, session=first.tls.session))
        assert facts_of(connection, NAME, 0.5, asked=False).resumed == binding.AVAILABLE


class TestSecrets:
    def test_a_key_log_gets_the_lines_that_the_client_has(self, tmp_path: Path) -> None:
        lines: list[bytes] = []
        client = client_ssl()
        client.keylog_filename = str(tmp_path / "keys")
        met(context(write_secret=lines.append), TlsPeer(client))
        theirs = [line for line in (tmp_path / "keys").read_bytes().splitlines() if not line.startswith(b"#")]
        assert {line.split()[0] for line in lines} >= {b"CLIENT_TRAFFIC_SECRET_0", b"SERVER_TRAFFIC_SECRET_0"}
        assert set(theirs) <= {line.strip() for line in lines}

    def test_without_one_there_is_none(self) -> None:
        lines: list[bytes] = []
        met(context())
        assert lines == []


def asking(cipher: str) -> tuple[SSL.Connection, list[bytes]]:
    """A client that asks for a staple, and where it puts what it gets. Its cipher chooses the certificate."""
    got: list[bytes] = []
    wanted = SSL.Context(SSL.TLS_CLIENT_METHOD)
    wanted.set_max_proto_version(SSL.TLS1_2_VERSION)
    wanted.set_cipher_list(cipher.encode())

    def keep(_: SSL.Connection, staple: bytes, __: object) -> bool:
        got.append(staple)
        return True

    wanted.set_ocsp_client_callback(keep)
    connection = SSL.Connection(wanted, None)
    connection.set_connect_state()
    connection.request_ocsp()
    return connection, got


def between(server: SSL.Connection, client: SSL.Connection) -> None:
    """The handshake of two connections of pyOpenSSL's."""
    waiting = [client, server]
    for _ in range(20):
        for one, other in ((client, server), (server, client)):
            if one in waiting:
                try:
                    one.do_handshake()
                    waiting.remove(one)
                except SSL.WantReadError:
                    pass
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    assert not waiting


class TestStaples:
    RSA, ECDSA = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"

    def staple_for(self, served: SSL.Context, cipher: str) -> list[bytes]:
        client, got = asking(cipher)
        between(accepting(served), client)
        return got

    def response(self, kind: Any = "ECDSA", days: float = 7) -> bytes:
        """Newer OpenSSLs staple nothing but what they can read."""
        return authority().ocsp(issued(NAME, kind=kind), days=days)

    def test_each_certificate_has_its_own(self) -> None:
        ecdsa, rsa = self.response(), self.response("RSA")
        served = context(pair(), pair("RSA"), stapled={pair().fingerprint: ecdsa, pair("RSA").fingerprint: rsa})
        assert self.staple_for(served, self.RSA) == [rsa]
        assert self.staple_for(served, self.ECDSA) == [ecdsa]

    def test_one_without_gets_none(self) -> None:
        served = context(pair(), pair("RSA"), stapled={pair().fingerprint: self.response()})
        assert self.staple_for(served, self.RSA) == [b""]

    def test_a_new_one_is_served_from_then_on(self) -> None:
        stapled = {pair().fingerprint: self.response()}
        served = context(stapled=stapled)
        stapled[pair().fingerprint] = newer = self.response(days=8)
        assert self.staple_for(served, self.ECDSA) == [newer]

    def test_a_certificate_with_a_responder_may_get_its_first_later(self) -> None:
        one = authority().issue(NAME, responder="http://127.0.0.1:9/")
        named, stapled = pair_of(one), dict[str, bytes]()
        served = context(named, stapled=stapled)
        assert self.staple_for(served, self.ECDSA) == [b""]
        stapled[named.fingerprint] = response = authority().ocsp(one)
        assert self.staple_for(served, self.ECDSA) == [response]

    def test_who_does_not_ask_gets_none(self) -> None:
        met(context(stapled={pair().fingerprint: self.response()}))


class TestClients:
    CLIENTS = Authority("Clients")
    TRUST = Trust((CLIENTS.certificate,))

    def policy(self, ca: str = "/ca.pem", **rest: Any) -> TlsPolicy:
        return TlsPolicy(client=ClientAuthSettings(ca, **rest))

    @pytest.mark.parametrize("trust", [None, Trust(()), Trust((), (CLIENTS.crl(),))])
    @pytest.mark.parametrize("optional", [False, True])
    def test_without_authorities_there_is_no_context(self, trust: Trust | None, optional: bool) -> None:
        with pytest.raises(ValueError, match=r"/ca\.pem is named"):
            context(policy=self.policy(optional=optional), trust=trust)

    def test_without_the_lists_that_are_named_there_is_no_context(self) -> None:
        with pytest.raises(ValueError, match=r"/ca\.crl is named"):
            context(policy=self.policy(crl="/ca.crl"), trust=self.TRUST)

    def test_where_nobody_is_asked_nobody_is_trusted(self) -> None:
        with pytest.raises(ValueError, match="no file of them is named"):
            context(trust=self.TRUST)

    @pytest.mark.parametrize("optional", [False, True])
    def test_a_client_without_a_certificate(self, optional: bool) -> None:
        served = context(policy=self.policy(optional=optional), trust=self.TRUST)
        if optional:
            connection, _ = met(served)
            facts = facts_of(connection, NAME, 0.0, asked=True)
            assert (facts.verified, facts.certificate) == ("none", None)
        else:
            with pytest.raises(SSL.Error, match="peer did not return a certificate"):
                met(served)

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_the_certificate_of_a_client_is_in_the_facts(self, tmp_path: Path, version: ssl.TLSVersion) -> None:
        shown = self.CLIENTS.issue(subject="alice", client=True)
        served = context(policy=self.policy(), trust=self.TRUST)
        client = client_ssl(most=version)
        client.load_cert_chain(*shown.write(tmp_path))
        connection, first = met(served, TlsPeer(client))
        for _ in range(2):
            facts = facts_of(connection, NAME, 0.0, asked=True)
            assert facts.certificate is not None
            assert (facts.verified, facts.certificate.common_name) == ("ok", "alice")
            assert facts.certificate.fingerprint == shown.fingerprint
            connection, resumed = met(served, TlsPeer(client, session=first.tls.session))
            assert resumed.tls.session_reused, "it is remembered with the TLS session"

    def test_a_client_of_somebody_else_is_refused(self, tmp_path: Path) -> None:
        client = client_ssl()
        client.load_cert_chain(*Authority("Others").issue(subject="mallory", client=True).write(tmp_path))
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            met(context(policy=self.policy(), trust=self.TRUST), TlsPeer(client))

    def test_a_revoked_client_is_refused(self, tmp_path: Path) -> None:
        shown = self.CLIENTS.issue(subject="alice", client=True)
        client = client_ssl()
        client.load_cert_chain(*shown.write(tmp_path))
        policy = self.policy(crl="/ca.crl")
        met(context(policy=policy, trust=replace(self.TRUST, revocations=(self.CLIENTS.crl(),))), TlsPeer(client))
        revoked = replace(self.TRUST, revocations=(self.CLIENTS.crl(shown),))
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            met(context(policy=policy, trust=revoked), TlsPeer(client))


class TestTheSessionIdContext:
    """What OpenSSL compares when a TLS session is to be taken up again (L5)."""

    CLIENTS, OTHERS = Authority("Clients"), Authority("Others")
    TRUST = Trust((CLIENTS.certificate,), (CLIENTS.crl(),))
    CLIENT = ClientAuthSettings("/ca.pem", crl="/ca.crl")

    @pytest.fixture
    def name_of(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
        """What it is for these."""
        names: list[bytes] = []
        monkeypatch.setattr(SSL.Context, "set_session_id", lambda _, name: names.append(name))

        def name_of(client: ClientAuthSettings = self.CLIENT, trust: Trust = self.TRUST, *pairs: Pair) -> bytes:
            context(*pairs, policy=TlsPolicy(client=client), trust=trust)
            return names.pop()

        return name_of

    def test_does_not_depend_on_where_files_are(self, name_of: Callable[..., bytes]) -> None:
        assert name_of() == name_of(ClientAuthSettings("/moved/ca.pem", crl="/moved/ca.crl"))

    @pytest.mark.parametrize(
        "trust",
        [
            Trust((OTHERS.certificate,), TRUST.revocations),
            Trust((*TRUST.authorities, OTHERS.certificate), TRUST.revocations),
            Trust(TRUST.authorities, (CLIENTS.crl(7),)),
        ],
        ids=["another authority", "one more authority", "another list"],
    )
    def test_depends_on_whom_is_trusted(self, name_of: Callable[..., bytes], trust: Trust) -> None:
        assert name_of() != name_of(self.CLIENT, trust)

    @pytest.mark.parametrize("changed", [{"optional": True}, {"soft": True}])
    def test_depends_on_what_is_asked(self, name_of: Callable[..., bytes], changed: dict[str, Any]) -> None:
        assert name_of() != name_of(replace(self.CLIENT, **changed))

    def test_depends_on_what_is_served(self, name_of: Callable[..., bytes]) -> None:
        assert name_of() != name_of(self.CLIENT, self.TRUST, pair("RSA"))


class TestBackends:
    """The contexts that speak to backends."""

    def speak(self, peer: TlsPeer, **rest: Any) -> SSL.Connection:
        settings: dict[str, Any] = {
            "verify": True,
            "authorities": [authority().certificate],
            "revocations": (),
            "soft": False,
            "pair": None,
        }
        made = client_context(rest.pop("profile", "intermediate"), rest.pop("alpn", ()), **(settings | rest))
        connection = SSL.Connection(made, None)
        connection.set_connect_state()
        for _ in range(20):
            try:
                connection.do_handshake()
                return connection
            except SSL.WantReadError:
                peer.give(connection.bio_read(65536))
            peer.shake()
            connection.bio_write(peer.take())
        raise AssertionError("the handshake does not end")

    def test_a_good_backend(self) -> None:
        connection = self.speak(TlsPeer(server_ssl(alpn=("h2",)), server=True), alpn=("http/1.1", "h2"))
        assert facts_of(connection, "", 0.0, asked=False).alpn == "h2"

    def test_a_backend_of_somebody_else(self) -> None:
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            self.speak(TlsPeer(server_ssl(Authority("Others").issue(NAME)), server=True))

    def test_whoever_trusts_anybody(self) -> None:
        self.speak(TlsPeer(server_ssl(Authority("Others").issue(NAME)), server=True), verify=False)

    def test_a_backend_that_is_too_old(self) -> None:
        with pytest.raises((SSL.Error, ssl.SSLError)):
            self.speak(TlsPeer(server_ssl(most=TLS_1_2), server=True), profile="modern")

    @pytest.mark.parametrize("listed", [False, True])
    def test_a_backend_that_was_revoked(self, listed: bool) -> None:
        one = issued()
        revocations = [authority().crl(one) if listed else authority().crl()]
        peer = TlsPeer(server_ssl(one), server=True)
        if listed:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                self.speak(peer, revocations=revocations)
        else:
            self.speak(peer, revocations=revocations)

    @pytest.mark.parametrize("soft", [False, True])
    def test_a_list_that_is_out_of_date(self, soft: bool) -> None:
        peer, stale = TlsPeer(server_ssl(), server=True), [authority().crl(days=-1)]
        if soft:
            self.speak(peer, revocations=stale, soft=True)
        else:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                self.speak(peer, revocations=stale)

    def test_our_certificate_is_shown_to_who_asks(self) -> None:
        backend = server_ssl()
        backend.verify_mode = ssl.CERT_REQUIRED
        backend.load_verify_locations(cadata=authority().pem.decode())
        peer = TlsPeer(backend, server=True)
        ours = authority().issue(subject="lbproxy", client=True)
        connection = self.speak(peer, pair=pair_of(ours))
        peer.give(connection.bio_read(65536))
        assert peer.shake()
        assert peer.tls.getpeercert(binary_form=True) == ours.der


def test_a_key_that_is_not_the_certificates_is_refused() -> None:
    wrong = replace(pair(), key=issued("b.example").key)
    with pytest.raises(CertificateError, match="OpenSSL does not take it"):
        context(wrong)
