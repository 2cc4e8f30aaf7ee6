"""The pure parts of the benchmark: reading results, ratios, targets, tables. Nothing is started here."""

import importlib.util
import json
import socket
import tempfile
import threading
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import select
from bench.children import free_ports
from bench.http_load import Download
from bench.http_serve import CHUNK, SIZES, body, chunked_answer, plain_answer
from bench.load import LoadFailed, percentile
from bench.meters import Memory, parse_smaps_rollup
from bench.peers import PEERS, lbproxy, lbproxy_one_route, lbproxy_plain, parse_modules_path, parse_tls_library
from bench.peers_http import PREFIXES, ROUTES, haproxy_configuration, nginx_configuration, proxypy, proxypy_version
from bench.places import HTTP_FRONTS, Front, NotInstalled, Place
from bench.plan import all_rows
from bench.report import Metric, RowResult, Target, as_json, cells, markdown, median_sample, plain, ratio, row_lines
from bench.rows import Scale, check_offers, disturbance, first_bytes, parse_result, parse_wrk, scaled
from bench.rows_http import check
from bench.tls import GROUP_NUMBER, NAME, SCSV_NUMBER, SUITE_NUMBER, Material, make_material, offers, split
from bench.tls_load import Records
from bench.websocket import HELLO, KEY, PAYLOAD, RETURNED, SENT, accepted, digest, echo, field, masked

WRK = """\
Running 2s test @ http://127.0.0.1:4711/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   849.36us  312.17us   9.88ms   91.50%
    Req/Sec    75.10k     2.06k   78.37k    85.00%
  149563 requests in 2.01s, 23.25MB read
Requests/sec:  74410.12
Transfer/sec:     11.57MB
"""

SMAPS = """\
560ec7789000-7fff57e8d000 ---p 00000000 00:00 0                          [rollup]
Rss:                1636 kB
Pss:                 364 kB
Pss_Dirty:           112 kB
Shared_Clean:       1472 kB
Private_Clean:        52 kB
Private_Dirty:       112 kB
"""


class ReadingTests(SynchronousTestCase):
    """What other programs print is read as what it means, or refused."""

    def test_wrk_report(self) -> None:
        """Requests and seconds are read from wrk's report, whatever unit it chose."""
        assert parse_wrk(WRK) == {"requests": 149563.0, "seconds": 2.01}
        assert parse_wrk("  60 requests in 1.50m, 1MB read")["seconds"] == 90.0
        assert parse_wrk("  60 requests in 500.00ms, 1MB read")["seconds"] == 0.5

    def test_wrk_errors(self) -> None:
        """A run with errors is no measurement."""
        for line in (
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
            "  Non-2xx or 3xx responses: 12\n",
        ):
            with pytest.raises(LoadFailed):
                parse_wrk(WRK + line)
        for report in ("unable to connect to 127.0.0.1:1 Connection refused\n", WRK.replace("149563", "0")):
            with pytest.raises(LoadFailed):
                parse_wrk(report)

    def test_load_result(self) -> None:
        """The last line of a load is its result; an error or silence is raised with its words."""
        assert parse_result('noise\n{"requests": 3, "seconds": 0.5}\n') == {"requests": 3.0, "seconds": 0.5}
        with pytest.raises(LoadFailed, match="closed a stream"):
            parse_result('{"error": "the proxy closed a stream"}\n')
        with pytest.raises(LoadFailed, match="Traceback"):
            parse_result("", "Traceback ...")

    def test_memory(self) -> None:
        """Private memory is clean and dirty; Pss is not taken for Pss_Dirty."""
        assert parse_smaps_rollup(SMAPS) == Memory(private=164 * 1024, pss=364 * 1024)

    def test_nginx_modules(self) -> None:
        """The directory of nginx's modules comes from nginx."""
        built = "configure arguments: --with-x --modules-path=/opt/nginx/modules --with-stream=dynamic"
        assert parse_modules_path(built) == "/opt/nginx/modules"
        assert parse_modules_path("configure arguments: --with-stream") is None

    def test_haproxy_library(self) -> None:
        """HAProxy's TLS library is the one it runs on, not the one it was built with."""
        told = (
            "Built with OpenSSL version : OpenSSL 3.0.11 19 Sep 2023\n"
            "Running on OpenSSL version : OpenSSL 3.0.22 25 Aug 2026\n"
        )
        assert parse_tls_library(told) == "OpenSSL 3.0.22"
        assert parse_tls_library("Running on OpenSSL version : AWS-LC 1.30.0") == "AWS-LC 1.30.0"
        assert parse_tls_library("Built without OpenSSL support") is None


def hello_of(suites: list[int], groups: list[int]) -> bytes:
    """A ClientHello in a record, with another extension on either side of that of the groups."""

    def field(content: bytes, size: int) -> bytes:
        return len(content).to_bytes(size) + content

    def numbers(values: list[int]) -> bytes:
        return field(b"".join(value.to_bytes(2) for value in values), 2)

    extensions = b"\0\x17" + field(b"", 2) + b"\0\x0a" + field(numbers(groups), 2) + b"\0\x2b" + field(b"\2\3\4", 2)
    body = b"\3\3" + bytes(32) + field(bytes(32), 1) + numbers(suites) + field(b"\0", 1) + field(extensions, 2)
    return b"\x16\3\1" + field(b"\1" + field(body, 3), 2)


class OfferTests(SynchronousTestCase):
    """A client whose offer is not that of the run measures nothing."""

    def test_offer(self) -> None:
        """Suites and groups are read in their order; the signal among the suites is none."""
        hello = hello_of([0x1302, SUITE_NUMBER, SCSV_NUMBER], [GROUP_NUMBER, 0x0017])
        assert offers(hello) == ([0x1302, SUITE_NUMBER], [GROUP_NUMBER, 0x0017])

    def test_agreed(self) -> None:
        """The one suite and the one group pass; more, others or none do not."""
        check_offers(hello_of([SUITE_NUMBER, SCSV_NUMBER], [GROUP_NUMBER]))
        for suites, groups in (
            ([SUITE_NUMBER, 0x1302], [GROUP_NUMBER]),
            ([SUITE_NUMBER], [0x0017]),
            ([SUITE_NUMBER], [GROUP_NUMBER, 0x11EC]),
            ([], []),
        ):
            with pytest.raises(LoadFailed, match="the load offers"):
                check_offers(hello_of(suites, groups))

    def test_no_hello(self) -> None:
        """What is no ClientHello, or only a part of one, is refused wherever it is cut."""
        hello = hello_of([SUITE_NUMBER], [GROUP_NUMBER])
        for data in (b"GET / HTTP/1.1\r\n\r\n", *(hello[:length] for length in range(len(hello)))):
            with pytest.raises(LoadFailed, match="no ClientHello"):
                check_offers(data)

    def test_field_beyond_the_end(self) -> None:
        """A length that promises more than there is raises, for the length itself, too."""
        assert split(b"\0\2abc", 2) == (b"ab", b"c")
        for data in (b"\0\3ab", b"\0", b""):
            with pytest.raises(ValueError, match="beyond the end"):
                split(data, 2)

    def test_first_bytes(self) -> None:
        """A client that only looks whether somebody listens is passed over for the one that speaks."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(5)
            socket.create_connection(listening.getsockname()).close()
            with socket.create_connection(listening.getsockname()) as client:
                client.sendall(b"hello")
                assert first_bytes(listening) == b"hello"


class RecordTests(SynchronousTestCase):
    """Downloads are counted by their records."""

    def setUp(self) -> None:
        """Two ends of a TCP connection: MSG_TRUNC drops bytes on TCP only."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.proxy = socket.create_connection(listening.getsockname())
            self.raw, _ = listening.accept()
        self.addCleanup(self.proxy.close)
        self.addCleanup(self.raw.close)
        self.records = Records(self.raw)

    def read(self, data: bytes) -> None:
        """Send and read all; the socket blocks until it is there, and then no more."""
        self.proxy.sendall(data)
        while len(self.raw.recv(len(data), socket.MSG_PEEK)) < len(data):
            pass
        self.raw.setblocking(False)
        self.records.read()
        self.raw.setblocking(True)

    def test_payload(self) -> None:
        """Headers, inner types and tags are no payload, whole or byte by byte."""
        one = b"\x17\3\3\0\x1b" + bytes(27)
        self.read(2 * one)
        assert self.records.payload == 20
        for position in range(len(one)):
            self.read(one[position : position + 1])
        assert self.records.payload == 30

    def test_other_records(self) -> None:
        """An alert in the clear is no download."""
        with pytest.raises(LoadFailed, match="type 21"):
            self.read(b"\x15\3\3\0\2\2\x28")

    def test_end(self) -> None:
        """A stream that ends, between records or within one, is a failure."""
        self.read(b"\x17\3\3\0\x1b" + bytes(20))
        self.proxy.close()
        with pytest.raises(LoadFailed, match="closed"):
            self.records.read()


class HttpTests(SynchronousTestCase):
    """What the backend of bodies gives, and how the load reads it."""

    def setUp(self) -> None:
        """Two ends of a TCP connection: MSG_TRUNC drops bytes on TCP only."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.raw = socket.create_connection(listening.getsockname())
            self.proxy, _ = listening.accept()
        self.addCleanup(self.proxy.close)
        self.addCleanup(self.raw.close)
        self.raw.settimeout(5)

    def test_plain_answer(self) -> None:
        """Head and body are as long as they say; a body knows no end of line."""
        head, _, content = plain_answer(2500).partition(b"\r\n\r\n")
        assert field(head, b"content-length") == b"2500"
        assert content == body(2500)
        assert len(content) == 2500
        assert b"\n" not in content

    def test_chunked_answer(self) -> None:
        """The chunks are those that RFC 9112 describes, and hold the body."""
        head, _, rest = chunked_answer(2 * CHUNK + 5).partition(b"\r\n\r\n")
        assert field(head, b"transfer-encoding") == b"chunked"
        sizes, content = [], b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            sizes.append(int(size, 16))
            content += rest[: sizes[-1]]
            assert rest[sizes[-1] : sizes[-1] + 2] == b"\r\n"
            rest = rest[sizes[-1] + 2 :]
        assert sizes == [CHUNK, CHUNK, 5, 0]
        assert content == body(2 * CHUNK + 5)

    def test_download(self) -> None:
        """Bodies are counted wherever the head is cut, and the next request goes out at the end of each."""
        download = Download(self.raw, "/1m")
        request = self.proxy.recv(4096)
        answer = plain_answer(SIZES["/1m"])
        for cut in (1, answer.index(b"\r\n\r\n") + 2, answer.index(b"\r\n\r\n") + 4, 1000):
            self.proxy.sendall(answer[:cut])
            received = download.read()
            self.proxy.sendall(answer[cut : cut + 1000])
            received += download.read()
            sending = threading.Thread(target=self.proxy.sendall, args=(answer[cut + 1000 :],))
            sending.start()
            while received < SIZES["/1m"]:
                received += download.read()
            sending.join()
            assert received == SIZES["/1m"]
            assert self.proxy.recv(4096) == request

    def test_wrong_answers(self) -> None:
        """Neither an error page nor a body of another length is taken for a download."""
        for answer in (plain_answer(5), plain_answer(SIZES["/1m"]).replace(b"200 OK", b"503 No", 1)[:200]):
            download = Download(self.raw, "/1m")
            self.proxy.sendall(answer)
            with pytest.raises(LoadFailed, match="not an answer of 1000000 bytes"):
                download.read()

    def test_end(self) -> None:
        """A connection that ends, before an answer or within it, is a failure."""
        download = Download(self.raw, "/1m")
        self.proxy.sendall(plain_answer(SIZES["/1m"])[:500])
        self.proxy.shutdown(socket.SHUT_WR)
        download.read()
        for broken in (download, Download(self.raw, "/1m")):
            with pytest.raises(LoadFailed, match="closed a connection"):
                broken.read()

    def test_fetch(self) -> None:
        """What a proxy answers with is held against what the backend has."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def serve() -> None:
                for answer in (
                    plain_answer(50),
                    plain_answer(51),
                    b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n",
                    b"",
                ):
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)

            serving = threading.Thread(target=serve)
            serving.start()
            check(port, "/x", body(50))
            for words in ("other 51 bytes", "answered with 502", "failed"):
                with pytest.raises(LoadFailed, match=words):
                    check(port, "/x", body(50))
            serving.join()


class WebSocketTests(SynchronousTestCase):
    """The few frames of RFC 6455 that the echo needs."""

    def test_digest(self) -> None:
        """The example of RFC 6455, 1.3."""
        assert digest(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    def test_agreement(self) -> None:
        """The answer proves that the key of the request was read."""
        assert field(accepted(HELLO), b"sec-websocket-accept") == digest(KEY)
        assert field(HELLO, b"x-not-there") == b""

    def test_masking(self) -> None:
        """The example of RFC 6455, 5.7; twice is not at all."""
        assert masked(b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")
        assert masked(masked(PAYLOAD)) == PAYLOAD
        assert PAYLOAD not in SENT

    def test_echo(self) -> None:
        """Each client's frame comes back unmasked, with what was in it."""
        assert echo(b"") == b""
        assert echo(SENT * 3) == RETURNED * 3
        other = SENT[:2] + b"\0\0\0\0" + PAYLOAD[::-1]
        assert echo(SENT + other) == RETURNED + RETURNED[:2] + PAYLOAD[::-1]


class MaterialTests(SynchronousTestCase):
    """The files of a run."""

    def setUp(self) -> None:
        """A directory of its own."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.material = make_material(self.directory)

    def test_certificate(self) -> None:
        """The certificate is for the name of the run, its key P-256, and nobody else may read the key."""
        certificate = x509.load_pem_x509_certificate(self.material.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [NAME]
        key = load_pem_private_key(self.material.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert key.public_key() == certificate.public_key()
        assert self.material.both.read_bytes() == (
            self.material.certificate.read_bytes() + self.material.key.read_bytes()
        )
        for path in (self.material.key, self.material.both):
            assert path.stat().st_mode & 0o077 == 0

    def test_openssl_takes_it(self) -> None:
        """The file with both is a certificate and its key to OpenSSL."""
        settings = SSL.Context(SSL.TLS_METHOD)
        settings.use_certificate_file(str(self.material.both))
        settings.use_privatekey_file(str(self.material.both))
        settings.check_privatekey()

    def test_fronts_of_lbproxy(self) -> None:
        """TLS, a route by server name, or neither stands in lbproxy's file; the plain one never looks."""
        assert configuration(self.directory, self.material, "tls").count("tls = ") == 1
        named = configuration(self.directory, self.material, "name")
        assert f'server_name = "{NAME}"' in named
        assert named.index("[[listener]]") < named.index("[[route]]") < named.index('pool = "bench"')
        plain = configuration(self.directory, self.material, "tcp")
        assert "tls" not in plain
        assert "server_name" not in plain
        assert configuration(self.directory, self.material, "name", plainly=True) == plain

    def test_http_fronts_of_lbproxy(self) -> None:
        """What reads requests says so; routes are as many as the row tells, each of its own host and prefix."""
        for front in HTTP_FRONTS:
            assert (
                tomllib.loads(configuration(self.directory, self.material, front))["listener"][0]["protocol"] == "http"
            )
        assert configuration(self.directory, self.material, "https").count("tls = ") == 1
        routes = tomllib.loads(configuration(self.directory, self.material, "routes"))["route"]
        assert len({(route["host"], route["path"]) for route in routes}) == ROUTES
        assert len({route["host"] for route in routes}) == ROUTES // PREFIXES
        lbproxy_one_route(place(self.directory, self.material, "routes"))
        (route,) = tomllib.loads((self.directory / "lbproxy.toml").read_text())["route"]
        assert route == {"path": "/", "pool": "bench"}

    def test_optional_peer(self) -> None:
        """proxy.py may be absent; the report then says so."""
        self.patch(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(NotInstalled, match=r"proxy\.py is not installed"):
            proxypy(place(self.directory, self.material, "http"))
        with pytest.raises(NotInstalled, match=r"proxy\.py is not installed"):
            proxypy_version()

    def test_same_work(self) -> None:
        """HAProxy and nginx add the fields that lbproxy adds, keep connections to the backends, and log."""
        where = place(self.directory, self.material, "https")
        fields = ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Via", "X-Request-ID")
        for text, words in (
            (haproxy_configuration(where), ("option forwardfor", "option httplog", "http-reuse always", " ssl crt ")),
            (nginx_configuration(where), ("X-Forwarded-For", "access_log", "keepalive 128", "ssl_certificate ")),
        ):
            assert [word for word in (*words, *fields) if word not in text] == []


def place(directory: Path, material: Material, front: Front) -> Place:
    """Where nobody will ever run."""
    return Place(directory, 4711, (1, 2), 4096, front, material)


def configuration(directory: Path, material: Material, front: Front, *, plainly: bool = False) -> str:
    """What lbproxy is told for a front."""
    (lbproxy_plain if plainly else lbproxy)(place(directory, material, front))
    return (directory / "lbproxy.toml").read_text()


class ArithmeticTests(SynchronousTestCase):
    """Percentiles, medians, ratios and targets."""

    def test_percentile(self) -> None:
        """Nearest rank: the smallest value that at least this share of the values do not exceed."""
        values = [float(value) for value in range(1, 101)]
        assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
        assert percentile([7.0], 0.999) == 7.0

    def test_median(self) -> None:
        """Each metric has its own median."""
        samples = [{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 5.0}]
        assert median_sample(samples) == {"a": 2.0, "b": 5.0}

    def test_ratio(self) -> None:
        """A ratio to nothing is no ratio."""
        assert ratio(3.0, 2.0) == 1.5
        assert ratio(3.0, 0.0) is None

    def test_targets(self) -> None:
        """A target compares with a peer, either way round, or with a number; a missing peer decides nothing."""
        medians = {"lbproxy": {"cpu": 11.0}, "haproxy": {"cpu": 10.0}, "portforward": {"cpu": 33.0}}
        against = Target("cpu", "at most", 1.05)
        assert against.actual(medians) == 1.1
        assert not against.met(1.1)
        beaten = Target("cpu", "at least", 2.5, base="portforward", inverse=True)
        assert beaten.actual(medians) == 3.0
        assert beaten.met(3.0)
        beyond = Target("cpu", "at most", 3, difference=True)
        assert beyond.actual(medians) == 1.0
        assert beyond.met(3.0)
        assert not beyond.met(3.1)
        assert Target("cpu", "at most", 12, base=None).actual(medians) == 11.0
        assert Target("cpu", "at most", 1, base="nginx").actual(medians) is None
        assert against.actual({"haproxy": {"cpu": 10.0}}) is None

    def test_disturbance(self) -> None:
        """A proxy that waited for its core is named, one that did not is not."""
        (remark,) = disturbance({"nginx": {"waited": 12.0}, "haproxy": {"waited": 0.5}})
        assert "nginx 12 %" in remark
        assert "haproxy" not in remark
        assert disturbance({"haproxy": {"waited": 0.5}}) == []


class TableTests(SynchronousTestCase):
    """What is printed."""

    def setUp(self) -> None:
        """Two peers, two rounds."""
        self.row = RowResult(
            "rtt",
            "small round trips",
            metrics=(
                Metric("cpu", "CPU us"),
                Metric("rate", "req/s", "more", 0),
                Metric("busy", "busy %", "neither", 0),
            ),
            targets=(Target("cpu", "at most", 1.1),),
            samples={
                "lbproxy": [{"cpu": 12.0, "rate": 50000.0, "busy": 99.0}, {"cpu": 10.0, "rate": 52000.0, "busy": 99.0}],
                "haproxy": [{"cpu": 10.0, "rate": 60000.0, "busy": 90.0}],
            },
            left_out={"nginx": "nginx is not installed"},
        )

    def test_cells(self) -> None:
        """A ratio follows each number that can be compared."""
        assert cells(self.row) == [
            ["peer", "CPU us", "x haproxy", "req/s", "x haproxy", "busy %"],
            ["lbproxy", "11.0", "1.10", "51,000", "0.85", "99"],
            ["haproxy", "10.0", "1.00", "60,000", "1.00", "90"],
        ]

    def test_no_base(self) -> None:
        """Without HAProxy there are numbers and no ratios."""
        del self.row.samples["haproxy"]
        assert cells(self.row)[0] == ["peer", "CPU us", "req/s", "busy %"]
        assert "not measured" in "\n".join(row_lines(self.row, as_markdown=False))

    def test_plain(self) -> None:
        """Columns stand under each other."""
        assert plain([["peer", "us"], ["a", "1,000"]]) == ["peer     us", "----  -----", "a     1,000"]

    def test_markdown(self) -> None:
        """The first column is text, the others are numbers."""
        assert markdown([["peer", "us"], ["a", "1"]]) == ["| peer | us |", "|---|---:|", "| a | 1 |"]

    def test_whole_row(self) -> None:
        """Targets have a verdict, and who was left out is named with the reason."""
        for as_markdown in (False, True):
            text = "\n".join(row_lines(self.row, as_markdown=as_markdown))
            assert "CPU us at most 1.1 x haproxy -> 1.10 (met)" in text
            assert "nginx left out: nginx is not installed" in text

    def test_json(self) -> None:
        """Raw samples are kept beside the medians."""
        (row,) = json.loads(json.dumps(as_json({"kernel": "Linux"}, [self.row])))["rows"]
        assert len(row["samples"]["lbproxy"]) == 2
        assert row["medians"]["lbproxy"]["cpu"] == 11.0


class PlanTests(SynchronousTestCase):
    """Rows and peers fit together."""

    def test_targets_name_what_exists(self) -> None:
        """Each target speaks of a column of its row and of a known peer."""
        names = {peer.name for peer in PEERS}
        for row in all_rows(Scale()):
            keys = {metric.key for metric in row.metrics}
            for target in row.targets:
                assert target.metric in keys
                assert target.base in names | {None}

    def test_rows_of_peers(self) -> None:
        """A peer that is limited to some rows names rows that exist."""
        families = {row.family for row in all_rows(Scale())}
        for peer in PEERS:
            assert set(peer.rows or ()) <= families

    def test_rows_have_their_bases(self) -> None:
        """lbproxy takes part in every row, and so does whom it is compared with."""
        for row in all_rows(Scale()):
            there = {peer.name for peer in PEERS if peer.fits(row.family)}
            assert {"lbproxy", *row.bases} - {"haproxy-splice"} <= there
            assert {target.base for target in row.targets if target.base} <= there

    def test_only_tls_is_measured_by_those_who_speak_it(self) -> None:
        """hitch knows nothing but TLS, and nobody but lbproxy is configured to pass it on by name."""
        for row in all_rows(Scale()):
            there = {peer.name for peer in PEERS if peer.fits(row.family)}
            assert row.front == "tls" or "hitch" not in there
            assert row.front != "name" or there == {"lbproxy", "lbproxy-plain"}

    def test_only_http_is_measured_by_those_who_read_it(self) -> None:
        """The proxies in Python know no bytes without requests, the forwarder knows no requests."""
        for row in all_rows(Scale()):
            there = {peer.name for peer in PEERS if peer.fits(row.family)}
            assert row.front == "http" or not there & {"reverseproxy", "proxypy"}
            assert row.front not in HTTP_FRONTS or not there & {"portforward", "hitch", "lbproxy-plain"}
            assert row.front != "routes" or there == {"lbproxy", "lbproxy-one-route"}

    def test_selection(self) -> None:
        """Rows are found by their names, in the order of the plan; an unknown one ends the program with the known."""
        assert select("b, a", ["a", "b", "c"], "row") == ["a", "b"]
        assert select(None, ["a", "b"], "row") == ["a", "b"]
        with pytest.raises(SystemExit, match="there are: a, b"):
            select("a,x", ["a", "b"], "row")

    def test_rounds(self) -> None:
        """The number of rounds can be chosen for each scale."""
        assert scaled(Scale.quick(), 5, 40_000).rounds == 5
        assert scaled(Scale(), None, 40_000) == Scale()

    def test_few_files(self) -> None:
        """Where few files may be open, fewer connections are held."""
        few = scaled(Scale(held_tls=(1000, 2000)), None, 4096)
        assert few.held == (1000, 1548)
        assert few.held_tls == (1000, 1548)

    def test_free_ports(self) -> None:
        """Ports found together differ."""
        assert len(set(free_ports(20))) == 20
