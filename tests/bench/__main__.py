"""Command line of the benchmark, behind `scripts/bench`.

Owns options and the order of things: run by run, server by server, so that a machine that slows
down slows down everybody. Knows no case by name.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import click
from rich.console import Console

from . import measure, results, servers
from .cases import CASES, Case, Samples, Scale
from .servers import Server, ServerError
from .tools import LoadGen, ToolError

BY_NAME = {case.name: case for case in CASES}


def run_case(
    case: Case, contestants: Sequence[type[Server]], runs: int, scale: Scale, console: Console
) -> list[results.Result]:
    """Measure every contestant in turn, `runs` times over."""
    collected: dict[tuple[str, str], list[Samples]] = {}
    disturbance = measure.Disturbance()
    for run in range(runs):
        for contestant in contestants:
            place = f"{case.name}: {contestant.name}, run {run + 1} of {runs}"
            with (
                console.status(place),
                LoadGen() as loadgen,
                contestant(loadgen) as server,
            ):
                for metric, samples in case.measure(server, scale).items():
                    collected.setdefault((metric, contestant.name), []).append(samples)
    others_cores = disturbance.cores()
    return [
        results.Result(
            case.name,
            metric,
            contestant.name,
            contestant.is_ours,
            contestant is case.servers[0],
            tuple(collected[metric.name, contestant.name]),
            others_cores,
        )
        for metric in case.metrics
        for contestant in contestants
        if (metric.name, contestant.name) in collected
    ]


def list_cases(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the cases and stop."""
    if wanted and not context.resilient_parsing:
        for case in CASES:
            click.echo(f"{case.name:12}  {case.what}")
        context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--case",
    "names",
    multiple=True,
    type=click.Choice(list(BY_NAME)),
    help="Only this case; may be given several times.",
)
@click.option(
    "--runs",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Fresh starts of every server.",
)
@click.option("--quick", is_flag=True, help="Smaller cases, one run: minutes become seconds.")
@click.option(
    "--compare",
    is_flag=True,
    help="Measure mosquitto (Debian), nats-server and amqtt (PyPI) in the same run.",
)
@click.option("--no-record", is_flag=True, help="Do not append to tests/bench/results.jsonl.")
@click.option(
    "--report",
    is_flag=True,
    help="Measure nothing; write the last results into docs/benchmarks.md.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_cases,
    help="Print the cases and stop.",
)
def main(
    names: tuple[str, ...], runs: int, quick: bool, compare: bool, no_record: bool, report: bool
) -> None:
    """Measure the server as a process of its own and print one table.

    The server has core 0 to itself, the load generator (C, compiled when first needed) core 1.
    Costs are user and system time of the server process until the last push was received, divided
    by the pushes received. Exit code 1 if a bar was missed, 2 if a case could not be measured.

    \b
    Examples:
      scripts/bench                           every case, only ours
      scripts/bench --compare --case burst    one case beside other brokers
      scripts/bench --report                  refresh docs/benchmarks.md
    """
    console = Console()
    if report:
        console.print(f"wrote {results.write_document().relative_to(measure.ROOT)}")
        return
    measure.raise_file_limit()
    # So that SIGTERM too ends the servers under measurement.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if compare:
        with console.status("installing the servers to compare with"):
            servers.prepare_comparison()
    scale = Scale(is_quick=quick)
    found: list[results.Result] = []
    failures = []
    for case in (BY_NAME[name] for name in names or BY_NAME):
        contestants = case.servers + (case.compared if compare else ())
        try:
            new = run_case(case, contestants, 1 if quick else runs, scale, console)
        except (ServerError, ToolError) as exc:
            failures.append(f"{case.name}: {exc}")
            continue
        found += new
        if not no_record:
            results.record(new, is_quick=quick)
    console.print(results.table(found))
    for failure in failures:
        console.print(failure, style="red", markup=False)
    is_met = all(met for result in found for _, met in results.verdicts(result, found))
    sys.exit(2 if failures else 0 if is_met else 1)


if __name__ == "__main__":
    main()
