"""The lines that records become: each one line, and with the escapes of the format, whatever a client has sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lbproxy import errors
from lbproxy.errors import Outcome, StartError
from lbproxy.http.record_template import FIELDS, check_template
from lbproxy.model import RecordSettings
from lbproxy.service.formats import encoder_of
from lbproxy.service.records import RecordWriter
from lbproxy.session.exchange_record import ExchangeRecord, record_of_exchange
from lbproxy.session.record import RelayRecord, record_of
from tests.session.exchange_rig import STAMP, conversation_of, exchange_of, head_of
from tests.session.session_fakes import START, Conversation

TIME = "[02/Jan/2026:03:04:05 +0000]"
# What stands between two quotes of a line, by Apache's rules.
QUOTED = r'"((?:[^"\\]|\\.)*)"'


def line(record: Any, form: Any, template: str = "") -> str:
    buffer = bytearray(b"before\n")
    encoder_of(RecordSettings("none", format=form, template=template))(record, buffer, -1)
    before, _, text = buffer.decode("ascii").partition("\n")
    assert before == "before", "it goes to the end"
    return text


def requested(head: bytes = b"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", **changes: Any) -> ExchangeRecord:
    record = record_of_exchange(exchange_of(head_of(head)), STAMP, START + 2.0, 7)
    return msgspec.structs.replace(record, **changes)


def session(outcome: Outcome = errors.OK) -> RelayRecord:
    talk = Conversation()
    relay = talk.accept()
    relay.connected()
    talk.answers(relay, 4000)
    relay.over(outcome)
    return talk.records[0]


class TestCommon:
    def test_a_request(self) -> None:
        assert line(requested(), "common") == f'192.0.2.7 - - {TIME} "GET /a?b=c HTTP/1.1" 200 300'

    @pytest.mark.parametrize(
        ("client", "host"),
        [
            ("192.0.2.7:1", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]:1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("unix", "unix"),
        ],
    )
    def test_the_client_has_no_port(self, client: str, host: str) -> None:
        assert line(requested(client=client), "common").split()[0] == host

    @pytest.mark.parametrize("month", range(1, 13))
    def test_months_have_names(self, month: int) -> None:
        text = line(requested(ts=f"2000-{month:02d}-10T13:55:36.789Z"), "common")
        name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]
        assert f" [10/{name}/2000:13:55:36 +0000] " in text

    def test_what_is_missing_is_a_dash(self) -> None:
        assert line(requested(status=0, bytes_out=0, method=""), "common").endswith('"-" - -')

    def test_a_connection_that_asked_for_nothing(self) -> None:
        conversation = conversation_of()
        conversation.outcome = errors.TLS_HANDSHAKE
        record = record_of(conversation, STAMP, START + 1, 0)
        assert line(record, "common") == f'192.0.2.7 - - {TIME} "-" - -'

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [
            (errors.OK, "200"),
            (errors.NO_BACKEND, "503"),
            (errors.CONNECT_TIMEOUT, "504"),
            (errors.BACKEND_TLS, "502"),
            (errors.BACKEND_TLS_CUT, "-"),
            (errors.CLIENT_GONE_IN_QUEUE, "499"),
            (errors.CLIENT_GONE_IN_DATA, "499"),
            (errors.CLIENT_IDLE, "-"),
        ],
    )
    def test_a_tcp_session(self, outcome: Outcome, status: str) -> None:
        assert line(session(outcome), "common") == f'192.0.2.7 - - {TIME} "TCP web/a -" {status} 4000'


class TestCombined:
    def test_a_request(self) -> None:
        text = line(requested(referer="http://x/", user_agent="curl/8"), "combined")
        assert text == f'192.0.2.7 - - {TIME} "GET /a?b=c HTTP/1.1" 200 300 "http://x/" "curl/8"'

    def test_dashes(self) -> None:
        assert line(requested(), "combined").endswith(' 300 "-" "-"')
        assert line(session(), "combined").endswith(' 4000 "-" "-"')

    @pytest.mark.parametrize(
        ("octets", "text"),
        [
            (b'a"b', '"a\\"b"'),
            (b"a\\b", '"a\\\\b"'),
            (b"a\tb", '"a\\tb"'),
            (b"\xc3\xa9", '"\\xc3\\xa9"'),
            (b'x" 200 1 "', '"x\\" 200 1 \\""'),
            (b"\\", '"\\\\"'),
        ],
    )
    def test_odd_bytes_of_a_client(self, octets: bytes, text: str) -> None:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: %b\r\n\r\n" % octets
        assert line(requested(head), "combined").endswith(f'300 "-" {text}')

    @pytest.mark.parametrize(
        ("one", "text"), [("\r\n", "\\r\\n"), ("\x1b\x00\x7f", "\\x1b\\x00\\x7f"), ("\v\b", "\\v\\b")]
    )
    def test_control_characters(self, one: str, text: str) -> None:
        assert line(requested(user_agent=one), "combined").endswith(f' "{text}"')

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(max_size=30), min_size=4, max_size=4))
    def test_a_line_has_its_parts_whatever_is_in_them(self, texts: list[str]) -> None:
        path, query, referer, user_agent = texts
        text = line(requested(path=path, query=query, referer=referer, user_agent=user_agent), "combined")
        assert text.isprintable()
        assert re.fullmatch(rf"192\.0\.2\.7 - - \[[^]]+\] {QUOTED} 200 300 {QUOTED} {QUOTED}", text)


class TestTemplates:
    @pytest.mark.parametrize(
        ("template", "text"),
        [
            ("{client} {method} {path} {status}", "192.0.2.7:40007 GET /a 200"),
            ("{t_total_ms} {t_queue_ms} {reused} {retries}", "2000.0 0.0 false 0"),
            ("{{{pool}}} 100% \\n", "{web} 100% \\n"),
            ("{referer} {namespace}", "- -"),
            ("no field", "no field"),
            ("é {status}", "é 200"),
        ],
    )
    def test_a_request(self, template: str, text: str) -> None:
        buffer = bytearray()
        encoder_of(RecordSettings("none", format="template", template=template))(requested(), buffer, -1)
        assert buffer.decode() == text

    def test_a_time_that_was_never_reached(self) -> None:
        one = requested(t_connect_ms=-1.0, t_first_byte_ms=-1)
        assert line(one, "template", "{t_connect_ms} {t_first_byte_ms}") == "-1 -1"

    def test_a_tcp_session_has_no_path(self) -> None:
        assert line(session(), "template", "{client} {path} {status} {group}") == "192.0.2.7:40007 - - -"

    def test_every_field_of_both_kinds_but_lists(self) -> None:
        fields = [field.name for kind in (ExchangeRecord, RelayRecord) for field in msgspec.structs.fields(kind)]
        assert list(FIELDS) == [name for name in dict.fromkeys(fields) if name != "tries"]
        for record in (requested(), session()):
            assert len(line(record, "template", " ".join(f"{{{name}}}" for name in FIELDS)).split()) == len(FIELDS)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=50))
    def test_what_a_client_sends_stays_in_its_place(self, text: str) -> None:
        filled = line(requested(path=text), "template", '"{path}"')
        assert filled.isprintable()
        assert re.fullmatch(QUOTED, filled)

    @pytest.mark.parametrize(
        ("template", "sentence"),
        [
            ("{hots}", "{hots} is no field of a record that a text can hold; did you mean {host}?"),
            ("{tries}", "{tries} is no field of a record"),
            ("{qqqqqq}", "there are {ts}, {path}, {status} and others"),
            ("{}", "{} is no field"),
            ("{ host }", "{ host } is no field"),
            ("{host", 'there is a lonely "{": a literal brace is written twice'),
            ("host}", 'there is a lonely "}"'),
        ],
    )
    def test_mistakes_are_told(self, template: str, sentence: str) -> None:
        told = check_template(template)
        assert told is not None
        assert sentence in told

    @pytest.mark.parametrize("template", ["", "x", "{ts}", "{{}}", "{{ts}}", "{path}{path}"])
    def test_good_ones_are_not(self, template: str) -> None:
        assert check_template(template) is None


class TestTheWriter:
    def test_goes_by_the_format(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "r", Clock()
        writer = RecordWriter(RecordSettings("file", str(path), format="common"), clock)
        writer.write(requested())
        writer.configure(RecordSettings("file", str(path), format="template", template="{path}"))
        writer.write(requested())
        writer.configure(RecordSettings("file", str(path)))
        writer.write(requested())
        writer.close()
        first, second, third = path.read_text().splitlines()
        assert first.startswith("192.0.2.7 - - ")
        assert second == "/a"
        assert msgspec.json.decode(third, type=ExchangeRecord) == requested()

    def test_a_bad_template_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "r"
        writer = RecordWriter(RecordSettings("file", str(path)), Clock())
        with pytest.raises(StartError, match=r"did you mean \{host\}"):
            writer.configure(RecordSettings("file", str(path), format="template", template="{hots}"))
        writer.write(requested())
        writer.close()
        assert path.read_text().startswith("{")
