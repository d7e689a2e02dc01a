"""Results: one line of JSON per case, server and metric; tables for people made from them.

Owns `results.jsonl` and the generated part of docs/benchmarks.md. Knows no server. A number says
nothing without the commit, the interpreter and the processor behind it: each line has them.
"""

from __future__ import annotations

import datetime
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from . import measure
from .cases import CASES, Case, Metric, Samples

RESULTS = Path(__file__).parent / "results.jsonl"
DOCUMENT = measure.ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: written by scripts/bench --report -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Result:
    """One metric of one case on one server, over all runs."""

    case: str
    metric: Metric
    server: str
    is_ours: bool
    is_held: bool  # against the bars
    samples: tuple[Samples, ...]
    others_cores: float  # how busy others kept the machine meanwhile

    @property
    def median(self) -> float:
        """Median of all samples."""
        return statistics.median(value for s in self.samples for value in s.values)

    @property
    def p99(self) -> float:
        """Median of the samples' own 99th percentiles, else the 99th percentile of the samples."""
        tails = [p99 for s in self.samples for p99 in s.p99s]
        if tails:
            return statistics.median(tails)
        values = sorted(value for s in self.samples for value in s.values)
        return values[round((len(values) - 1) * 0.99)]

    @property
    def bar_value(self) -> float:
        """The number held against the bar: the tail of times, the median of the rest."""
        return self.p99 if any(s.p99s for s in self.samples) else self.median


def verdicts(result: Result, results: Iterable[Result]) -> list[tuple[str, bool]]:
    """Bars of a result and whether each is met."""
    metric = result.metric
    found: list[tuple[str, bool]] = []
    if not result.is_held:
        return found
    if metric.bar is not None:
        sign, is_met = (
            ("≥", result.bar_value >= metric.bar)
            if metric.is_more_better
            else ("≤", result.bar_value <= metric.bar)
        )
        found.append((f"{sign} {metric.bar:g}", is_met))
    for factor, server in metric.relative_bars:
        for other in results:
            if (other.case, other.metric.name, other.server) == (result.case, metric.name, server):
                limit = factor * other.median
                text = f"≤ {factor:g} x {server} = {limit:.3g}"
                found.append((text, result.bar_value <= limit))
    return found


def table(results: Sequence[Result]) -> Table:
    """What `scripts/bench` prints."""
    made = Table(title=f"{measure.cpu_model()}, Python {platform.python_version()}")
    disturbed: dict[str, float] = {}
    for result in results:
        if result.others_cores > measure.QUIET_CORES:
            disturbed[result.case] = max(result.others_cores, disturbed.get(result.case, 0.0))
    if disturbed:
        cores = ", ".join(f"{case} {count:.1f}" for case, count in disturbed.items())
        made.caption = f"others used the machine meanwhile, cores: {cores}"
    for heading in ("case", "metric", "server"):
        made.add_column(heading, no_wrap=True)
    for heading in ("median", "p99", "unit"):
        made.add_column(heading, justify="right" if heading != "unit" else "left")
    made.add_column("bar")
    for result in results:
        bars = [
            f"[green]{text}[/green]" if is_met else f"[red]{text} missed[/red]"
            for text, is_met in verdicts(result, results)
        ]
        made.add_row(
            result.case,
            result.metric.name,
            f"[bold]{result.server}[/bold]" if result.is_ours else result.server,
            readable(result.median),
            readable(result.p99),
            result.metric.unit,
            "\n".join(bars),
        )
    return made


def readable(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def record(results: Sequence[Result], *, is_quick: bool) -> None:
    """Append one line per result."""
    at = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    with RESULTS.open("ab") as file:
        for result in results:
            line = {
                "at": at,
                "commit": measure.commit(),
                "python": platform.python_version(),
                "cpu": measure.cpu_model(),
                "case": result.case,
                "metric": result.metric.name,
                "server": result.server,
                "unit": result.metric.unit,
                "median": float(f"{result.median:.5g}"),
                "p99": float(f"{result.p99:.5g}"),
                "runs": len(result.samples),
                "samples": sum(len(s.values) for s in result.samples),
                "quick": is_quick,
                "others_cores": round(result.others_cores, 2),
                "bars": [
                    {"bar": text, "met": is_met} for text, is_met in verdicts(result, results)
                ],
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def latest() -> list[dict[str, Any]]:
    """The last full result of every case, metric and server, in the order of the cases."""
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    lines = RESULTS.read_bytes().splitlines() if RESULTS.exists() else []
    for line in map(orjson.loads, lines):
        if not line["quick"]:
            newest[line["case"], line["metric"], line["server"]] = line
    order = [(case.name, metric.name) for case in CASES for metric in case.metrics]
    kept = [line for key, line in newest.items() if key[:2] in order]
    return sorted(kept, key=lambda line: order.index((line["case"], line["metric"])))


def report() -> str:
    """The generated part of the document."""
    rows = [
        "| case | metric | server | median | p99 | unit | bar | commit |",
        "| --- | --- | --- | ---: | ---: | --- | --- | --- |",
    ]
    machines = set()
    for line in latest():
        bars = ", ".join(f"{b['bar']} {'met' if b['met'] else '**missed**'}" for b in line["bars"])
        machines.add(f"{line['cpu']}, Python {line['python']}")
        rows.append(
            f"| {line['case']} | {line['metric']} | {line['server']} | {readable(line['median'])} "
            f"| {readable(line['p99'])} | {line['unit']} | {bars} | {line['commit']} |"
        )
    return "\n".join([f"Measured on: {'; '.join(sorted(machines))}.", "", *rows])


def plan(cases: Iterable[Case] = CASES) -> str:
    """Every case and metric in words, for the document."""
    rows = ["| case | what happens | metric | bar |", "| --- | --- | --- | --- |"]
    for case in cases:
        for metric in case.metrics:
            sign = "≥" if metric.is_more_better else "≤"
            bars = [f"{sign} {metric.bar:g} {metric.unit}"] if metric.bar is not None else []
            bars += [f"{sign} {factor:g} x {server}" for factor, server in metric.relative_bars]
            rows.append(
                f"| `{case.name}` | {case.what} | {metric.name}: {metric.meaning}, {metric.unit} "
                f"| {'; '.join(bars)} |"
            )
    return "\n".join(rows)


def write_document() -> Path:
    """Put plan and last results between the marks in docs/benchmarks.md."""
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = f"## Cases\n\n{plan()}\n\n## Last results\n\n{report()}"
    DOCUMENT.write_text(f"{head}{BEGIN}\n{body}\n{END}{tail}")
    return DOCUMENT
