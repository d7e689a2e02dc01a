"""Runs that are due: server code that reacts to data, and what runs by the clock (spec kii 11).

Owns taking them from the store, running them, trying again and giving up, and writing the log of
all runs. Knows no language. The one idea: a run is a row until it has ended, so it is run at least
once; a row in flight is known only here, and after a crash it is run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson

from mqttpush.errors import (
    InvalidRequest,
    LimitReached,
    MqttPushError,
    NotFound,
    PrincipalDisabled,
    StoreError,
)
from mqttpush.hooks import (
    Call,
    Code,
    FailureKind,
    FunctionMissing,
    HookFailed,
    Host,
    Language,
    Result,
)
from mqttpush.hooks.engine import Engine
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, App, Credentials, Json, PrincipalKind
from mqttpush.operations.business_logic import (
    Answer,
    Asker,
    BusinessLogic,
    Exchange,
    security_context,
)
from mqttpush.operations.context import Context
from mqttpush.operations.hook_documents import (
    is_python,
    is_url,
    next_cron_ms,
    next_interval_ms,
    require_allowed,
)
from mqttpush.operations.server_code import Runnable, ServerCode
from mqttpush.server_code import CodeVersion, Job, JobKind, LogLine, Schedule
from mqttpush.store import Transaction

_log = logging.getLogger(__name__)

BATCH: Final = 64
# Of one app under way, so that its runs do not hold up the others'; of all, so that many apps whose
# runs hang do not either.
PER_APP: Final = 16
IN_FLIGHT_LIMIT: Final = 1024
SWEEP_LIMIT_S: Final = 5.0  # another process may have made something due
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 600.0
BUSY_RETRY_S: Final = 5.0
LOG_QUEUE_LIMIT: Final = 10_000
LOG_QUEUE_LIMIT_PER_APP: Final = 2_000
LOG_CLEANING_EVERY_S: Final = 300.0
# What running again would not change.
_FINAL_KINDS: Final = frozenset({FailureKind.SYNTAX, FailureKind.VIOLATION})


@dataclass(frozen=True, slots=True)
class Deployed:
    """The code of a run, with its app."""

    app: App
    version: CodeVersion | None


class CodeRuns:
    """Server code of the first dialect, schedules of both, and the log. random: for back-off."""

    def __init__(
        self,
        context: Context,
        server_code: ServerCode,
        *,
        engine: Engine,
        host: Host,
        business_logic: BusinessLogic,
        source: random.Random,
    ) -> None:
        self._context = context
        self._server_code = server_code
        self._engine = engine
        self._host = host
        self._business_logic = business_logic
        self._random = source.uniform
        self._wake = asyncio.Event()
        self._in_flight: set[int] = set()
        self._last_app_id = ""  # whose turn was the last

    @property
    def under_way_count(self) -> int:
        """Runs that react to data, or are by the clock, and have begun."""
        return len(self._in_flight)

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run_now(
        self, credentials: Credentials, version_id: str, endpoint: str, parameters: Json
    ) -> Any:
        """Run an endpoint for a client and return its value; raises NotFound, HookFailed."""
        runnable = await self._server_code.runnable(credentials, version_id, endpoint)
        deployed = await self._context.store.read(lambda tx: _deployed(tx, runnable))
        request_id = self._context.secrets.document_id()
        own = (request_id, endpoint, parameters, 0, _asker(runnable))
        try:
            result = await self._run_code(deployed, *own)
        except FunctionMissing as exc:
            app_id = deployed.app.app_id
            raise NotFound("server_code_endpoint", endpoint, app_id=app_id) from exc
        return result.response.get("body")

    async def check(self, source: str) -> None:
        """Raises HookFailed for a script that does not parse."""
        await self._engine.check(_script(source, ""))

    async def run(self) -> None:
        """Work off what is due; runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                wait_s = SWEEP_LIMIT_S
                try:
                    await self._start_schedules()
                    jobs = await self._due()
                    for job in jobs:
                        self._in_flight.add(job.job_id)
                        tasks.create_task(self._run_job(job), name="server code")
                    wait_s = await self._seconds_until_due()
                except MqttPushError as exc:
                    _log.warning("due server code could not be read: %s", exc)
                    wait_s = 1.0
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()

    # --- what is due ------------------------------------------------------------------------

    async def _due(self) -> list[Job]:
        """As many as there are places for; those in flight are still rows."""
        places = min(BATCH, IN_FLIGHT_LIMIT - len(self._in_flight))
        if places <= 0:
            return []
        now_ms, last, taken = self._context.now_ms(), self._last_app_id, frozenset(self._in_flight)
        found = await self._context.store.read(
            lambda tx: tx.server_code.due_jobs(
                now_ms, places, per_app=PER_APP, after=last, but=taken
            )
        )
        if found:
            self._last_app_id = found[-1].app_id
        if len(found) == places:
            self._wake.set()  # there may be more
        return found

    async def _seconds_until_due(self) -> float:
        now_ms = self._context.now_ms()

        def unit(tx: Transaction) -> int | None:
            table = tx.server_code
            moments = (table.next_job_ms(now_ms), table.next_schedule_ms())
            return min((each for each in moments if each is not None), default=None)

        due_ms = await self._context.store.read(unit)
        if due_ms is None:
            return SWEEP_LIMIT_S
        return min(max(due_ms - now_ms, 1) / 1000, SWEEP_LIMIT_S)

    async def _start_schedules(self) -> None:
        now_ms = self._context.now_ms()
        next_ms = await self._context.store.read(lambda tx: tx.server_code.next_schedule_ms())
        if next_ms is None or next_ms > now_ms:
            return

        def unit(tx: Transaction) -> None:
            # Read in the unit that writes: a schedule, or its app, may just have been deleted.
            for schedule in tx.server_code.due_schedules(now_ms, BATCH):
                self._start(tx, schedule, now_ms)

        await self._context.store.write(unit)

    def _start(self, tx: Transaction, schedule: Schedule, now_ms: int) -> None:
        """Make it due once, however often it was missed, and again at its next time."""
        job = Job(
            schedule.app_id,
            schedule.kind,
            schedule.endpoint,
            "scheduler",
            schedule.parameters,
            ready_ms=now_ms,
            created_ms=now_ms,
        )
        try:
            next_ms = _next_ms(schedule, now_ms)
        except InvalidRequest as exc:  # read when it was set, by another version perhaps
            problem = f"the schedule is deleted: {exc}"
            self._engine.say(schedule.app_id, "", f"scheduler/{schedule.name}", problem)
            next_ms = NEVER_MS
        if next_ms == NEVER_MS:
            tx.server_code.delete_schedules(schedule.app_id, schedule.kind, schedule.name)
        else:
            tx.server_code.put_schedule(replace(schedule, next_ms=next_ms))
        tx.server_code.insert_job(job)

    # --- one run ----------------------------------------------------------------------------

    async def _run_job(self, job: Job) -> None:
        """Run it and write how it ended; a bug counts as a failure, so it is not met for ever."""
        problem: MqttPushError | None
        try:
            problem = await self._try(job)
        except Exception:
            _log.exception("running server code failed")
            problem = HookFailed(FailureKind.INTERNAL, "the server failed to run it")
        try:
            await self._write_end(job, problem)
        finally:
            self._in_flight.discard(job.job_id)
            self._wake.set()

    async def _write_end(self, job: Job, problem: MqttPushError | None) -> None:
        """Until it is written the run counts as under way: it has run, and may send mails."""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                await self._context.store.write(lambda tx: self._settle(tx, job, problem))
                return
            except MqttPushError as exc:
                _log.warning("the end of server code could not be written: %s", exc)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_RETRY_S)

    async def _try(self, job: Job) -> MqttPushError | None:
        """What went wrong, or None."""
        # The same in every attempt, so that the log shows them together.
        request_id = f"{hashlib.md5(str(job.job_id).encode(), usedforsecurity=False).hexdigest()}"
        try:
            if job.kind is JobKind.ENDPOINT:
                await self._run_endpoint(job, request_id)
                return None
            runnable = Runnable(None, job.app_id, job.depth)
            deployed = await self._context.store.read(lambda tx: _deployed(tx, runnable))
            own = (request_id, job.endpoint, job.parameters, job.depth, _asker(runnable))
            await self._run_code(deployed, *own)
        except MqttPushError as exc:
            if self._is_over(job, exc):
                problem = f"given up after {job.attempts + 1} attempts: {exc}"
                self._engine.say(job.app_id, request_id, job.place, problem)
            return exc
        return None

    def _settle(self, tx: Transaction, job: Job, problem: MqttPushError | None) -> None:
        if problem is None or self._is_over(job, problem):
            tx.server_code.delete_job(job.job_id)
            return
        if _is_busy(problem):
            attempts, delay_s = job.attempts, BUSY_RETRY_S
        else:  # twice as long each time
            attempts, delay_s = job.attempts + 1, FIRST_RETRY_S * 2**job.attempts
        # A fifth more or less, so that many do not come back together.
        delay_s = min(delay_s, LAST_RETRY_S) * self._random(0.8, 1.2)
        ready_ms = self._context.now_ms() + round(delay_s * 1000)
        tx.server_code.retry_job(replace(job, attempts=attempts, ready_ms=ready_ms))

    def _is_over(self, job: Job, problem: MqttPushError) -> bool:
        """Is it not to be tried again?"""
        if _is_busy(problem):
            return False
        return _is_final(problem) or job.attempts + 1 >= self._context.hooks.max_attempts

    async def _run_endpoint(self, job: Job, request_id: str) -> Answer:
        """A custom endpoint by its schedule: as master, with an empty body (spec kinvey 8.9)."""

        def unit(tx: Transaction) -> int:
            _deployed(tx, Runnable(None, job.app_id, job.depth))
            return tx.server_code.hooks_stamp(job.app_id)

        stamp = await self._context.store.read(unit)
        asker = Asker(job.app_id, stamp, request_id, "", job.app_id, "master", {}, job.depth)
        exchange = Exchange("POST", job.endpoint, {}, {})
        return await self._business_logic.endpoint(asker, exchange)

    async def _run_code(
        self,
        deployed: Deployed,
        request_id: str,
        endpoint: str,
        parameters: Json,
        depth: int,
        asker: Json,
    ) -> Result:
        require_allowed(endpoint, self._context.hooks)  # it may have been once, and no more
        code = _code(deployed, endpoint)
        call = Call(
            app_id=deployed.app.app_id,
            request_id=request_id,
            hook_type="serverCode",
            object_name=endpoint,
            request={"body": parameters, "appKey": deployed.app.app_id, **asker},
            depth=depth,
            wall_limit_s=self._engine.wall_limit_s(code.language),
            app={"appKey": deployed.app.app_id, "appSecret": deployed.app.app_key},
        )
        return await self._engine.run(code, call, self._host)


def _asker(runnable: Runnable) -> Json:
    """Who asks, as code is told."""
    principal = runnable.principal
    if principal is None:
        return {"userId": "", "username": "", "securityContext": "master"}
    return {
        "userId": principal.id if principal.kind is PrincipalKind.USER else "",
        "username": runnable.username,
        "securityContext": security_context(principal.kind),
    }


def _deployed(tx: Transaction, runnable: Runnable) -> Deployed:
    app = tx.apps.get(runnable.app_id)
    if app is None:
        raise NotFound("app", runnable.app_id)
    if app.is_disabled:
        raise PrincipalDisabled("app", app.app_id)
    version = runnable.version or tx.server_code.current_version(runnable.app_id)
    return Deployed(app, version)


def _code(deployed: Deployed, endpoint: str) -> Code:
    if is_url(endpoint):
        return Code(Language.FLEX, endpoint, service_url=endpoint)
    if is_python(endpoint):
        return Code(Language.PYTHON, endpoint, entry_point=endpoint)
    if deployed.version is None:
        raise NotFound("server_code_version", "current", app_id=deployed.app.app_id)
    return _script(deployed.version.source, endpoint)


def _script(source: str, function: str) -> Code:
    digest = hashlib.sha256(source.encode()).hexdigest()
    return Code(Language.JAVASCRIPT, function, source=source, digest=digest)


def _next_ms(schedule: Schedule, now_ms: int) -> int:
    if schedule.kind is JobKind.SERVER_CODE:
        return next_cron_ms(schedule.plan, now_ms)
    plan = orjson.loads(schedule.plan)
    return next_interval_ms(plan["start"], plan["interval"], now_ms)


def _is_final(problem: MqttPushError) -> bool:
    """Would running it again change nothing?"""
    if isinstance(problem, HookFailed):
        return problem.kind in _FINAL_KINDS and not problem.retryable
    return isinstance(problem, NotFound | InvalidRequest)


def _is_busy(problem: MqttPushError) -> bool:
    """Was it not the code's turn, which has not even begun?"""
    return isinstance(problem, LimitReached | StoreError | PrincipalDisabled)


def _write_log(tx: Transaction, batch: list[LogLine], keep: int) -> None:
    tx.server_code.add_log(batch, keep_per_app=keep)


class HookLog:
    """Lines on their way into the store, away from the runs that wrote them."""

    def __init__(self, context: Context, *, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._context = context
        self._metrics = metrics
        self._clock = clock
        self._lines: deque[LogLine] = deque()
        self._count_by_app: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def add(self, lines: list[LogLine]) -> None:
        """Over the queue's limits lines are dropped: a log must not hold up what it tells of."""
        for line in lines:
            is_over = self._count_by_app[line.app_id] >= LOG_QUEUE_LIMIT_PER_APP
            if is_over or len(self._lines) >= LOG_QUEUE_LIMIT:
                self._metrics.limits_reached.add("hooks.log_queue")
                continue
            self._lines.append(line)
            self._count_by_app[line.app_id] += 1
        self._wake.set()

    async def flush(self) -> None:
        """Write what waits."""
        keep = self._context.hooks.max_log_lines_per_app
        while self._lines:
            count = min(len(self._lines), BATCH)
            batch = [self._lines.popleft() for _ in range(count)]
            self._count_by_app -= Counter(line.app_id for line in batch)  # keeps those above 0
            await self._context.store.write(partial(_write_log, batch=batch, keep=keep))

    async def run(self) -> None:
        """Write lines as they come and delete old ones; runs until cancelled."""
        cleaned_at = self._clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOG_CLEANING_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
                if self._clock() - cleaned_at >= LOG_CLEANING_EVERY_S:
                    cleaned_at = self._clock()
                    await self._clean()
            except MqttPushError as exc:
                _log.warning("the log of hooks could not be written: %s", exc)

    async def _clean(self) -> None:
        end_ms = self._context.now_ms() - self._context.hooks.log_retention_s * 1000
        while await self._context.store.write(
            lambda tx: tx.server_code.delete_log_older(end_ms, 1000)
        ):
            pass
