"""What the TLS of a pool is made of: what its settings name, handed over as it was read, and nothing else."""

from __future__ import annotations

import pytest

from lbproxy.certificates import Trust
from lbproxy.model_tls import BackendTlsSettings, CertificateSettings
from lbproxy.net.tls.clients import ClientTls
from tests.certificates.making import Authority
from tests.net.tls_peers import issued, pair_of

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
