"""Which certificate and which policy a name gets."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any

import pytest
from OpenSSL import SSL

from lbproxy.certificates import Pair
from lbproxy.model_tls import ClientAuthSettings, SiteSettings, TlsPolicy, TlsSettings
from lbproxy.net.tls.sites import Refusal, Site, Sites
from lbproxy.preamble import ClientHello
from tests.net.tls_peers import issued, pair_of

STRICT = TlsPolicy("modern", ("h2",), ClientAuthSettings("/ca.pem"))
OLD = TlsPolicy("old")
ANY = TlsPolicy()


@cache
def pair(*names: str, kind: Any = "ECDSA") -> Pair:
    return pair_of(issued(*names, kind=kind))


class Made:
    """Sites whose contexts are empty ones; `asked` is what each was to be made of."""

    def __init__(self, *pairs: Pair, **settings: Any) -> None:
        self.asked: dict[int, tuple[tuple[Pair, ...], TlsPolicy]] = {}
        self.sites = Sites(TlsSettings((), **settings), pairs, self.make)

    def make(self, pairs: tuple[Pair, ...], policy: TlsPolicy) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        self.asked[id(context)] = pairs, policy
        return context

    def choose(self, name: str | None, *alpn: bytes) -> Site | Refusal:
        return self.sites.choose(ClientHello(name, name is not None, alpn))

    def served(self, name: str | None) -> tuple[Pair, ...]:
        """With what this name is served."""
        site = self.choose(name)
        assert isinstance(site, Site)
        return self.asked[id(site.openssl)][0]

    def policy(self, name: str | None) -> TlsPolicy:
        site = self.choose(name)
        assert isinstance(site, Site)
        assert self.asked[id(site.openssl)][1] is site.policy
        return site.policy


class TestCertificates:
    def test_a_name_gets_the_certificate_that_names_it(self) -> None:
        one, other = pair("a.example"), pair("b.example")
        made = Made(one, other)
        assert made.served("a.example") == (one,)
        assert made.served("b.example") == (other,)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_an_exact_name_comes_before_a_wildcard(self, swapped: bool) -> None:
        exact, wide = pair("www.a.example"), pair("*.a.example")
        made = Made(*((wide, exact) if swapped else (exact, wide)))
        assert made.served("www.a.example") == (exact,)
        assert made.served("other.a.example") == (wide,)

    @pytest.mark.parametrize("name", ["a.example", "x.y.a.example", "b.example"])
    def test_a_wildcard_stands_for_one_label(self, name: str) -> None:
        made = Made(pair("first.example"), pair("*.a.example"))
        assert made.served(name) == (pair("first.example"),), "that is the default"

    def test_both_kinds_of_key_serve_one_name(self) -> None:
        ecdsa, rsa = pair("a.example"), pair("a.example", kind="RSA")
        assert Made(ecdsa, rsa).served("a.example") == (ecdsa, rsa)

    def test_of_two_of_one_kind_the_first_is_served(self) -> None:
        first, second = pair("a.example", "b.example"), pair("c.example", "a.example")
        made = Made(first, second)
        assert made.served("a.example") == (first,)
        assert made.served("c.example") == (second,)

    def test_names_of_one_certificate_share_a_context(self) -> None:
        """Tickets of one resume at the other, and one context is smaller than two."""
        made = Made(pair("a.example", "b.example"))
        one, other = made.choose("a.example"), made.choose("b.example")
        assert one is other
        assert len(made.asked) == 1

    def test_names_of_different_certificates_do_not(self) -> None:
        made = Made(pair("a.example"), pair("b.example"))
        assert made.choose("a.example") is not made.choose("b.example")

    def test_an_exact_certificate_of_one_kind_is_not_mixed_with_a_wildcard_of_another(self) -> None:
        exact, wide = pair("www.a.example"), pair("*.a.example", kind="RSA")
        assert Made(exact, wide).served("www.a.example") == (exact,)


class TestUnknownNames:
    @pytest.mark.parametrize("name", [None, "unknown.example"])
    def test_they_get_the_first_certificate(self, name: str | None) -> None:
        first, second = pair("a.example"), pair("b.example")
        assert Made(first, second).served(name) == (first,)

    def test_and_its_other_kind(self) -> None:
        first, other, rsa = pair("a.example"), pair("b.example"), pair("a.example", kind="RSA")
        assert Made(first, other, rsa).served(None) == (first, rsa)

    def test_or_that_of_the_default_name(self) -> None:
        first, second = pair("a.example"), pair("b.example")
        assert Made(first, second, default_name="b.example").served("unknown.example") == (second,)

    def test_which_a_wildcard_may_cover(self) -> None:
        first, wide = pair("a.example"), pair("*.b.example")
        assert Made(first, wide, default_name="www.b.example").served(None) == (wide,)

    def test_a_default_name_without_a_certificate_refuses(self) -> None:
        assert isinstance(Made(pair("a.example"), default_name="nobody.example").choose(None), Refusal)

    @pytest.mark.parametrize(("name", "said"), [(None, "no name"), ("unknown.example", "not served here")])
    def test_or_they_are_refused_with_an_alert(self, name: str | None, said: str) -> None:
        made = Made(pair("a.example"), refuse_unknown=True)
        refusal = made.choose(name)
        assert isinstance(refusal, Refusal)
        assert (refusal.word, refusal.alert) == ("unknown_name", bytes((21, 3, 3, 0, 2, 2, 112)))
        assert said in refusal.message
        assert isinstance(made.choose("a.example"), Site)

    def test_a_name_that_is_no_host_name_is_one_that_is_not_served(self) -> None:
        made = Made(pair("a.example"), refuse_unknown=True)
        refusal = made.sites.choose(ClientHello(None, named=True))
        assert isinstance(refusal, Refusal)
        assert "not served here" in refusal.message

    def test_without_any_certificate_everybody_is_refused(self) -> None:
        assert isinstance(Made().choose("a.example"), Refusal)

    def test_they_never_get_the_settings_of_a_site(self) -> None:
        """Its certificate may be shown; what it asks of its clients is not asked, and not given (L1)."""
        site = SiteSettings(("a.example",), STRICT)
        made = Made(pair("a.example"), sites=(site,), policy=OLD)
        assert made.policy("a.example") is STRICT
        assert made.policy(None) is OLD
        assert made.choose(None) is not made.choose("a.example")


class TestPolicies:
    def test_a_site_has_its_own(self) -> None:
        site = SiteSettings(("b.example",), STRICT)
        made = Made(pair("a.example"), pair("b.example"), sites=(site,), policy=ANY)
        assert made.policy("a.example") is ANY
        assert made.policy("b.example") is STRICT
        chosen = made.choose("b.example", b"h2")
        assert isinstance(chosen, Site)
        assert (chosen.alpn, chosen.asks) == ((b"h2",), True)

    def test_names_of_one_certificate_with_two_policies_share_nothing(self) -> None:
        site = SiteSettings(("b.example",), STRICT)
        made = Made(pair("a.example", "b.example"), sites=(site,))
        assert made.choose("a.example") is not made.choose("b.example")
        assert made.policy("a.example") == ANY

    def test_a_site_whose_name_only_a_wildcard_covers(self) -> None:
        site = SiteSettings(("admin.a.example",), STRICT)
        made = Made(pair("*.a.example"), sites=(site,))
        assert made.served("admin.a.example") == made.served("www.a.example")
        assert made.policy("admin.a.example") is STRICT
        assert made.policy("www.a.example") == ANY

    def test_a_site_for_a_wildcard(self) -> None:
        site = SiteSettings(("*.a.example",), STRICT)
        made = Made(pair("*.a.example"), pair("www.a.example"), pair("a.example"), sites=(site,))
        assert made.policy("other.a.example") is STRICT
        assert made.policy("www.a.example") is STRICT, "it is one of those names, whichever certificate it has"
        assert made.policy("a.example") == ANY

    def test_a_wildcard_certificate_does_not_take_the_policy_of_one_of_its_names(self) -> None:
        site = SiteSettings(("one.a.example",), OLD)
        made = Made(pair("*.a.example"), sites=(site,))
        assert made.policy("two.a.example") == ANY

    @pytest.mark.parametrize("names", [("*.int.example",), ("zzz.int.example",)])
    def test_a_name_of_a_site_without_a_certificate_is_refused(self, names: tuple[str, ...]) -> None:
        """The default would let it in under the listener's policy, to where its name leads."""
        made = Made(pair("a.int.example"), sites=(SiteSettings(names, STRICT),))
        refusal = made.choose("zzz.int.example")
        assert isinstance(refusal, Refusal)
        assert refusal.word == "unknown_name"
        assert made.policy("a.int.example") == (STRICT if names[0].startswith("*") else ANY)

    def test_nothing_of_what_made_them_is_kept(self) -> None:
        """Whoever makes contexts holds all the pairs of before: they would never be freed."""
        made = Made(pair("a.example"))
        maker = weakref.ref(made)
        sites = made.sites
        del made
        assert maker() is None
        assert sites.choose(ClientHello("a.example", True, ()))

    def test_an_exact_site_comes_before_that_of_a_wildcard(self) -> None:
        sites = SiteSettings(("*.a.example",), STRICT), SiteSettings(("www.a.example",), OLD)
        made = Made(pair("*.a.example"), sites=sites)
        assert made.policy("www.a.example") is OLD
        assert made.policy("other.a.example") is STRICT


class TestProtocols:
    POLICY = TlsPolicy(alpn=("h2", "http/1.1"))

    @pytest.mark.parametrize("offered", [(b"h2",), (b"x", b"http/1.1"), ()])
    def test_a_common_one_or_none_offered(self, offered: tuple[bytes, ...]) -> None:
        assert isinstance(Made(pair("a.example"), policy=self.POLICY).choose("a.example", *offered), Site)

    def test_no_common_one(self) -> None:
        refusal = Made(pair("a.example"), policy=self.POLICY).choose("a.example", b"smtp", b"H2")
        assert isinstance(refusal, Refusal)
        assert (refusal.word, refusal.alert) == ("no_application_protocol", bytes((21, 3, 3, 0, 2, 2, 120)))

    def test_without_protocols_of_ours_anything_may_be_offered(self) -> None:
        assert isinstance(Made(pair("a.example")).choose("a.example", b"smtp"), Site)
