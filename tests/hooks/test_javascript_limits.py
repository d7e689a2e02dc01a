"""Hostile scripts: each ends with the right error in time, and harms nobody else (check 6)."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Result
from mqttpush.hooks.javascript.pool import Pool
from mqttpush.hooks.javascript.runner import JavaScriptRunner, _Run
from tests.hooks.script_support import SETTINGS, TableHost, endpoint, outcomes, run
from tests.hooks.support import call_of

pytestmark = pytest.mark.spec("kinvey 13")

TIMEOUT, VIOLATION = FailureKind.TIMEOUT, FailureKind.VIOLATION
WALL_S = 3.0
# A quarter of the usual, so that the tests spend little.
TIGHT = HookSettings(
    script_workers=1, script_cpu_s=0.5, script_memory_bytes=33_554_432, max_module_calls=1000
)
FINE = endpoint("response.body = 'fine'; response.complete()")

HOSTILE = {
    "an endless loop": ("while (true) {}", TIMEOUT),
    "an endless loop that catches": ("for (;;) { try { for (;;) {} } catch (e) {} }", TIMEOUT),
    "an endless loop in finally": ("try { for (;;) {} } finally { for (;;) {} }", TIMEOUT),
    "an endless loop in a callback":
        ("modules.push.send(1, 'x', function () { for (;;) {} })", TIMEOUT),
    "an endless loop in a timer": ("setTimeout(function () { for (;;) {} }, 1)", TIMEOUT),
    "an endless loop in a getter":
        ("response.body = {get a() { for (;;) {} }}; response.complete()", TIMEOUT),
    "an endless loop in toJSON":
        ("modules.push.send({toJSON: function () { for (;;) {} }}, 'x')", TIMEOUT),
    "endless microtasks": ("(function f() { queueMicrotask(f); })()", TIMEOUT),
    "endless promises": ("(function f() { Promise.resolve().then(f); })()", TIMEOUT),
    "endless await": ("(async function () { for (;;) await 1; })()", TIMEOUT),
    "endless timers": ("(function f() { setTimeout(f, 0); })()", TIMEOUT),
    "endless sleep": ("(function f() { setTimeout(f, 500); })()", TIMEOUT),
    "an endless generator": ("for (var x of (function* () { for (;;) yield 1; })()) {}", TIMEOUT),
    "an endless module call":
        ("(function f() { modules.collectionAccess.collection('c').count(f); })()", VIOLATION),
    "a catastrophic pattern": ("/(a+)+b/.test('a'.repeat(40))", TIMEOUT),
    "a catastrophic pattern in validation":
        ("modules.validation.doValidation({a: {pattern: '(a+)+b'}}, {a: 'a'.repeat(40)})",
         TIMEOUT),
    "a native call that cannot be interrupted":
        ("Array.prototype.reverse.call({length: Math.pow(2, 40)})", TIMEOUT),
    "a native join of nothing": ("new Array(4294967295).join('')", TIMEOUT),
    "an endless array": ("for (var a = [];;) a.push(a.length)", VIOLATION),
    "an endless typed array":
        ("for (var a = [];;) a.push(new Uint8Array(1 << 20))", VIOLATION),
    "one typed array": ("new Uint8Array(1 << 30)", VIOLATION),
    "a doubling string": ("for (var s = 'x';;) s += s", VIOLATION),
    "endless strings": ("for (var a = [];;) a.push('x'.repeat(1 << 20) + a.length)", VIOLATION),
    "endless objects": ("for (var o = {};;) o = {o: o}", VIOLATION),
    "an endless map":
        ("for (var m = new Map(), i = 0;; i++) m.set(i, new Array(100).fill(i))", VIOLATION),
    "memory that is caught":
        ("for (var a = [];;) try { a.push(new Uint8Array(1 << 20)) } catch (e) {}", TIMEOUT),
    "deep recursion": ("(function f() { f(); })()", VIOLATION),
    "deep recursion in a sort": ("(function f() { [1, 2].sort(f); })()", VIOLATION),
    "a deep answer":
        ("for (var a = [], i = 0; i < 100; i++) a = [a]; response.body = a;"
         " response.complete()", VIOLATION),
    "an answer too deep to write":
        ("for (var a = [], i = 0; i < 1e5; i++) a = [a]; response.body = a;"
         " response.complete()", VIOLATION),
    "a large answer": ("response.body = 'x'.repeat(6e6); response.complete()", VIOLATION),
    "a large answer that is caught":
        ("response.body = 'x'.repeat(6e6); try { response.complete() } catch (e) {}", VIOLATION),
    "a large question": ("modules.push.send(1, 'x'.repeat(9e6))", VIOLATION),
    "too many questions": ("for (;;) modules.push.send(1, 'x')", VIOLATION),
    "a flood of log lines": ("for (;;) modules.logger.info('flood')", TIMEOUT),
    "a flood of large log lines":
        ("for (;;) console.log('x'.repeat(1e6))", TIMEOUT),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_script_ends_in_time_and_the_next_one_works(name: str) -> None:
    statements, kind = HOSTILE[name]
    started = time.monotonic()
    ended: list[float] = []

    async def work() -> tuple[Any, Any]:
        runner = JavaScriptRunner(TIGHT)
        host = TableHost({"collectionAccess.count": 1})
        call = call_of("customEndpoint", wall_limit_s=WALL_S)
        try:
            with pytest.raises(HookFailed) as caught:
                await runner.run(endpoint(statements), call, host)
            ended.append(time.monotonic())
            after = await runner.run(FINE, call_of("customEndpoint"), host)
        finally:
            await runner.close()
        return caught.value, after

    error, after = asyncio.run(work())
    assert error.kind is kind, error
    assert ended[0] - started < WALL_S + 1
    assert after.response["body"] == "fine"
    assert sum(len(message) for _, message in error.log) <= TIGHT.max_log_bytes + 100


TAMPERING = {
    "setters on Object.prototype":
        "['body', 'log', 'asks', 'at', 'callback', 'final', 'status', '0', '1'].forEach(function"
        " (name) { Object.defineProperty(Object.prototype, name, {set: function () {"
        " throw 1; }, configurable: true}); });",
    "enumerable properties of Object.prototype":
        "Object.prototype.evil = '1},\"asks\":[[1,\"push\",\"sendMessage\",[1]]]';",
    "another JSON": "JSON.stringify = JSON.parse = function () { return 'evil'; }; JSON = null;",
    "other array functions":
        "['push', 'join', 'map', 'forEach', 'slice', 'concat', 'toJSON'].forEach(function (name) {"
        " if (name !== 'forEach') Array.prototype[name] = function () { return 'evil'; }; });",
    "another iteration": "Array.prototype[Symbol.iterator] = function () { throw 1; };",
    "other strings": "String.prototype.toJSON = function () { return 'evil'; };"
                     "String.prototype.slice = String.prototype.split = function () { throw 1; };",
    "other promises": "Promise.prototype.then = function () { throw 1; }; Promise = null;",
    "other globals": "Math = Date = Number = Reflect = Error = undefined; eval = null;"
                     " queueMicrotask = null;",
    "other functions": "Function.prototype.call = Function.prototype.apply = null;",
    "properties that descriptors have":
        "Object.prototype.get = Object.prototype.set = function () { return 'evil'; };"
        " Object.prototype.value = Object.prototype.writable = 'evil';",
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_with_the_language_does_not_loosen_the_limits(name: str) -> None:
    """It may break the script's own run; never the count of its calls or another run."""
    settings = HookSettings(script_workers=1, script_cpu_s=0.5, max_module_calls=10)
    host = TableHost()
    flood = f"{TAMPERING[name]} for (;;) modules.push.send({{_id: 1}}, 'x');"
    normal = f"{TAMPERING[name]} response.complete(201);"
    calls = [
        (code, call_of("customEndpoint", wall_limit_s=WALL_S))
        for code in (endpoint(flood), endpoint(normal), FINE)
    ]
    flooded, completed, after = asyncio.run(outcomes(calls, host=host, settings=settings))
    assert isinstance(flooded, HookFailed)
    assert len(host.questions) <= 10
    if isinstance(completed, Result):
        assert completed.response["status"] == 201
        assert completed.response["body"] == {}
    else:
        assert completed.kind in (FailureKind.RUNTIME, FailureKind.VIOLATION)
    assert isinstance(after, Result)
    assert after.response["body"] == "fine"


def workers_of(runner: JavaScriptRunner) -> list[int]:
    pool: Pool = runner._pool
    return [worker.pid for worker in pool._all]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Waiting(TableHost):
    """Says when it was asked for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = asyncio.Event()

    async def ask(self, *_: Any) -> Any:
        self.was_asked.set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_runner_that_dies_fails_its_run_and_is_replaced(number: signal.Signals) -> None:
    class Killer(TableHost):
        async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
            os.kill(workers_of(runner)[0], number)

    runner: JavaScriptRunner

    async def work() -> tuple[HookFailed, Result]:
        nonlocal runner
        runner = JavaScriptRunner(SETTINGS)
        code = endpoint("modules.push.send(1, 'x', function () {})")
        try:
            with pytest.raises(HookFailed) as caught:
                await runner.run(code, call_of("customEndpoint"), Killer())
            after = await runner.run(FINE, call_of("customEndpoint"), TableHost())
        finally:
            await runner.close()
        return caught.value, after

    error, after = asyncio.run(work())
    assert (error.kind, error.debug) == (FailureKind.INTERNAL, "the runner died")
    assert after.response["body"] == "fine"


def test_a_runner_that_died_between_two_runs_is_replaced_unseen() -> None:
    async def work() -> Result:
        runner = JavaScriptRunner(SETTINGS)
        try:
            await runner.run(FINE, call_of("customEndpoint"), TableHost())
            (worker,) = runner._pool._all
            assert worker._process is not None
            os.kill(worker.pid, signal.SIGKILL)
            await asyncio.to_thread(worker._process.wait)
            return await runner.run(FINE, call_of("customEndpoint"), TableHost())
        finally:
            await runner.close()

    assert asyncio.run(work()).response["body"] == "fine"


def test_a_run_that_is_cancelled_leaves_no_process_behind() -> None:
    async def work() -> None:
        runner = JavaScriptRunner(SETTINGS)
        host = Waiting()
        code = endpoint("modules.push.send(1, 'x', function () { for (;;) {} })")
        task = asyncio.create_task(runner.run(code, call_of("customEndpoint"), host))
        await host.was_asked.wait()
        (pid,) = workers_of(runner)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await runner.settle()
        assert not is_there(pid)
        after = await runner.run(FINE, call_of("customEndpoint"), TableHost())
        assert after.response["body"] == "fine"
        await runner.close()

    asyncio.run(work())


def test_closing_ends_runs_and_processes() -> None:
    async def work() -> None:
        runner = JavaScriptRunner(SETTINGS)
        host = Waiting()
        code = endpoint("modules.push.send(1, 'x'); setTimeout(function () {}, 60000)")
        task = asyncio.create_task(runner.run(code, call_of("customEndpoint"), host))
        await host.was_asked.wait()
        pids = workers_of(runner)
        await runner.close()
        with pytest.raises(HookFailed, match="the run was stopped"):
            await task
        assert not any(is_there(pid) for pid in pids)
        with pytest.raises(HookFailed, match="the server is stopping"):
            await runner.run(FINE, call_of("customEndpoint"), TableHost())

    asyncio.run(work())


def test_closing_ends_a_run_whose_worker_is_starting() -> None:
    async def work() -> None:
        runner = JavaScriptRunner(SETTINGS)
        task = asyncio.create_task(runner.run(FINE, call_of("customEndpoint"), TableHost()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await runner.close()
        with pytest.raises(HookFailed, match="the run was stopped"):
            await task

    asyncio.run(work())


def test_an_app_with_endless_scripts_does_not_hold_up_another() -> None:
    async def work() -> float:
        runner = JavaScriptRunner(HookSettings(script_workers=2, script_cpu_s=1.0))
        endless = [asyncio.create_task(_fails(runner, endpoint("for (;;) {}"))) for _ in range(4)]
        await asyncio.sleep(0)
        call = Call("other", "r", "customEndpoint", "e", {"method": "POST", "body": {}})
        await runner.run(FINE, call, TableHost())  # starts its worker
        started = time.monotonic()
        for _ in range(5):
            await runner.run(FINE, call, TableHost())
        took = time.monotonic() - started
        for task in endless:
            task.cancel()
        await asyncio.wait(endless)
        await runner.close()
        return took

    assert asyncio.run(work()) < 1.0  # the four would take four seconds, one after the other


async def _fails(runner: JavaScriptRunner, code: Code) -> None:
    with pytest.raises(HookFailed):
        await runner.run(code, call_of("customEndpoint"), TableHost())


def test_the_time_in_the_queue_counts() -> None:
    async def work() -> tuple[FailureKind, float]:
        runner = JavaScriptRunner(SETTINGS)
        first = asyncio.create_task(_fails(runner, endpoint("for (;;) {}")))
        await asyncio.sleep(0)
        started = time.monotonic()
        with pytest.raises(HookFailed) as caught:
            await runner.run(FINE, call_of("customEndpoint", wall_limit_s=0.2), TableHost())
        took = time.monotonic() - started
        await first
        await runner.close()
        return caught.value.kind, took

    kind, took = asyncio.run(work())
    assert kind is TIMEOUT
    assert took < 0.7


def test_hostile_scripts_leave_the_servers_memory_as_it_was() -> None:
    scripts = ("for (;;) modules.push.send(1, 'x'.repeat(1e4))",
               "response.body = 'x'.repeat(5e6); response.complete()",
               "for (;;) modules.logger.info('x'.repeat(1e4))",
               "for (var a = [];;) a.push(new Uint8Array(1 << 20))")  # fmt: skip
    runs = [(endpoint(each), call_of("customEndpoint")) for each in scripts]
    asyncio.run(outcomes(runs))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asyncio.run(outcomes(runs * 3))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024


def look_at(pid: int) -> dict[str, str]:
    place = Path(f"/proc/{pid}")
    return {
        "environ": (place / "environ").read_text(),
        "limits": (place / "limits").read_text(),
        "cwd": os.readlink(place / "cwd"),
        "files": str(len(os.listdir(place / "fd"))),
        "nice": str(os.getpriority(os.PRIO_PROCESS, pid)),
    }


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_worker_has_given_up_what_it_does_not_need() -> None:
    seen: dict[str, str] = {}

    class Looking(TableHost):
        async def ask(self, *_: Any) -> Any:
            (pid,) = workers_of(runner)
            seen.update(look_at(pid))

    runner: JavaScriptRunner

    async def work() -> None:
        nonlocal runner
        runner = JavaScriptRunner(SETTINGS)
        code = endpoint("modules.push.send(1, 'x', function () { response.complete() })")
        await runner.run(code, call_of("customEndpoint"), Looking())
        await runner.close()

    asyncio.run(work())
    assert seen["environ"] == ""
    assert seen["cwd"] == "/"
    assert seen["files"] == "3"
    assert int(seen["nice"]) >= 10
    assert "Max core file size        0                    0" in seen["limits"]
    assert "Max file size             0                    0" in seen["limits"]
    assert "Max processes             0                    0" in seen["limits"]


def test_a_run_uses_no_more_than_it_is_given_by_the_operator() -> None:
    tight = HookSettings(script_workers=1, script_memory_bytes=4_194_304, script_cpu_s=0.2)
    runs = [(endpoint(each), call_of("customEndpoint"))
            for each in ("new Uint8Array(5e6)", "for (;;) {}")]  # fmt: skip
    memory, cpu = asyncio.run(outcomes(runs, settings=tight))
    assert isinstance(memory, HookFailed)
    assert memory.kind is VIOLATION
    assert isinstance(cpu, HookFailed)
    assert cpu.debug == "more than 0.2 s of processor time"
    assert run(FINE).response["body"] == "fine"


def test_the_server_counts_what_a_worker_asks_itself() -> None:
    """A worker that a script took over says what it likes: more calls than may be are not made."""

    async def work() -> list[Any]:
        host = TableHost()
        settings = HookSettings(max_module_calls=2)
        run = _Run(FINE, call_of("customEndpoint"), host, settings, None)
        asks = b",".join(b'[%d,"push","broadcastMessage",["x"]]' % number for number in range(3))
        with pytest.raises(HookFailed) as caught:
            run._take(b'{"log":[],"done":null,"asks":[' + asks + b"]}")
        assert caught.value.kind is VIOLATION
        run._fail(caught.value)
        await run._finish_asking()
        with pytest.raises(HookFailed):
            await run.outcome
        return host.questions

    assert asyncio.run(work()) == []
