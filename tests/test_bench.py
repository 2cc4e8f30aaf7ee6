"""The pure parts of the benchmark: reading results, ratios, targets, tables. Nothing is started here."""

import json

import pytest
from twisted.trial.unittest import SynchronousTestCase

from bench.children import free_ports
from bench.load import LoadFailed, percentile
from bench.meters import Memory, parse_smaps_rollup
from bench.peers import PEERS, parse_modules_path
from bench.report import Metric, RowResult, Target, as_json, cells, markdown, median_sample, plain, ratio, row_lines
from bench.rows import Scale, all_rows, disturbance, parse_result, parse_wrk, scaled

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

    def test_rounds(self) -> None:
        """The number of rounds can be chosen for each scale."""
        assert scaled(Scale.quick(), 5, 40_000).rounds == 5
        assert scaled(Scale(), None, 40_000) == Scale()

    def test_few_files(self) -> None:
        """Where few files may be open, fewer connections are held."""
        assert scaled(Scale(), None, 4096).held == (1000, 1548)

    def test_free_ports(self) -> None:
        """Ports found together differ."""
        assert len(set(free_ports(20))) == 20
