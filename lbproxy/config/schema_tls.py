"""The tables about TLS: what a listener, a site and a pool may say of it.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from lbproxy import model_tls
from lbproxy.config.reading_tls import ExactName, FilePath, Protocol, ServerName
from lbproxy.config.readings import Flag, Word
from lbproxy.config.shapes import OneOrMore, Table, TableOr

_PROFILES: tuple[str, ...] = get_args(model_tls.Profile)
_REVOCATION = (
    "Revocation lists that are out of date, or missing for an authority: `hard` refuses, `soft` lets everybody pass."
)
_PROFILE = (
    "`modern`: TLS 1.3 only. `intermediate`: TLS 1.2 as well, with forward secrecy. `old`: for very old peers only; "
    "it brings a warning."
)
_File = Annotated[str | None, FilePath()]
_Protocols = Annotated[
    list[Annotated[str, Protocol()]], OneOrMore("is empty; leave the key out to have nothing said about protocols")
]


class CertificateTable(Table):
    """One certificate with what belongs to it, or a directory of certificates."""

    cert: Annotated[str, FilePath()] = Field(
        description="A PEM file: the certificate, then its chain, perhaps its key. Or a directory of such files."
    )
    key: _File = Field(
        default=None, description="Its private key, in PEM. Default: in the same file, or in the `.key` file beside it."
    )
    passphrase_file: _File = Field(
        default=None, description="A file with the passphrase of the private key. Default: none."
    )
    ocsp_file: _File = Field(
        default=None, description="An OCSP response in DER, to be stapled. Default: the `.ocsp` file beside it, if any."
    )


def _certificate_of(text: str) -> dict[str, object]:
    return {"cert": text}


class SiteTable(Table):
    """Server names with rules of their own. What is not written here is taken from the listener's `tls`; but a site
    with a `client_ca` of its own takes nothing about clients from there."""

    names: Annotated[
        list[
            Annotated[
                str,
                ServerName('is "*"; what is for every name stands in the tls table of the listener itself', True),
            ]
        ],
        OneOrMore("is empty; a site needs at least one name"),
    ] = Field(description="The names; `*.example` is for one more label. A certificate must cover each.")
    profile: Annotated[str | None, Word(_PROFILES)] = Field(
        default=None, description="The versions and ciphers. Default: those of the listener."
    )
    alpn: Annotated[list[Annotated[str, Protocol()]] | None, OneOrMore(None)] = Field(
        default=None, description="Protocols in the order of preference; [] for none. Default: those of the listener."
    )
    client_ca: _File = Field(
        default=None, description="A PEM file of authorities for client certificates. Default: that of the listener."
    )
    client_verify: Annotated[str | None, Word(("required", "optional", "none"))] = Field(
        default=None,
        description='`none` asks no client for a certificate. Default: "required" with a `client_ca` here, else as '
        "the listener says.",
    )
    client_crl: _File = Field(
        default=None, description="A PEM file of revocation lists for client certificates. Default: as for `client_ca`."
    )
    revocation: Annotated[str | None, Word(("hard", "soft"))] = Field(
        default=None, description="What a list that is out of date does. Default: as for `client_ca`."
    )


class ListenerTlsTable(Table):
    """Ends TLS here: clients speak TLS, and what they say goes to the pool in clear (or in TLS of the pool's own)."""

    cert: _File = Field(
        default=None,
        description="A PEM file: the certificate, then its chain, perhaps its key. Or a directory of such files. "
        "Default: none, then `certificates` is required.",
    )
    key: _File = Field(
        default=None,
        description="The private key of `cert`. Default: in the same file, or in the `.key` file beside it.",
    )
    passphrase_file: _File = Field(
        default=None, description="A file with the passphrase of the private key. Default: none."
    )
    ocsp_file: _File = Field(
        default=None,
        description="An OCSP response for `cert` in DER, to be stapled. Default: the `.ocsp` file beside it, if any.",
    )
    certificates: Annotated[
        list[Annotated[CertificateTable, TableOr(_certificate_of, "a path")]],
        OneOrMore("is empty; name at least one certificate, or leave the key out"),
    ] = Field(default=[], description="More of them: paths, or tables for those that need more than a path.")
    profile: Annotated[str, Word(_PROFILES)] = Field(default="intermediate", description=_PROFILE)
    alpn: _Protocols = Field(
        default=[], description='Protocols to agree on, in the order of preference, as in ["h2", "http/1.1"].'
    )
    unknown_name: Annotated[str, Word(("default", "refuse"))] = Field(
        default="default",
        description="A client who asks for no name or for one that no certificate covers: gets the default "
        "certificate, or an alert.",
    )
    default_name: Annotated[str | None, ExactName()] = Field(
        default=None, description="Whose certificate is the default one. Default: the first certificate."
    )
    tickets: Annotated[bool, Flag()] = Field(
        default=True, description="Let clients resume a session without a whole handshake."
    )
    ocsp: Annotated[str, Word(("fetch", "file"))] = Field(
        default="fetch",
        description="`fetch`: ask the responders that certificates name for what is stapled; `file`: staple only "
        "what files hold.",
    )
    keylog: _File = Field(
        default=None,
        description="A file for the secrets of every session, for debugging: who reads it reads all traffic. "
        "Default: none.",
    )
    client_ca: _File = Field(
        default=None,
        description="A PEM file of authorities; clients must then show a certificate under one of them. Default: none.",
    )
    client_verify: Annotated[str | None, Word(("required", "optional", "none"))] = Field(
        default=None,
        description="`optional` lets clients without a certificate in, `none` asks for none. "
        'Default: "required" with a `client_ca`.',
    )
    client_crl: _File = Field(
        default=None, description="A PEM file of revocation lists for client certificates. Default: none."
    )
    revocation: Annotated[str, Word(("hard", "soft"))] = Field(default="hard", description=_REVOCATION)
    site: list[SiteTable] = Field(default=[], description="Server names with rules of their own.")


class PoolTlsTable(Table):
    """Speaks TLS to the backends. `tls = true` takes every default."""

    verify: Annotated[bool, Flag()] = Field(
        default=True, description="Whether backends must prove who they are; `false` lets anybody between in."
    )
    ca: _File = Field(
        default=None, description="A PEM file of the authorities that count. Default: the system's authorities."
    )
    crl: _File = Field(default=None, description="A PEM file of revocation lists for backends. Default: none.")
    revocation: Annotated[str, Word(("hard", "soft"))] = Field(default="hard", description=_REVOCATION)
    server_name: Annotated[str | None, ExactName()] = Field(
        default=None, description="The name to ask for and to verify. Default: the host in the backend's address."
    )
    cert: _File = Field(
        default=None,
        description="Our own certificate with its chain, in PEM, for backends that ask for one. Default: none.",
    )
    key: _File = Field(
        default=None,
        description="The private key of `cert`. Default: in the same file, or in the `.key` file beside it.",
    )
    passphrase_file: _File = Field(
        default=None, description="A file with the passphrase of the private key. Default: none."
    )
    alpn: _Protocols = Field(default=[], description="Protocols to offer, in the order of preference.")
    profile: Annotated[str, Word(_PROFILES)] = Field(default="intermediate", description=_PROFILE)
    sessions: Annotated[bool, Flag()] = Field(
        default=True, description="Resume earlier sessions where the backend allows it: cheaper handshakes."
    )
