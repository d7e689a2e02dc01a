"""Command line of the benchmark, behind `scripts/bench`.

Owns options and the order of things: run by run, server by server, so that a machine that slows
down slows down everybody. Knows no case by name.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console

from . import measure, results, servers
from .cases import CASES, Case, Samples, Scale
from .servers import Server, ServerError
from .tools import LoadGen, ToolError

BY_NAME = {case.name: case for case in CASES}
# A table for people, also where there is no terminal to ask for its width.
LEAST_WIDTH = 110


@dataclass(frozen=True)
class Plan:
    """How often, how large, how patiently; and what went wrong on the way."""

    runs: int
    scale: Scale
    quiet_s: float
    console: Console
    failures: list[str] = field(default_factory=list)


def run_case(case: Case, contestants: Sequence[type[Server]], plan: Plan) -> list[results.Result]:
    """Measure every contestant in turn, as often as planned."""
    collected: dict[tuple[str, str], list[Samples]] = {}
    others_cores: dict[str, float] = {}
    for run in range(plan.runs):
        for contestant in contestants:
            name = contestant.name
            with plan.console.status(f"{case.name}: {name}, run {run + 1} of {plan.runs}"):
                measure.wait_for_quiet(plan.quiet_s)
                disturbance = measure.Disturbance()
                try:
                    with LoadGen() as loadgen, contestant(loadgen) as server:
                        measured = case.measure(server, plan.scale)
                except (ServerError, ToolError) as exc:
                    plan.failures.append(f"{case.name}: {exc}")
                    continue
            others_cores[name] = max(disturbance.cores(), others_cores.get(name, 0.0))
            for metric, samples in measured.items():
                collected.setdefault((metric, name), []).append(samples)
    return [
        results.Result(
            case.name,
            metric,
            contestant.name,
            contestant.is_ours,
            contestant is case.servers[0],
            tuple(collected[metric.name, contestant.name]),
            others_cores[contestant.name],
        )
        for metric in case.metrics
        for contestant in contestants
        if (metric.name, contestant.name) in collected
    ]


def run_all(names: Sequence[str], plan: Plan, *, compare: bool, is_recorded: bool) -> int:
    """Measure, record and print; the exit code."""
    found: list[results.Result] = []
    for case in (BY_NAME[name] for name in names):
        contestants = case.servers + (case.compared if compare else ())
        new = run_case(case, contestants, plan)
        found += new
        if is_recorded:
            results.record(new, is_quick=plan.scale.is_quick)
    plan.console.print(results.table(found))
    for failure in plan.failures:
        plan.console.print(failure, style="red", markup=False)
    is_met = all(met for result in found for _, met in results.verdicts(result, found))
    return 2 if plan.failures else 0 if is_met else 1


def list_cases(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the cases and stop."""
    if wanted and not context.resilient_parsing:
        for case in CASES:
            click.echo(f"{case.name:12}  {case.what}")
        context.exit()


def write_report(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Write the document and stop."""
    if wanted and not context.resilient_parsing:
        click.echo(f"wrote {results.write_document().relative_to(measure.ROOT)}")
        context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--case",
    "names",
    multiple=True,
    metavar="NAME",
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
    "--compare", is_flag=True, help="Measure mosquitto, nats-server and amqtt in the same run."
)
@click.option(
    "--wait-for-quiet",
    "quiet_s",
    default=0.0,
    metavar="SECONDS",
    help="Before each server wait, so long at most, until nobody else is busy.",
)
@click.option("--no-record", is_flag=True, help="Do not append to tests/bench/results.jsonl.")
@click.option(
    "--report",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=write_report,
    help="Write the last results into docs/benchmarks.md and stop.",
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
    *,
    names: tuple[str, ...],
    runs: int,
    quick: bool,
    compare: bool,
    quiet_s: float,
    no_record: bool,
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
    console.width = max(console.width, LEAST_WIDTH)
    measure.raise_file_limit()
    # So that SIGTERM too ends the servers under measurement.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if compare:
            with console.status("installing the servers to compare with"):
                servers.prepare_comparison()
    except ServerError as exc:
        raise click.ClickException(str(exc)) from exc
    plan = Plan(1 if quick else runs, Scale(is_quick=quick), quiet_s, console)
    with contextlib.ExitStack() as stack:
        with console.status("waiting for another benchmark to end"):
            stack.enter_context(measure.only_one())
        code = run_all(names or tuple(BY_NAME), plan, compare=compare, is_recorded=not no_record)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
