"""``python -m bench``: run the rows over the peers, print the report, keep the raw numbers in ``bench/results/``."""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.backends import pairs, start_answers, start_python
from bench.children import Children, Cores, StartFailed, find_program, raise_file_limit
from bench.load import LoadFailed
from bench.peers import PEERS, LogSink, Peer, Running, haproxy_tls, start_peer
from bench.places import SESSIONS, NotInstalled, first_line
from bench.plan import all_rows
from bench.report import RowResult, as_json, heading_lines, row_lines
from bench.rows import Field, Row, Scale, scaled
from bench.tls import make_material, summary

RESULTS = Path(__file__).resolve().parent / "results"


class Bench:
    """One run: the peers still in the race, their backends, and why others are out of it."""

    def __init__(self, field: Field, peers: Sequence[Peer], file_limit: int) -> None:
        self.field = field
        self.peers = list(peers)
        self.file_limit = file_limit
        self.answers_name = ""
        self._backends: dict[str, dict[str, tuple[int, int]]] = {}
        self._without: dict[str, str] = {}

    def start_backends(self, kinds: set[str]) -> None:
        """Start the backends that the chosen rows need; rows whose backend does not come up leave everybody out."""
        for kind in kinds:
            try:
                self._start_backend(kind)
            except StartFailed as reason:
                self._without[kind] = f"no backend for this row: {reason}"

    def _start_backend(self, kind: str) -> None:
        *ports, (spare, _) = pairs(len(self.peers) + 1)
        self._backends[kind] = {peer.name: pair for peer, pair in zip(self.peers, ports, strict=True)}
        flat = [spare, *(port for pair in ports for port in pair)]
        self.field.direct[kind] = spare
        if kind == "answers":
            _, self.answers_name = start_answers(self.field.children, flat, self.file_limit)
        elif kind == "answers-tls":
            start_answers(self.field.children, flat, self.file_limit, self.field.material)
        else:
            start_python(self.field.children, kind, flat)

    def run(self, row: Row) -> RowResult:
        """Measure one row; peers that fail are named in the result."""
        result = RowResult(row.name, row.title, row.metrics, row.targets, row.bases)
        wanted = [peer for peer in self.peers if peer.fits(row.family)]
        if row.backend in self._without:
            result.left_out = dict.fromkeys((peer.name for peer in wanted), self._without[row.backend])
            return result
        if row.fresh:
            self._run_fresh(row, wanted, result)
        else:
            self._run_side_by_side(row, wanted, result)
        # The table keeps the order of the peers, whoever was measured first.
        result.samples = {peer.name: result.samples[peer.name] for peer in wanted if result.samples.get(peer.name)}
        result.notes += row.remarks(result.medians())
        return result

    def _run_side_by_side(self, row: Row, wanted: Sequence[Peer], result: RowResult) -> None:
        running: list[Running] = []
        try:
            for peer in wanted:
                # One by one: a peer that failed to start must not hide those that are up from the clean-up below.
                running.extend(filter(None, [self._start(row, peer, result)]))
            if row.together:
                self._sample_together(row, running, result)
            else:
                self._sample_in_turn(row, running, result)
        finally:
            self._end(*running)

    def _run_fresh(self, row: Row, wanted: Sequence[Peer], result: RowResult) -> None:
        for _ in range(row.turns(self.field.scale)):
            for peer in wanted:
                if peer.name not in result.left_out and (started := self._start(row, peer, result)):
                    try:
                        self._sample(row, started, result)
                    finally:
                        self._end(started)

    def _start(self, row: Row, peer: Peer, result: RowResult) -> Running | None:
        backends = self._backends[row.backend][peer.name]
        try:
            return start_peer(self.field.children, peer, backends, self.file_limit, row.front, self.field.material)
        except (NotInstalled, StartFailed) as reason:
            result.left_out[peer.name] = str(reason)
            return None

    def _end(self, *running: Running) -> None:
        """End peers; a row leaves hundreds of megabytes of access logs behind, which nobody reads."""
        self.field.children.end(*(child for peer in running for child in peer.children))
        for peer in running:
            shutil.rmtree(peer.directory, ignore_errors=True)

    def _sample_in_turn(self, row: Row, running: list[Running], result: RowResult) -> None:
        for peer in list(running):
            try:
                row.warm(self.field, peer)
            except LoadFailed as failure:
                self._leave_out(peer, failure, result)
        running = [peer for peer in running if peer.name not in result.left_out]
        if not running:
            return
        result.notes += row.settle(self.field, running)
        for peer in running:
            if reason := row.leaves_out(peer.peer):
                result.left_out[peer.name] = reason
        for turn in range(row.turns(self.field.scale)):
            # The order rotates, so that nobody is always measured after the same neighbour.
            for offset in range(len(running)):
                peer = running[(turn + offset) % len(running)]
                if peer.name not in result.left_out:
                    self._sample(row, peer, result)

    def _sample(self, row: Row, peer: Running, result: RowResult) -> None:
        try:
            result.samples.setdefault(peer.name, []).append(row.measure(self.field, peer))
        except (LoadFailed, OSError) as failure:
            # OSError: the process is gone, so /proc has no entry for it.
            self._leave_out(peer, failure, result)

    def _sample_together(self, row: Row, running: Sequence[Running], result: RowResult) -> None:
        outcomes = row.measure_together(self.field, running)
        for peer in running:
            outcome = outcomes[peer.name]
            if isinstance(outcome, LoadFailed):
                self._leave_out(peer, outcome, result)
            else:
                result.samples[peer.name] = [outcome]

    def _leave_out(self, peer: Running, failure: Exception, result: RowResult) -> None:
        words = self.field.children.last_words(peer.child)
        result.left_out[peer.name] = f"{failure}; it wrote: {words}" if words else str(failure)
        # Rounds that went well before do not stand for a peer that then failed.
        result.samples.pop(peer.name, None)


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """What each peer says of itself; peers that share a program are named once."""
    found: dict[str, str] = {}
    for peer in peers:
        try:
            version = peer.version()
        except (NotInstalled, ImportError) as reason:
            version = str(reason)
        if version not in found.values():
            found[peer.name] = version
    return found


def environment(bench: Bench, scale: Scale, peers: Sequence[Peer]) -> dict[str, str]:
    """What ran where, for the head of the report."""
    wrk = find_program("wrk")
    cores = bench.field.children.cores
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        **versions(peers),
        "load": first_line([wrk, "-v"]).partition(" [")[0] if wrk else "Python epoll",
        "backend": bench.answers_name or "Python sendfile",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "cores": f"{len(cores.proxy | cores.load)} of {model}; {cores.text}",
        "rounds": f"{scale.rounds} of {scale.repeats} x {scale.seconds} s, medians; peers interleaved, loopback",
        "peers": "one worker each, access logs on (hitch and portforward have none)",
        "TLS": f"{summary()} under lbproxy and portforward{haproxy_tls()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def select(wanted: str | None, known: Sequence[str], what: str) -> list[str]:
    """The names of a comma-separated list, in the known order; an unknown one ends the program."""
    if wanted is None:
        return list(known)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in known:
            sys.exit(f"python -m bench: no {what} is called {name!r}; there are: {', '.join(known)}")
    return [name for name in known if name in names]


def save(run: dict[str, object]) -> Path:
    """Keep the raw numbers of a run."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(run, indent=1) + "\n")
    return path


def end_politely(_signal: int, _frame: FrameType | None) -> None:
    """Ended from outside: leave through the contexts that end the children."""
    raise KeyboardInterrupt


def arguments(rows: Sequence[str], peers: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help="rows to measure, as with --rows; without any, all")
    parser.add_argument("--rows", help=f"comma-separated: {', '.join(rows)}")
    parser.add_argument("--peers", help=f"comma-separated: {', '.join(peers)}")
    parser.add_argument("--rounds", type=int, help="rounds over all peers; the report gives medians (3)")
    parser.add_argument("--quick", action="store_true", help="one short round, about two minutes in all")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    families = list(dict.fromkeys(row.family for row in all_rows(Scale())))
    options = arguments(families, [peer.name for peer in PEERS])
    file_limit = raise_file_limit(2 * SESSIONS + 1000)
    scale = scaled(Scale.quick() if options.quick else Scale(), options.rounds, file_limit)
    named = [*options.names, *([] if options.rows is None else [options.rows])]
    wanted_rows = select(",".join(named) if named else None, families, "row")
    rows = [row for row in all_rows(scale) if row.family in wanted_rows]
    wanted_peers = select(options.peers, [peer.name for peer in PEERS], "peer")
    peers = [peer for peer in PEERS if peer.name in wanted_peers]
    signal.signal(signal.SIGTERM, end_politely)
    cores = Cores.divided()
    os.sched_setaffinity(0, cores.load)
    results: list[RowResult] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory,
        Children(cores, Path(directory)) as children,
    ):
        LogSink(children.directory)
        bench = Bench(Field(children, scale, make_material(children.directory)), peers, file_limit)
        bench.start_backends({row.backend for row in rows})
        around = environment(bench, scale, peers)
        print("\n".join(heading_lines(around, as_markdown=options.markdown)), flush=True)
        try:
            for row in rows:
                result = bench.run(row)
                results.append(result)
                print("\n".join(row_lines(result, as_markdown=options.markdown)), flush=True)
        except KeyboardInterrupt:
            sys.exit("interrupted: the rows above are complete, the rest was not measured")
        finally:
            if results:
                path = save(as_json(around, results))
                print(f"raw numbers: {path.relative_to(RESULTS.parent.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
