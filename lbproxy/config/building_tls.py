"""From the read tables about TLS to the frozen values of `lbproxy.model_tls`.

Owns what a site takes from its listener, and where relative paths begin. Opens no file.
"""

from __future__ import annotations

import os
from typing import cast

from lbproxy import model_tls
from lbproxy.config import schema_tls
from lbproxy.config.places import Path, Places


class Paths:
    """Makes paths absolute: relative ones count from the directory of `file`, without one from the current one."""

    def __init__(self, file: str | None) -> None:
        try:
            here = os.getcwd()
        except OSError:
            # The current directory was removed; what counts from it cannot be found anyway.
            here = "/"
        self._base = os.path.join(here, os.path.dirname(file) if file is not None else "")

    def absolute(self, path: str) -> str:
        """The path as it may be opened from any directory."""
        whole = os.path.join(self._base, path)
        # Behind a link ".." is another directory than the text says, so such a path stays as it is.
        return whole if ".." in whole.split("/") else os.path.normpath(whole)

    def optional(self, path: str | None) -> str | None:
        """The same; None stays."""
        return None if path is None else self.absolute(path)


def listener_tls(
    table: schema_tls.ListenerTlsTable | None, path: Path, places: Places, paths: Paths, alpn: tuple[str, ...] = ()
) -> model_tls.TlsSettings | None:
    """How a listener ends TLS; `path` is that of the table, `alpn` what is agreed on where the table says nothing."""
    if table is None:
        return None
    alpn = tuple(table.alpn) or alpn
    certificates: list[model_tls.CertificateSettings] = []
    if table.cert is not None:
        certificates.append(
            _certificate(
                table.cert, table.key, table.passphrase_file, table.ocsp_file, places.line((*path, "cert")), paths
            )
        )
    for index, one in enumerate(table.certificates):
        line = places.line((*path, "certificates", index))
        certificates.append(_certificate(one.cert, one.key, one.passphrase_file, one.ocsp_file, line, paths))
    return model_tls.TlsSettings(
        certificates=tuple(certificates),
        policy=model_tls.TlsPolicy(_profile(table.profile), alpn, _clients(table, paths)),
        sites=tuple(
            model_tls.SiteSettings(
                tuple(site.names), _site_policy(site, table, alpn, paths), places.line((*path, "site", i))
            )
            for i, site in enumerate(table.site)
        ),
        default_name=table.default_name,
        refuse_unknown=table.unknown_name == "refuse",
        tickets=table.tickets,
        ocsp_fetch=table.ocsp == "fetch",
        keylog=paths.optional(table.keylog),
    )


def backend_tls(
    table: schema_tls.PoolTlsTable | None, path: Path, places: Places, paths: Paths
) -> model_tls.BackendTlsSettings | None:
    """How a pool speaks TLS; `path` is that of the table."""
    if table is None:
        return None
    certificate = None
    if table.cert is not None:
        line = places.line((*path, "cert"))
        certificate = _certificate(table.cert, table.key, table.passphrase_file, None, line, paths)
    return model_tls.BackendTlsSettings(
        verify=table.verify,
        ca=paths.optional(table.ca),
        crl=paths.optional(table.crl),
        soft=table.revocation == "soft",
        server_name=table.server_name,
        certificate=certificate,
        alpn=tuple(table.alpn),
        profile=_profile(table.profile),
        sessions=table.sessions,
    )


def _certificate(
    cert: str, key: str | None, passphrase_file: str | None, ocsp: str | None, line: int, paths: Paths
) -> model_tls.CertificateSettings:
    return model_tls.CertificateSettings(
        paths.absolute(cert), paths.optional(key), paths.optional(passphrase_file), paths.optional(ocsp), line
    )


def _profile(word: str) -> model_tls.Profile:
    return cast(model_tls.Profile, word)


def _site_policy(
    site: schema_tls.SiteTable, table: schema_tls.ListenerTlsTable, alpn: tuple[str, ...], paths: Paths
) -> model_tls.TlsPolicy:
    return model_tls.TlsPolicy(
        _profile(site.profile or table.profile),
        alpn if site.alpn is None else tuple(site.alpn),
        _site_clients(site, table, paths),
    )


def _clients(table: schema_tls.ListenerTlsTable, paths: Paths) -> model_tls.ClientAuthSettings | None:
    return _client_auth(table.client_ca, table.client_verify, table.client_crl, table.revocation, paths)


def _site_clients(
    site: schema_tls.SiteTable, table: schema_tls.ListenerTlsTable, paths: Paths
) -> model_tls.ClientAuthSettings | None:
    if site.client_ca is not None:
        # The listener's lists speak of other authorities, and its "none" is no answer for somebody who names a CA.
        return _client_auth(site.client_ca, site.client_verify, site.client_crl, site.revocation or "hard", paths)
    return _client_auth(
        table.client_ca,
        site.client_verify or table.client_verify,
        site.client_crl or table.client_crl,
        site.revocation or table.revocation,
        paths,
    )


def _client_auth(
    ca: str | None, verify: str | None, crl: str | None, revocation: str, paths: Paths
) -> model_tls.ClientAuthSettings | None:
    if ca is None or verify == "none":
        return None
    return model_tls.ClientAuthSettings(
        paths.absolute(ca), verify == "optional", paths.optional(crl), revocation == "soft"
    )
