"""Each app has its share of the runs, and loops end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mqttpush.config import HookSettings
from mqttpush.errors import LimitReached
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Language, Result
from mqttpush.hooks.engine import (
    DEPTH_LIMIT,
    LINE_LIMIT_CHARACTERS,
    LINES_LIMIT,
    Engine,
    lines_of,
)
from mqttpush.metrics import Metrics
from mqttpush.server_code import LogLine
from tests.hooks.support import RecordingHost, call_of

CODE = Code(Language.PYTHON, "onPreSave", entry_point="m:f")


class Gate:
    """A runner whose runs wait until they are let go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()

    async def check(self, code: Code) -> None: ...

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        self.started.append(call.app_id)
        await self.gate.wait()
        return Result(False, call.request, {}, (("info", "said"),))

    async def close(self) -> None: ...


def engine_of(runner: Gate, log: list[LogLine], **settings: int) -> Engine:
    return Engine(
        runners={Language.PYTHON: runner},
        settings=HookSettings(**settings),
        metrics=Metrics(),
        now_ms=lambda: 0,
        on_log=log.extend,
    )


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_an_app_that_has_its_share_holds_up_no_other() -> None:
    async def work() -> None:
        runner, log = Gate(), list[LogLine]()
        engine = engine_of(runner, log, max_runs_per_app=2, max_waiting_runs_per_app=1)
        greedy = replace(call_of(), app_id="greedy")
        tasks = [asyncio.create_task(engine.run(CODE, greedy, RecordingHost())) for _ in range(3)]
        await settled()
        assert runner.started == ["greedy", "greedy"]
        with pytest.raises(LimitReached):
            await engine.run(CODE, greedy, RecordingHost())
        other = replace(call_of(), app_id="other")
        tasks.append(asyncio.create_task(engine.run(CODE, other, RecordingHost())))
        await settled()
        assert runner.started[-1] == "other"
        runner.gate.set()
        await asyncio.gather(*tasks)
        assert runner.started.count("greedy") == 3
        assert len(log) == 4

    asyncio.run(work())


def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    async def work() -> None:
        runner = Gate()
        engine = engine_of(runner, [], max_runs_per_app=1)
        tasks = [
            asyncio.create_task(engine.run(CODE, call_of(), RecordingHost())) for _ in range(3)
        ]
        await settled()
        tasks[1].cancel()
        runner.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert isinstance(done[2], Result)

    asyncio.run(work())


def test_a_run_that_runs_have_caused_too_deep_is_stopped_and_logged() -> None:
    async def work() -> None:
        log: list[LogLine] = []
        engine = engine_of(Gate(), log)
        with pytest.raises(HookFailed) as caught:
            await engine.run(CODE, replace(call_of(), depth=DEPTH_LIMIT + 1), RecordingHost())
        assert caught.value.kind is FailureKind.VIOLATION
        assert "loop guard" in log[0].message

    asyncio.run(work())


def test_a_run_has_so_many_lines_in_the_log_and_the_last_is_among_them() -> None:
    said = [("info", str(n)) for n in range(50_000)] + [("error", "x" * 1_000_000)]
    lines = lines_of(call_of(), "onPreSave", said, 0)
    assert len(lines) == LINES_LIMIT
    assert lines[0].message == "0"
    assert "left out" in lines[-2].message
    assert (lines[-1].level, len(lines[-1].message)) == ("error", LINE_LIMIT_CHARACTERS)


def test_runs_that_cause_runs_have_a_rate_at_each_place() -> None:
    async def work() -> None:
        runner = Gate()
        runner.gate.set()
        engine = engine_of(runner, [], max_nested_runs_per_minute=3)
        nested = replace(call_of(), depth=1)
        for _ in range(3):
            await engine.run(CODE, nested, RecordingHost())
        with pytest.raises(HookFailed):
            await engine.run(CODE, nested, RecordingHost())
        await engine.run(CODE, replace(nested, object_name="elsewhere"), RecordingHost())
        await engine.run(CODE, call_of(), RecordingHost())  # of a client's request

    asyncio.run(work())
