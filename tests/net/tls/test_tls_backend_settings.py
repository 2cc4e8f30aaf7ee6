"""The TLS of a pool: it is made of what its settings name, handed over as it was read, and verifies whom it meets."""

from __future__ import annotations

from contextlib import closing

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from lbproxy.addresses import Address, parse_address
from lbproxy.certificates import Trust
from lbproxy.model_tls import BackendTlsSettings, CertificateSettings
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.failures import TlsFailure
from tests.certificates.making import Authority, Issued
from tests.net.net_rig import tcp_pair
from tests.net.tls_peers import WAYS, TlsPeer, issued, pair_of, server_ssl

CA = Authority()
SYSTEM, OWN, LISTED = (
    BackendTlsSettings(),
    BackendTlsSettings(ca="/ca.pem"),
    BackendTlsSettings(ca="/ca.pem", crl="/ca.crl"),
)
SHOWING = BackendTlsSettings(certificate=CertificateSettings("/ours.pem"))


@pytest.mark.parametrize(
    ("settings", "trust"),
    [
        (OWN, None),
        (OWN, Trust(())),
        (SYSTEM, Trust((CA.certificate,))),
        (LISTED, Trust((CA.certificate,))),
        (BackendTlsSettings(crl="/ca.crl"), None),
    ],
)
def test_other_authorities_than_the_settings_name_are_a_fault(settings: BackendTlsSettings, trust: Trust) -> None:
    with pytest.raises(ValueError, match="named"):
        ClientTls(settings, trust=trust, pair=None)


def test_a_certificate_of_ours_is_handed_over_where_one_is_named() -> None:
    with pytest.raises(ValueError, match="our certificate"):
        ClientTls(SHOWING, trust=None, pair=None)
    with pytest.raises(ValueError, match="our certificate"):
        ClientTls(SYSTEM, trust=None, pair=pair_of(issued()))
    ClientTls(SHOWING, trust=None, pair=pair_of(issued()))


def test_no_file_is_read() -> None:
    """None of these is there."""
    ClientTls(OWN, trust=Trust((CA.certificate,)), pair=None)
    ClientTls(LISTED, trust=Trust((CA.certificate,), (CA.crl(),)), pair=None)


def verified(one: Issued, address: Address, way: type[MemoryChannel]) -> str | None:
    """Meet a backend at `address` that has this certificate; for whom it was asked. Raises TlsFailure."""
    tls = ClientTls(OWN, trust=Trust((CA.certificate,)), pair=None, way=lambda: way)
    theirs, ours = tcp_pair()
    with closing(theirs), closing(ours):
        asked: list[str | None] = []
        served = server_ssl(one)
        served.sni_callback = lambda _, name, __: asked.append(name)
        peer = TlsPeer(served, theirs, server=True)
        channel = tls.begin(address, ours)
        for _ in range(1000):
            wanted = channel.shake()
            peer.pump()
            if not wanted:
                break
        assert channel.established
        try:
            tls.verify(address, channel, 0.0)
        finally:
            channel.release()
    return asked[0]


NAMED, NUMBERED = parse_address("a.example:1"), parse_address("127.0.0.1:1")


@pytest.mark.parametrize("way", WAYS)
class TestTheNamesOfABackend:
    def test_are_verified(self, way: type[MemoryChannel]) -> None:
        assert verified(CA.issue("a.example"), NAMED, way) == "a.example"
        assert verified(CA.issue("127.0.0.1"), NUMBERED, way) is None
        for one, address in ((CA.issue("b.example"), NAMED), (CA.issue("127.0.0.2"), NUMBERED)):
            with pytest.raises(TlsFailure) as caught:
                verified(one, address, way)
            assert caught.value.word == "wrong_name"

    def test_have_no_final_dot_though_the_address_has_one(self, way: type[MemoryChannel]) -> None:
        assert verified(CA.issue("a.example"), Address("name", "a.example.", 1), way) == "a.example"

    @pytest.mark.parametrize("address", [NAMED, NUMBERED])
    @pytest.mark.parametrize(
        "names",
        [
            b"\x30\x0b\x82\x09\xfc.example",
            b"\x30\x07\x87\x05\x01\x02\x03\x04\x05",
        ],
        ids=["not ASCII", "an address of five bytes"],
    )
    def test_may_be_such_as_nobody_can_read(self, way: type[MemoryChannel], names: bytes, address: Address) -> None:
        extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
        with pytest.raises(TlsFailure) as caught:
            verified(CA.issue(subject="b", extensions=(extension,)), address, way)
        assert caught.value.word == "bad_certificate"

    def test_may_have_a_wildcard_among_them_that_is_none(self, way: type[MemoryChannel]) -> None:
        """Of two labels, as private authorities give it out: no client takes it, and it spoils no other name."""
        assert verified(CA.issue("*.intern", "a.example"), NAMED, way) == "a.example"
        with pytest.raises(TlsFailure) as caught:
            verified(CA.issue("*.intern"), Address("name", "x.intern", 1), way)
        assert caught.value.word == "wrong_name"
