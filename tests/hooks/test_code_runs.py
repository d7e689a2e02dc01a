"""Due runs: every app has its turn, what fails is tried again and ends, and nothing runs hot."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from mqttpush.config import HookSettings, SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import MqttPushError
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Language, Result
from mqttpush.hooks.engine import Engine
from mqttpush.metrics import Metrics
from mqttpush.models import Json
from mqttpush.operations import Operations
from mqttpush.operations.business_logic import BusinessLogic
from mqttpush.operations.code_runs import PER_APP, CodeRuns, HookLog
from mqttpush.operations.context import Context
from mqttpush.operations.server_code import ServerCode
from mqttpush.server_code import Hook, HookKind, Job, JobKind, LogLine, Schedule
from mqttpush.store import Transaction
from mqttpush.store.blobs import open_blobs
from tests.hooks.support import RecordingHost
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened


class Runner:
    """Notes which app's code began, and does with it what the test says."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.sources: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BaseException | None = None

    async def check(self, code: Code) -> None: ...

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        self.begun[call.app_id] += 1
        self.sources.append(code.entry_point)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Result(True, call.request, {"body": None})

    async def close(self) -> None: ...


class Stage:
    """Runs over a store in memory. now_ms: the wall clock, moved by hand."""

    def __init__(self, context: Context, settings: HookSettings) -> None:
        self.now_ms = 1_000_000
        self.context = context
        self.operations = Operations.over(context)
        self.runner = Runner()
        self.log: list[LogLine] = []
        engine = Engine(
            runners={Language.PYTHON: self.runner},
            settings=settings,
            metrics=Metrics(),
            now_ms=lambda: self.now_ms,
            on_log=self.log.extend,
        )
        host = RecordingHost()
        self.logic = BusinessLogic(context, engine=engine, host=host, base_url=lambda: "")
        self.runs = CodeRuns(
            context,
            self.operations.server_code,
            engine=engine,
            host=host,
            business_logic=self.logic,
            source=random.Random(1),
        )

    async def app(self, app_id: str) -> str:
        await self.operations.apps.create(app_id, app_id=app_id)
        return app_id

    async def add_jobs(self, app_id: str, count: int = 1) -> None:
        job = Job(app_id, JobKind.SERVER_CODE, "m:f", "buckets/b", ready_ms=self.now_ms)

        def unit(tx: Transaction) -> None:
            for _ in range(count):
                tx.server_code.insert_job(job)

        await self.context.store.write(unit)

    async def jobs(self, app_id: str) -> list[Job]:
        def unit(tx: Transaction) -> list[Job]:
            far = 2**60
            return tx.server_code.due_jobs(far, 10_000, per_app=10_000, after="", but=())

        return [job for job in await self.context.store.read(unit) if job.app_id == app_id]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runs.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the runs have come so far."""
        async with asyncio.timeout(10):
            while not is_so():
                await self.context.store.read(lambda tx: None)

    async def settled(self) -> None:
        """Until nothing more begins by itself."""
        for _ in range(50):
            await self.context.store.read(lambda tx: None)


class FullStore:
    """A store that takes no write."""

    def __init__(self, store: Any) -> None:
        self.read = store.read
        self.refused_count = 0

    async def write(self, unit: Callable[[Transaction], Any]) -> Any:
        self.refused_count += 1
        raise MqttPushError("the disk is full")


@asynccontextmanager
async def stage_of(**settings: int) -> AsyncIterator[Stage]:
    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    hooks = HookSettings(python_modules=["m"], **settings)
    async with AsyncExitStack() as stack:
        stages: list[Stage] = []
        store = (await stack.enter_async_context(opened())).store
        blobs = stack.enter_context(open_blobs(None))
        context = make_context(
            store, blobs, passwords, now_ms=lambda: stages[0].now_ms if stages else 0, hooks=hooks
        )
        stages.append(Stage(context, hooks))
        yield stages[0]
    passwords.close()


def _put(tx: Transaction, schedule: Schedule) -> None:
    tx.server_code.put_schedule(schedule)


def _put_hook(tx: Transaction, *, server_code: ServerCode, hook: Hook) -> None:
    server_code.put_hook(tx, hook)


def _insert(tx: Transaction, job: Job) -> None:
    tx.server_code.insert_job(job)


@in_loop
async def test_apps_with_long_queues_do_not_keep_another_from_its_turn() -> None:
    async with stage_of() as stage:
        busy = [await stage.app(f"busy{n:02}") for n in range(12)]
        for app_id in busy:
            await stage.add_jobs(app_id, 4 * PER_APP)
        await stage.add_jobs(await stage.app("quiet"))
        stage.runner.gate.clear()  # nothing ends
        async with stage.running():
            await stage.until(lambda: stage.runner.begun["quiet"] == 1)
            assert all(stage.runner.begun[app_id] <= PER_APP for app_id in busy)


@in_loop
async def test_turns_go_round_all_apps() -> None:
    async with stage_of() as stage:
        apps = [await stage.app(f"app{n:02}") for n in range(30)]
        for app_id in apps:
            await stage.add_jobs(app_id, 50)
        async with stage.running():
            await stage.until(lambda: stage.runner.begun.total() == 1500)
            await stage.until(lambda: not stage.runs.under_way_count)
        assert all(stage.runner.begun[app_id] == 50 for app_id in apps)
        assert await stage.jobs(apps[0]) == []


@in_loop
async def test_a_run_the_server_fails_at_is_tried_later_and_given_up_at_last() -> None:
    async with stage_of(max_attempts=2) as stage:
        app_id = await stage.app("poison")
        await stage.add_jobs(app_id)
        stage.runner.error = ZeroDivisionError("a bug of a runner")
        async with stage.running():
            await stage.until(lambda: stage.runner.begun[app_id] == 1)
            await stage.settled()
            assert stage.runner.begun[app_id] == 1  # not at once again
            [job] = await stage.jobs(app_id)
            assert job.attempts == 1
            assert job.ready_ms > stage.now_ms
            stage.now_ms += 2000
            stage.runs.wake()
            await stage.until(lambda: stage.runner.begun[app_id] == 2)
            await stage.settled()
        assert await stage.jobs(app_id) == []


@in_loop
async def test_a_run_that_was_kept_waiting_has_not_failed() -> None:
    async with stage_of(max_attempts=1, max_runs_per_app=1, max_waiting_runs_per_app=0) as stage:
        app_id = await stage.app("waits")
        await stage.add_jobs(app_id, 2)
        stage.runner.gate.clear()
        async with stage.running():
            await stage.until(lambda: stage.runner.begun[app_id] == 1)
            await stage.settled()
            stage.runner.gate.set()
            await stage.until(lambda: not stage.runs.under_way_count)
            [job] = await stage.jobs(app_id)
            assert (job.attempts, stage.log) == (0, [])
            stage.now_ms += 10_000
            stage.runs.wake()
            await stage.until(lambda: stage.runner.begun[app_id] == 2)
            await stage.settled()
        assert await stage.jobs(app_id) == []


@in_loop
async def test_too_many_runs_at_one_place_are_run_later() -> None:
    """They are no loop yet: what reacts to data is not lost for coming in a rush."""
    async with stage_of() as stage:
        app_id = await stage.app("rush")
        await stage.add_jobs(app_id)
        problem = HookFailed(FailureKind.VIOLATION, "too many within a minute", retryable=True)
        stage.runner.error = problem
        async with stage.running():
            await stage.until(lambda: stage.runner.begun[app_id] == 1)
            await stage.settled()
        assert [job.attempts for job in await stage.jobs(app_id)] == [1]


@in_loop
async def test_a_run_is_not_run_again_while_its_end_cannot_be_written() -> None:
    async with stage_of() as stage:
        app_id = await stage.app("full")
        await stage.add_jobs(app_id)
        full: Any = FullStore(stage.context.store)
        stage.context.store = full
        async with stage.running():
            await stage.until(lambda: full.refused_count == 1)
            await stage.settled()
            assert stage.runner.begun[app_id] == 1


@in_loop
async def test_a_schedule_that_is_due_once_is_forgotten() -> None:
    async with stage_of() as stage:
        app_id = await stage.app("clock")
        server_code, store = stage.operations.server_code, stage.context.store
        soon_ms, before_ms = stage.now_ms + 1000, stage.now_ms - 1000
        await store.write(lambda tx: server_code.schedule_endpoint(tx, app_id, "t", soon_ms, None))
        [schedule] = await server_code.schedules(app_id)
        assert schedule.next_ms == soon_ms
        await store.write(
            lambda tx: server_code.schedule_endpoint(tx, app_id, "t", before_ms, None)
        )
        assert await server_code.schedules(app_id) == []


@in_loop
async def test_a_plan_nobody_understands_keeps_no_other_from_running() -> None:
    async with stage_of() as stage:
        app_id = await stage.app("clock")
        for name, plan in (("broken", "no cron"), ("minutely", "* * * * *")):
            schedule = Schedule(app_id, JobKind.SERVER_CODE, name, plan, "m:f", {}, stage.now_ms)
            await stage.context.store.write(partial(_put, schedule=schedule))
        async with stage.running():
            await stage.until(lambda: stage.runner.begun[app_id] >= 1)
            await stage.settled()
        left = await stage.operations.server_code.schedules(app_id)
        assert [each.name for each in left] == ["minutely"]


@in_loop
async def test_an_app_made_anew_runs_none_of_the_old_ones_code() -> None:
    async with stage_of() as stage:
        code: Json
        for entry_point in ("m:old", "m:new"):
            app_id = await stage.app("reborn")
            code = {"entryPoint": entry_point}
            hook = Hook(app_id, HookKind.ENDPOINT, "e", "onRequest", "python", code)
            await stage.context.store.write(
                partial(_put_hook, server_code=stage.operations.server_code, hook=hook)
            )
            job = Job(app_id, JobKind.ENDPOINT, "e", "scheduler", ready_ms=stage.now_ms)
            await stage.context.store.write(partial(_insert, job=job))
            stage.runner.sources.clear()
            async with stage.running():
                await stage.until(lambda: bool(stage.runner.sources))
                await stage.until(lambda: not stage.runs.under_way_count)
            assert stage.runner.sources == [entry_point]
            await stage.operations.apps.delete(app_id)


@in_loop
async def test_lines_of_one_app_do_not_push_out_those_of_another() -> None:
    async with stage_of() as stage:
        loud, quiet = await stage.app("loud"), await stage.app("quiet")
        metrics = Metrics()
        log = HookLog(stage.context, metrics=metrics, clock=lambda: 0.0)
        for _ in range(30):
            log.add([LogLine(loud, "r", 1, "p", "f", "info", str(n)) for n in range(1000)])
        log.add([LogLine(quiet, "r", 1, "p", "f", "info", "hello")])
        await log.flush()
        lines = await stage.operations.server_code.log(quiet, request_id=None, limit=10)
        assert [line.message for line in lines] == ["hello"]
        assert 'limit="hooks.log_queue"' in metrics.render().decode()
