"""Reading ClientHellos built by hand: every case whole, byte by byte, cut anywhere, and with bytes behind it."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.preamble import (
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    ClientHello,
    HelloReader,
    NotHello,
    PreambleError,
    alert,
    looks_like_http,
)
from lbproxy.preamble.hello import MAX_HELLO
from tests.preamble.hellos import (
    ALPN,
    ENCRYPTED_HELLO,
    KEY_SHARE,
    SERVER_NAME,
    SUPPORTED_VERSIONS,
    alpn,
    body,
    every_way,
    extension,
    hello,
    in_records,
    message,
    read,
    record,
    server_name,
    vector,
    versions,
)

quick = settings(deadline=None, max_examples=200)

GREASE = [0x0101 * (16 * high + 10) for high in range(16)]
# The shape of a browser's: GREASE in every list, an encrypted hello, a post-quantum key share.
BROWSER = (
    extension(GREASE[2], b""),
    server_name(b"www.example.com"),
    extension(23, b""),
    extension(0xFF01, b"\0"),
    extension(10, vector(2, bytes.fromhex("1a1a11ec001d0017"))),
    extension(11, b"\x01\0"),
    extension(35, b""),
    alpn(b"h2", b"http/1.1"),
    extension(5, b"\x01\0\0\0\0"),
    extension(13, vector(2, bytes.fromhex("0403080404010503"))),
    extension(KEY_SHARE, vector(2, bytes.fromhex("1a1a000100") + b"\x11\xec" + vector(2, bytes(1216)))),
    versions(GREASE[5], 0x0304, 0x0303),
    extension(ENCRYPTED_HELLO, bytes(250)),
    extension(GREASE[9], b"\0"),
)
SEEN = ClientHello("www.example.com", True, (b"h2", b"http/1.1"), (0x0304, 0x0303))
PLAIN = ClientHello(versions=(0x0303,))


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (hello(*BROWSER), SEEN),
        (hello(*reversed(BROWSER)), SEEN),
        (hello(), PLAIN),
        (hello(b""), PLAIN),
        (record(message(body(legacy=0x0300))), ClientHello(versions=(0x0300,))),
        (record(message(body(session_id=b"\0", suites=b"\0\2\0\1"))), PLAIN),
        (record(message(body()), version=0x0300), PLAIN),
        (record(message(body()), version=0x03FF), PLAIN),
        (hello(versions(0x0304)), ClientHello(versions=(0x0304,))),
        (hello(versions(*GREASE)), ClientHello()),
        (hello(versions(0x0A1A, 0x7F1C)), ClientHello(versions=(0x0A1A, 0x7F1C))),
        (
            hello(alpn(b"\x0a\x0a", b"http/1.0", b"\0\xff")),
            ClientHello(alpn=(b"\x0a\x0a", b"http/1.0", b"\0\xff"), versions=(0x0303,)),
        ),
        (hello(alpn(b"x" * 255)), ClientHello(alpn=(b"x" * 255,), versions=(0x0303,))),
    ],
)
def test_a_client_hello_is_read(data: bytes, seen: ClientHello) -> None:
    assert every_way(data) == seen


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (b"ex.com", "ex.com"),
        (b"a.b.ex.com", "a.b.ex.com"),
        (b"EX.Com", "ex.com"),
        (b"ex.com.", "ex.com"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"_dmarc.ex.com", "_dmarc.ex.com"),
        (b"localhost", "localhost"),
        (b"host.7", "host.7"),
        (b".".join([b"a" * 63] * 3 + [b"a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
        (b"*.ex.com", None),
        (b"*", None),
        (b"10.0.0.1", None),
        (b"10.0.0.1.", None),
        (b"::1", None),
        (b"[::1]", None),
        (b"::ffff:10.0.0.1", None),
        (b"a" * 64, None),
        (b".".join([b"a" * 63] * 4), None),
        (b"a" * 256, None),
        (b"ex.com\0", None),
        (b"ex.com\n", None),
        (b"\0", None),
        (b"../../etc/x", None),
        (b"ex..com", None),
        (b"ex.com..", None),
        (b".", None),
        (b" ex.com", None),
        (b"ex.com:443", None),
        (b"\xe2\x84\xaa.example", None),
        ("bücher.example".encode(), None),
        (b"\xff\xfe", None),
    ],
)
def test_a_server_name_is_a_host_name_or_none_at_all(name: bytes, seen: str | None) -> None:
    assert every_way(hello(server_name(name))) == ClientHello(seen, True, versions=(0x0303,))


@pytest.mark.parametrize(
    "content",
    [
        vector(2, b"\x01" + vector(2, b"ex.com")),
        vector(2, b"\xff"),
        vector(2, b"\x01\xff\xff"),
        vector(2, b"\0" + vector(2, b"ex.com") + b"\x01" + vector(2, b"other")),
        vector(2, b"\x01" + vector(2, b"other") + b"\0" + vector(2, b"ex.com")),
    ],
)
def test_a_name_of_an_unknown_type_leaves_the_client_named_and_nameless(content: bytes) -> None:
    assert every_way(hello(extension(SERVER_NAME, content))) == ClientHello(None, True, versions=(0x0303,))


def l9(what: str) -> tuple[str, str]:
    return "L9", what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "server_name list"),
        (b"\0", "server_name list"),
        (b"\0\0", "server_name list"),
        (vector(2, b""), "server_name list"),
        (vector(2, b"\0\0\x01a") + b"x", "server_name list"),
        (b"\0\x05\0\0\x01a", "server_name list"),
        (vector(2, b"\0"), "host name whose length"),
        (vector(2, b"\0\0"), "host name whose length"),
        (vector(2, b"\0\0\0"), "host name whose length"),
        (vector(2, b"\0\0\x02a"), "host name whose length"),
        (vector(2, b"\0\0\x01a\0"), "host name whose length"),
        (vector(2, b"\0\0\x01a\0\0\x01b"), "more than one host name"),
        (vector(2, b"\0\0\x01a\0\0\x01a"), "more than one host name"),
    ],
)
def test_a_server_name_extension_that_contradicts_itself_is_refused(content: bytes, what: str) -> None:
    verdict = every_way(hello(extension(SERVER_NAME, content), alpn(b"h2")))
    assert isinstance(verdict, tuple)
    assert verdict[0] == "L9"
    assert what in verdict[1]


GOOD = body(server_name(b"a.example"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (hello(extension(ALPN, b"")), "ALPN list"),
        (hello(extension(ALPN, b"\0\0")), "ALPN list"),
        (hello(extension(ALPN, vector(2, b"\x02h2") + b"x")), "ALPN list"),
        (hello(extension(ALPN, vector(2, b"\0"))), "ALPN protocol"),
        (hello(extension(ALPN, vector(2, b"\x02h2\0"))), "ALPN protocol"),
        (hello(extension(ALPN, vector(2, b"\x03h2"))), "ALPN protocol"),
        (hello(extension(SUPPORTED_VERSIONS, b"")), "supported_versions"),
        (hello(extension(SUPPORTED_VERSIONS, b"\0")), "supported_versions"),
        (hello(extension(SUPPORTED_VERSIONS, b"\x01\x03")), "supported_versions"),
        (hello(extension(SUPPORTED_VERSIONS, b"\x03\x03\x04\x03")), "supported_versions"),
        (hello(extension(SUPPORTED_VERSIONS, b"\x02\x03\x04\x03")), "supported_versions"),
        (hello(extension(SUPPORTED_VERSIONS, b"\x02\x03\x04\x03\x03")), "supported_versions"),
        (hello(server_name(b"a"), server_name(b"a")), "extension 0 twice"),
        (hello(extension(10, b"ab"), extension(10, b"ab")), "extension 10 twice"),
        (hello(extension(GREASE[0], b""), extension(GREASE[0], b"")), "extension 2570 twice"),
        (hello(b"\0"), "reaches past the end"),
        (hello(b"\0\x17\0"), "reaches past the end"),
        (hello(b"\0\x17\0\x01"), "reaches past the end"),
        (hello(b"\0\x17\xff\xff"), "reaches past the end"),
        (record(message(body(server_name(b"a"), behind=b"x"))), "do not end where it ends"),
        (record(message(body(behind=b"\0"))), "do not end where it ends"),
        (record(message(body(behind=b"\0\x01"))), "do not end where it ends"),
        (record(message(GOOD[:-1])), "do not end where it ends"),
        (record(message(GOOD[:-1]) + b"e"), "do not end where it ends"),
        (record(message(body(session_id=vector(1, bytes(33))))), "session id"),
        (record(message(body(session_id=b"\x20" + bytes(7), suites=b"", methods=b""))), "session id"),
        (record(message(body(suites=b"\0\0"))), "cipher suites"),
        (record(message(body(suites=vector(2, b"\x13\x01\x13")))), "cipher suites"),
        (record(message(body(suites=b"\xff\xfe"))), "cipher suites"),
        (record(message(body(methods=b"\0"))), "compression methods"),
        (record(message(body(methods=b"\xff"))), "compression methods"),
        (record(message(b"")), "has 0 bytes, the shortest one has 41"),
        (record(message(body(session_id=b"\0", suites=b"\0\2\0\1")[:-1])), "has 40 bytes"),
        (record(message(GOOD, kind=0)), "message has type 0"),
        (record(message(GOOD, kind=2)), "message has type 2"),
        (record(message(GOOD, kind=2)[:1]), "message has type 2"),
        (record(b"\x01") + record(b"", kind=22), "record of the ClientHello has 0 bytes"),
        (record(b""), "record of the ClientHello has 0 bytes"),
        (record(b"", size=MAX_HELLO + 1), "has 16385 bytes, allowed are 1 to 16384"),
        (record(b"", size=0xFFFF), "has 65535 bytes, allowed are 1 to 16384"),
        (record(message(GOOD)[:9]) + record(b"\x01\0", kind=21), "record of type 21, version 3"),
        (record(message(GOOD)[:9]) + record(message(GOOD)[9:], version=0x0203), "record of type 22, version 2"),
        (record(b"\x01\0\x3f\xfd"), "has 16385 bytes, allowed are 16384"),
        (record(b"\x01\0\x40") + record(b"\0"), "has 16388 bytes, allowed are 16384"),
        (record(b"\x01\xff\xff\xff"), "has 16777219 bytes"),
    ],
)
def test_a_malformed_client_hello_is_refused(data: bytes, what: str) -> None:
    verdict = every_way(data)
    assert isinstance(verdict, tuple)
    assert verdict[0] == "L9"
    assert what in verdict[1]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "L10"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "L10"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n", "L10"),
        (bytes(40), "L10"),
        (b"\xff" * 40, "L10"),
        (b"\x15\x03\x03\0\x02\x02\x28", "L10"),
        (b"\x17\x03\x03\0\x02ab", "L10"),
        (b"\x16\x02\x00\0\x02\x01\x00", "L10"),
        (b"\x16\xfe\xfd\0\0\0\0", "L10"),
        (b"\x80\x2e\x01\x00\x02\x00\x15\0\0\0\x10" + bytes(37), "L7"),
        (b"\x80\x2e\x01\x03\x01\x00\x15\0\0\0\x10" + bytes(37), "L7"),
        (b"\x80\x2e\x04\x00\x02", "L10"),
    ],
)
def test_what_is_no_tls_of_today_is_told_apart(data: bytes, rule: str) -> None:
    verdict = every_way(data)
    assert isinstance(verdict, tuple)
    assert verdict[0] == rule


def test_a_wrong_first_byte_is_told_on_the_first_byte() -> None:
    for first in set(range(256)) - {22, 0x80}:
        assert read(bytes((first,))) == (
            "L10",
            f"the connection does not begin with TLS: its first byte is 0x{first:02x}",
        )
    assert read(b"\x16") is None
    assert read(b"\x16\x02") == ("L10", "the connection does not begin with TLS: its second byte is 0x02")
    # Only its third byte tells a hello of SSLv2.
    assert read(b"\x80\x2e") is None


@pytest.mark.parametrize("data", [hello(*BROWSER), in_records(message(body(*BROWSER)), 100), hello()])
def test_every_beginning_of_a_good_hello_waits_for_more(data: bytes) -> None:
    assert {read(data[:end]) for end in range(len(data))} == {None}
    assert {read(data[:end], *range(end)) for end in range(0, len(data), 7)} == {None}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100, 1000, 16384])
def test_a_message_may_come_in_records_of_any_size(size: int) -> None:
    assert every_way(in_records(message(body(*BROWSER)), size)) == SEEN
    assert every_way(in_records(message(body(server_name(b"A.example"))), size)) == ClientHello(
        "a.example", True, versions=(0x0303,)
    )


def of_size(size: int) -> bytes:
    """A whole message of exactly that many bytes."""
    frame = len(message(body(server_name(b"a.example"), extension(21, b""))))
    return message(body(server_name(b"a.example"), extension(21, bytes(size - frame))))


def test_sixteen_kibibytes_are_the_longest_message() -> None:
    named = ClientHello("a.example", True, versions=(0x0303,))
    longest = of_size(MAX_HELLO)
    assert len(longest) == MAX_HELLO
    assert every_way(record(longest)) == every_way(in_records(longest, 1000)) == named
    assert every_way(in_records(of_size(MAX_HELLO + 1), 1000)) == l9(
        "the ClientHello has 16385 bytes, allowed are 16384"
    )


def test_records_of_next_to_nothing_do_not_multiply_what_is_kept() -> None:
    refused = l9("the ClientHello takes more than 32768 bytes, so small are its records")
    dribble = in_records(of_size(MAX_HELLO), 1)
    assert read(dribble) == read(dribble, *range(0, len(dribble), 6)) == refused
    assert read(dribble[:32768]) is None
    assert read(in_records(of_size(5000), 1)) == ClientHello("a.example", True, versions=(0x0303,))


def test_the_reader_tells_how_many_bytes_it_needs_and_does_nothing_before_them() -> None:
    data = hello(*BROWSER)
    reader = HelloReader()
    steps: list[int] = []
    for end in range(len(data)):
        reader.feed(data[:end])
        if [reader.needed] != steps[-1:]:
            steps.append(reader.needed)
    assert steps == [1, 2, 5, 6, 7, 8, 9, len(data)]
    assert reader.feed(data) == SEEN


def test_single_bytes_cost_no_more_than_a_look_each() -> None:
    def seconds(data: bytes) -> float:
        # Cut beforehand: that part is the caller's.
        beginnings = [data[: end + 1] for end in range(len(data))]
        reader = HelloReader()
        began = time.perf_counter()
        for beginning in beginnings:
            reader.feed(beginning)
        spent = time.perf_counter() - began
        assert reader.feed(data) is not None
        return spent

    # threats.md section 1 gives 50 ms to one callback; here it is thousands of them.
    assert min(seconds(record(of_size(MAX_HELLO))) for _ in range(3)) < 0.05
    assert min(seconds(in_records(of_size(2000), 1)) for _ in range(3)) < 0.1


def test_four_thousand_extensions_are_read_in_one_short_callback() -> None:
    data = hello(*[extension(kind, b"") for kind in range(100, 4100)])
    began = time.perf_counter()
    assert read(data) == PLAIN
    assert time.perf_counter() - began < 0.05


def test_an_answer_is_final() -> None:
    reader = HelloReader()
    assert reader.feed(hello(*BROWSER)) == reader.feed(hello(*BROWSER) + bytes(99)) == SEEN
    reader = HelloReader()
    for data in (b"G", b"GET"):
        with pytest.raises(NotHello) as told:
            reader.feed(data)
        assert told.value.rule == "L10"
    assert isinstance(told.value, PreambleError)


@pytest.mark.parametrize(
    ("data", "is_http"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"GET /", True),
        (b"OPTIONS * HTTP/1.1", True),
        (b"POST http://ex.com/ HTTP/1.1", True),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True),
        (b"", False),
        (b"GET", False),
        (b"GET ", False),
        (b"get / HTTP/1.1", False),
        (b" GET /", False),
        (b"\nGET /", False),
        (b"GET  /", False),
        (b"SSH-2.0-x", False),
        (b"HELO ex.com", False),
        (b"X" * 33 + b" /", False),
        (b"\x16\x03\x01 /", False),
    ],
)
def test_plain_http_is_recognised_by_its_request_line(data: bytes, is_http: bool) -> None:
    assert looks_like_http(data) is is_http


def test_an_alert_is_one_fatal_record_in_the_clear() -> None:
    assert alert(UNRECOGNIZED_NAME).hex() == "15030300020270"
    assert alert(NO_APPLICATION_PROTOCOL).hex() == "15030300020278"
    with pytest.raises(ValueError, match="range"):
        alert(256)


names = st.from_regex(rb"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,10}){1,3}", fullmatch=True)


@quick
@given(
    names,
    st.lists(st.binary(min_size=1, max_size=255), max_size=4),
    st.lists(st.sampled_from([0x0304, 0x0303, 0x0302, 0x7F1C]), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from([*GREASE, *range(17, 43), ENCRYPTED_HELLO]), st.binary(max_size=60), max_size=8),
    st.randoms(use_true_random=False),
    st.integers(1, 400),
)
def test_what_was_built_is_what_is_read(
    name: bytes, protocols: list[bytes], numbers: list[int], others: dict[int, bytes], chance: Random, size: int
) -> None:
    parts = [server_name(name), versions(*numbers), *([alpn(*protocols)] if protocols else [])]
    parts += [extension(kind, content) for kind, content in others.items()]
    chance.shuffle(parts)
    data = in_records(message(body(*parts)), size)
    assert read(data, *range(0, len(data), 13)) == ClientHello(name.decode(), True, tuple(protocols), tuple(numbers))


@quick
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"\x16\x03\x01" + tail)))
def test_any_bytes_get_a_verdict_that_does_not_depend_on_the_split(data: bytes) -> None:
    assert read(data, *range(len(data))) == read(data)


@quick
@given(st.binary(max_size=200), st.booleans())
def test_any_message_gets_a_verdict_that_does_not_depend_on_the_split(content: bytes, extended: bool) -> None:
    whole = body(content) if extended else content
    data = record(message(whole))
    verdict = read(data)
    assert verdict is not None
    assert read(data, *range(len(data))) == read(in_records(message(whole), 3)) == verdict
