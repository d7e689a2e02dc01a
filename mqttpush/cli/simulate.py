"""`mqttpush simulate`: the run of `simulator` with a progress bar, a live rate and a verdict."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mqttpush.cli.options import ServerOptions, json_option, server_options
from mqttpush.cli.session import open_app
from mqttpush.cli.terminal import note, print_json, print_table, run
from mqttpush.devices import TRANSPORTS, Transport
from mqttpush.errors import ClientError, ConfigError
from mqttpush.simulator import (
    Simulation,
    SimulationPlan,
    SimulationReport,
    make_bodies,
    read_feed,
)
from mqttpush.thing_simulator import ThingPlan, ThingReport, ThingSimulation

REFRESH_S = 0.1
# Over this share of one core the simulator itself may be what is slow.
BUSY_SHARE = 0.85
# Sockets of the devices, of the HTTP connections, and what Python holds.
SPARE_FILES = 200


@click.command()
@click.option("--devices", default=100, type=click.IntRange(min=1), show_default=True)
@click.option(
    "--things",
    type=click.IntRange(min=1),
    help="Instead of devices: things that onboard over MQTT and are commanded.",
)
@click.option("--writes", type=click.IntRange(min=1), help="Objects to write.  [default: 20]")
@click.option(
    "--rate",
    "rate_per_s",
    default=10.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Writes a second; 0 for as fast as possible.",
)
@click.option(
    "--feed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL file whose records are written as objects.",
)
@click.option(
    "--bucket", "bucket_id", default="", help="Write here instead of a bucket of its own."
)
@click.option("--transport", type=click.Choice(TRANSPORTS), default="tcp", show_default=True)
@click.option("--concurrency", default=16, type=click.IntRange(1, 1000), show_default=True)
@click.option(
    "--quiet",
    "quiet_s",
    default=5.0,
    type=click.FloatRange(min=0.1),
    show_default=True,
    help="Seconds without a push after which the rest is missing.",
)
@click.option("--keep", "is_kept", is_flag=True, help="Do not delete the users and the bucket.")
@json_option
@server_options(is_admin=False)
def simulate(
    writes: int | None,
    feed: Path | None,
    devices: int,
    things: int | None,
    is_json: bool,
    server: ServerOptions,
    rate_per_s: float,
    bucket_id: str,
    transport: Transport,
    concurrency: int,
    quiet_s: float,
    is_kept: bool,
) -> None:
    """Prove that every push reaches every device exactly once.

    Makes N users, each with a real MQTT client subscribed to one bucket, writes objects over REST
    and counts. Exits 1 if one write is refused or one push is missing or doubled.

    With --things: N things onboard over MQTT alone, each connects and subscribes, is sent a command
    over REST and answers it over MQTT. Exits 1 if one command is not done or nobody is told.

    \b
    Examples:
      mqttpush simulate --devices 500
      mqttpush simulate --devices 50 --feed earthquakes.jsonl --rate 20
      mqttpush simulate --devices 2000 --writes 100 --rate 0 --json
      mqttpush simulate --things 1000
    """
    if things:
        if writes or feed or bucket_id:
            raise click.UsageError("--things writes no objects: leave out what is about writes.")
        _simulate_things(
            ThingPlan(things, transport, concurrency, quiet_s, is_kept), server, is_json
        )
        return
    bodies = read_feed(feed)[:writes] if feed else make_bodies(writes or 20)
    plan = SimulationPlan(
        device_count=devices,
        bodies=bodies,
        rate_per_s=rate_per_s,
        bucket_id=bucket_id,
        transport=transport,
        concurrency=concurrency,
        quiet_s=quiet_s,
        is_kept=is_kept,
    )
    _simulate_devices(plan, server, is_json)


def _simulate_devices(plan: SimulationPlan, server: ServerOptions, is_json: bool) -> None:
    _allow_open_files(plan.device_count + plan.concurrency + SPARE_FILES)
    report, first_refusal = run(_run(plan, server))
    if is_json:
        print_json({**asdict(report), "passed": report.is_passed})
    else:
        _print_report(report)
    _give_verdict(first_refusal, report.is_passed)


def _give_verdict(first_refusal: ClientError | None, is_passed: bool) -> None:
    if first_refusal:
        note(f"mqttpush: {first_refusal}")
    if not is_passed:
        raise click.exceptions.Exit(1)


async def _run(
    plan: SimulationPlan, server: ServerOptions
) -> tuple[SimulationReport, ClientError | None]:
    async with open_app(server, is_any=True) as client:
        simulation = Simulation(plan, client=client)
        showing = asyncio.create_task(_show_progress(simulation))
        try:
            return await simulation.run(), simulation.first_refusal
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


def _simulate_things(plan: ThingPlan, server: ServerOptions, is_json: bool) -> None:
    _allow_open_files(plan.thing_count + plan.concurrency + SPARE_FILES)

    async def work() -> tuple[ThingReport, ClientError | None]:
        async with open_app(server, is_any=True) as client:
            simulation = ThingSimulation(plan, client=client)
            return await simulation.run(), simulation.first_refusal

    report, first_refusal = run(work())
    if is_json:
        print_json({**asdict(report), "passed": report.is_passed})
    else:
        _print_thing_report(report)
    _give_verdict(first_refusal, report.is_passed)


async def _show_progress(simulation: Simulation) -> None:
    """Two bars on standard error, until cancelled; none when that is no terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        plan = simulation.plan
        devices = progress.add_task("devices", total=plan.device_count, rate="")
        pushes = progress.add_task("pushes", total=plan.device_count * len(plan.bodies), rate="")
        rate = _Rate(asyncio.get_running_loop().time)
        while True:
            progress.update(devices, completed=simulation.ready_count)
            delivered_count = simulation.delivered_count
            progress.update(
                pushes, completed=delivered_count, rate=f"{rate.of(delivered_count):,.0f}/s"
            )
            await asyncio.sleep(REFRESH_S)


class _Rate:
    """How fast a counter grows, over about the last second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: list[tuple[float, int]] = []

    def of(self, count: int) -> float:
        now = self._clock()
        self._samples = [*self._samples, (now, count)][-round(1 / REFRESH_S) :]
        then, past_count = self._samples[0]
        return (count - past_count) / (now - then) if now > then else 0.0


def _print_report(report: SimulationReport) -> None:
    rate = report.delivered_count / report.duration_s if report.duration_s else 0.0
    rows = [
        ("devices", f"{report.device_count:,}"),
        ("writes", f"{report.write_count:,}"),
        ("writes refused", f"{report.refused_count:,}"),
        ("pushes expected", f"{report.expected_count:,}"),
        ("delivered", f"{report.delivered_count:,}"),
        ("missing", f"{report.missing_count:,}"),
        ("duplicates", f"{report.duplicate_count:,}"),
        ("devices lost", f"{report.lost_device_count:,}"),
        ("duration", f"{report.duration_s:.2f} s, {rate:,.0f} pushes/s"),
        (
            "latency",
            f"p50 {report.latency_p50_ms:.1f} ms, p95 {report.latency_p95_ms:.1f} ms,"
            f" p99 {report.latency_p99_ms:.1f} ms",
        ),
        ("verdict", "passed" if report.is_passed else "FAILED"),
    ]
    print_table(("simulation", ""), rows)
    if report.busy_share > BUSY_SHARE:
        note(
            f"The simulator itself was busy {report.busy_share:.0%} of the time: the latencies are"
            " an upper bound. Fewer --devices or a lower --rate measures the server."
        )


def _print_thing_report(report: ThingReport) -> None:
    rate = report.onboarded_count / report.onboarding_s if report.onboarding_s else 0.0
    rows = [
        ("things", f"{report.thing_count:,}"),
        ("onboarded", f"{report.onboarded_count:,}"),
        ("onboarding", f"{report.onboarding_s:.2f} s, {rate:,.0f} things/s"),
        ("commands sent", f"{report.command_count:,}"),
        ("commands refused", f"{report.refused_count:,}"),
        ("received by things", f"{report.received_count:,}"),
        ("answered by things", f"{report.answered_count:,}"),
        ("issuer told", f"{report.told_count:,}"),
        ("done", f"{report.done_count:,}"),
        ("duplicates", f"{report.duplicate_count:,}"),
        ("devices lost", f"{report.lost_device_count:,}"),
        ("duration", f"{report.duration_s:.2f} s"),
        (
            "latency",
            f"p50 {report.latency_p50_ms:.1f} ms, p95 {report.latency_p95_ms:.1f} ms,"
            f" p99 {report.latency_p99_ms:.1f} ms",
        ),
        ("verdict", "passed" if report.is_passed else "FAILED"),
    ]
    print_table(("simulation", ""), rows)


def _allow_open_files(wanted_count: int) -> None:
    """Raise this process's limit of open files as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted_count:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted_count:
        raise ConfigError(
            "--devices",
            "command line",
            f"need {wanted_count} open files, the system allows {hard}",
            f"ulimit -n {wanted_count}, or --devices {max(1, hard - SPARE_FILES)}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted_count, hard))
