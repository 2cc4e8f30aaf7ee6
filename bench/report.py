"""From samples to a report: medians, ratios, targets, tables. Pure: no process, no clock, no file.

A ratio is always *peer / base*, also where more is better: 0.95 of a throughput is less of it.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Sample = dict[str, float]
"""One measurement of one peer: the value of each metric by its key."""


@dataclass(frozen=True)
class Metric:
    """A column: *better* says which way is good, or that the number only explains the others."""

    key: str
    title: str
    better: Literal["less", "more", "neither"] = "less"
    digits: int = 1

    @property
    def compared(self) -> bool:
        """Whether a ratio makes sense."""
        return self.better != "neither"


@dataclass(frozen=True)
class Target:
    """What lbproxy promises: *metric* against *base* (a peer, or None for the number itself)."""

    metric: str
    sense: Literal["at most", "at least"]
    limit: float
    base: str | None = "haproxy"
    inverse: bool = False
    """Compare base / lbproxy: how many times the base is beaten."""
    difference: bool = False
    """Compare lbproxy - base: what comes on top of the base."""

    def actual(self, medians: Mapping[str, Sample]) -> float | None:
        """The number to hold against the limit, or None where a peer is missing."""
        ours = medians.get("lbproxy", {}).get(self.metric)
        if ours is None or self.base is None:
            return ours
        theirs = medians.get(self.base, {}).get(self.metric)
        if theirs is None:
            return None
        if self.difference:
            return ours - theirs
        return ratio(theirs, ours) if self.inverse else ratio(ours, theirs)

    def met(self, actual: float) -> bool:
        """Whether *actual* keeps the promise."""
        return actual <= self.limit if self.sense == "at most" else actual >= self.limit


@dataclass
class RowResult:
    """All that was measured for one row."""

    name: str
    title: str
    metrics: Sequence[Metric]
    targets: Sequence[Target] = ()
    bases: Sequence[str] = ("haproxy",)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def medians(self) -> dict[str, Sample]:
        """The median of each metric over the rounds, by peer."""
        return {peer: median_sample(samples) for peer, samples in self.samples.items() if samples}


def median_sample(samples: Sequence[Sample]) -> Sample:
    """The median of each metric on its own."""
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def ratio(value: float, base: float) -> float | None:
    """*value* / *base*, or None when there is nothing to divide by."""
    return value / base if base > 0 else None


def number(value: float, digits: int) -> str:
    """A number with thousands apart."""
    return f"{value:,.{digits}f}"


def cells(row: RowResult) -> list[list[str]]:
    """The table of one row: a heading, then a line per peer with numbers and ratios."""
    medians = row.medians()
    bases = [base for base in row.bases if base in medians]
    heading = ["peer"]
    for metric in row.metrics:
        heading.append(metric.title)
        if metric.compared:
            heading += [f"x {base}" for base in bases]
    table = [heading]
    for peer, sample in medians.items():
        line = [peer]
        for metric in row.metrics:
            line.append(number(sample[metric.key], metric.digits))
            if metric.compared:
                line += [_ratio_cell(sample[metric.key], medians[base][metric.key]) for base in bases]
        table.append(line)
    return table


def _ratio_cell(value: float, base: float) -> str:
    quotient = ratio(value, base)
    return "-" if quotient is None else f"{quotient:.2f}"


def plain(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines for a terminal: the first column to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        rest = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append("  ".join([line[0].ljust(widths[0]), *rest]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def markdown(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(line) + " |" for line in table]
    lines.insert(1, "|---|" + "---:|" * (len(table[0]) - 1))
    return lines


def target_lines(row: RowResult) -> list[str]:
    """A line per target: the promise, the number, the verdict."""
    medians = row.medians()
    titles = {metric.key: metric.title for metric in row.metrics}
    lines = []
    for target in row.targets:
        actual = target.actual(medians)
        what = titles[target.metric]
        limit = f"{target.limit:,g}"
        if target.base is None:
            promise = f"{what} {target.sense} {limit}"
        elif target.difference:
            promise = f"{what}: lbproxy - {target.base} {target.sense} {limit}"
        elif target.inverse:
            promise = f"{what}: {target.base} / lbproxy {target.sense} {limit}"
        else:
            promise = f"{what} {target.sense} {limit} x {target.base}"
        if actual is None:
            verdict = "not measured"
        else:
            found = number(actual, 0) if target.base is None else f"{actual:.2f}"
            verdict = f"{found} ({'met' if target.met(actual) else 'missed'})"
        lines.append(f"target: {promise} -> {verdict}")
    return lines


def row_lines(row: RowResult, *, as_markdown: bool) -> list[str]:
    """One row of the report with its table, targets and notes."""
    lines = [f"### {row.title}" if as_markdown else f"== {row.name}: {row.title}", ""]
    if any(row.samples.values()):
        lines += markdown(cells(row)) if as_markdown else plain(cells(row))
        lines.append("")
    remarks = target_lines(row) + row.notes
    remarks += [f"{peer} left out: {reason}" for peer, reason in row.left_out.items()]
    lines += [f"- {remark}" if as_markdown else f"  {remark}" for remark in remarks]
    if remarks:
        lines.append("")
    return lines


def heading_lines(environment: Mapping[str, str], *, as_markdown: bool) -> list[str]:
    """What ran where."""
    if as_markdown:
        return [*(f"- {key}: {value}" for key, value in environment.items()), ""]
    width = max(map(len, environment))
    return [*(f"{key.ljust(width)}  {value}" for key, value in environment.items()), ""]


def as_json(environment: Mapping[str, str], rows: Iterable[RowResult]) -> dict[str, object]:
    """Everything, with each sample, as plain values."""
    return {
        "environment": dict(environment),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "metrics": {metric.key: metric.title for metric in row.metrics},
                "samples": row.samples,
                "medians": row.medians(),
                "left_out": row.left_out,
                "notes": row.notes,
            }
            for row in rows
        ],
    }
