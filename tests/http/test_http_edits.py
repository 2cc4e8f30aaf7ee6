"""Edits of header fields: remove, set, add; and what may not be edited (X5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.edits import Edits, lines
from lbproxy.http.messages import Field
from lbproxy.http.templates import Facts, TemplateError
from lbproxy.model_http import FieldEdits

FACTS = Facts(b"https", b"a.example", b"443", b"/p", b"", b"/p", b"192.0.2.1", b"0af7")


def field(name: bytes, value: bytes) -> Field:
    return name.lower(), value, b"%b: %b\r\n" % (name, value)


def applied(edits: FieldEdits, *fields: Field) -> bytes:
    made = Edits.of(edits)
    assert made is not None
    return lines(made.apply(list(fields), FACTS))


GIVEN = (field(b"Accept", b"*/*"), field(b"X-A", b"1"), field(b"x-a", b"2"), field(b"X-B", b"3"))


def test_no_edits_are_none() -> None:
    assert Edits.of(FieldEdits()) is None


@pytest.mark.parametrize(
    ("edits", "sent"),
    [
        (FieldEdits(remove=("x-A",)), b"Accept: */*\r\nX-B: 3\r\n"),
        (FieldEdits(remove=("X-A", "x-b", "accept")), b""),
        (FieldEdits(set=(("X-a", "9"),)), b"Accept: */*\r\nX-B: 3\r\nX-a: 9\r\n"),
        (FieldEdits(set=(("X-New", "9"),)), b"Accept: */*\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\nX-New: 9\r\n"),
        (FieldEdits(add=(("X-B", "4"),)), b"Accept: */*\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\nX-B: 4\r\n"),
        (FieldEdits(remove=("X-A",), add=(("X-A", "4"),)), b"Accept: */*\r\nX-B: 3\r\nX-A: 4\r\n"),
        (
            FieldEdits(remove=("X-A", "Accept"), set=(("X-B", "{client_ip}"),), add=(("X-B", "{scheme}://{host}"),)),
            b"X-B: 192.0.2.1\r\nX-B: https://a.example\r\n",
        ),
        (FieldEdits(remove=("X-A", "X-B", "Accept"), set=(("E", " {query} "),)), b"E: \r\n"),
        (FieldEdits(remove=("X-A", "X-B", "Accept"), set=(("E", " a b "),)), b"E: a b\r\n"),
    ],
)
def test_fields_are_removed_then_set_then_added(edits: FieldEdits, sent: bytes) -> None:
    assert applied(edits, *GIVEN) == sent


def test_a_field_that_is_set_comes_once_however_often_the_client_sent_it() -> None:
    edits = FieldEdits(set=(("X-User", "nobody"),))
    forged = [field(name, b"root") for name in (b"X-User", b"x-user", b"X-USER", b"x-User")]
    assert applied(edits, *forged) == b"X-User: nobody\r\n"


def test_the_names_touched_are_told_in_lower_case() -> None:
    edits = Edits.of(FieldEdits(set=(("X-A", "1"),), add=(("X-B", "1"),), remove=("X-C",)))
    assert edits is not None
    assert edits.names == {b"x-a", b"x-b", b"x-c"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "not the name of a header field"),
        ("X A", "not the name of a header field"),
        ("X-A:", "not the name of a header field"),
        ("X-A\n", "not the name of a header field"),
        ("\u212aey", "not the name of a header field"),
        ("a" * 257, "not the name of a header field"),
        ("Content-Length", "how long a message is"),
        ("TRANSFER-ENCODING", "how long a message is"),
        ("connection", "belongs to the connection"),
        ("Upgrade", "belongs to the connection"),
        ("Host", "rewrite"),
    ],
)
def test_a_name_that_cannot_be_edited_is_refused_with_a_sentence(name: str, message: str) -> None:
    for edits in (FieldEdits(set=((name, "1"),)), FieldEdits(add=((name, "1"),)), FieldEdits(remove=(name,))):
        with pytest.raises(TemplateError, match=message):
            Edits.of(edits)


def test_a_value_that_is_no_template_is_refused() -> None:
    with pytest.raises(TemplateError, match=r"\{nobody\} is not known"):
        Edits.of(FieldEdits(set=(("X-A", "{nobody}"),)))
    with pytest.raises(TemplateError, match=r"\{1\} is a group"):
        Edits.of(FieldEdits(add=(("X-A", "{1}"),)))


NAMES = st.sampled_from(["A", "a", "B", "b-c", "B-C"])
VALUES = st.sampled_from(["", "1", "{host}", "{path}{query}"])
EDITS = st.builds(
    FieldEdits,
    set=st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple),
    add=st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple),
    remove=st.lists(NAMES, max_size=2).map(tuple),
)


@given(EDITS, st.lists(st.builds(field, NAMES.map(str.encode), st.sampled_from([b"", b"x"])), max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_fields_handed_in_are_never_changed(edits: FieldEdits, fields: list[Field]) -> None:
    made = Edits.of(edits)
    if made is None:
        return
    before = list(fields)
    after = made.apply(fields, FACTS)
    assert fields == before
    assert after is not fields
    assert [one for one in after if one[0] not in made.names] == [one for one in before if one[0] not in made.names]
    assert all(one[2] == b"%b: %b\r\n" % (one[2].partition(b":")[0], one[1]) for one in after)
    gone = {name.lower().encode() for name in (*edits.remove, *(name for name, _ in edits.set))}
    written = len(edits.set) + len(edits.add)
    assert len(after) == written + sum(one[0] not in gone for one in before)
