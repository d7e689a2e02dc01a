"""Hooks in Python: what they are given, what they leave, and how they fail."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import pytest

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Language, Result
from mqttpush.hooks.python import PythonRunner
from mqttpush.hooks.threads import Threads
from tests.hooks.support import MODULE, RecordingHost, call_of

SETTINGS = HookSettings(python_modules=[MODULE], max_module_calls=20)


def code_of(function: str, module: str = MODULE) -> Code:
    return Code(Language.PYTHON, "onPreSave", entry_point=f"{module}:{function}")


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


def run(function: str, call: Call, host: RecordingHost, module: str = MODULE) -> Result:
    async def work() -> Result:
        runner = PythonRunner(SETTINGS, threads=Threads(limit=4))
        try:
            return await runner.run(code_of(function, module), call, host)
        finally:
            await runner.close()

    return asyncio.run(work())


def failure(function: str, call: Call, host: RecordingHost, module: str = MODULE) -> HookFailed:
    with pytest.raises(HookFailed) as caught:
        run(function, call, host, module)
    return caught.value


@pytest.mark.parametrize(
    ("function", "changed"), [("change_body", True), ("change_body_async", "async")]
)
def test_a_pre_hook_changes_the_body(function: str, changed: object, host: RecordingHost) -> None:
    result = run(function, call_of(body={"name": "Joe"}), host)
    assert not result.is_final
    assert result.request["body"] == {"name": "Joe", "changed": changed}


def test_what_is_kept_for_the_post_hook_comes_back(host: RecordingHost) -> None:
    result = run("change_body", call_of(body={"name": "Joe"}), host)
    assert result.request["tempObjectStore"] == {"seen": "Joe"}


def test_complete_ends_the_request_with_a_body_and_a_status(host: RecordingHost) -> None:
    result = run("keep_out", call_of(), host)
    assert result.is_final
    assert result.response["status"] == 202
    assert result.response["body"] == {"message": "kept out"}


def test_a_post_hook_starts_from_what_the_request_came_to(host: RecordingHost) -> None:
    result = run("add_seen", call_of("post", tempObjectStore={"seen": "Joe"}), host)
    assert result.response == {
        "status": 201,
        "headers": {},
        "body": {"stored": True, "seen": "Joe"},
    }


def test_error_is_a_runtime_error_with_its_text_and_keeps_the_log(host: RecordingHost) -> None:
    error = failure("refuse", call_of(), host)
    assert error.kind is FailureKind.RUNTIME
    assert error.debug == "UserDefinedError: x"
    assert error.log == (("warn", "about to refuse"),)


def test_an_exception_is_told_with_its_line_and_without_a_folder(host: RecordingHost) -> None:
    error = failure("fail", call_of(), host)
    assert error.kind is FailureKind.RUNTIME
    assert error.debug.startswith("ValueError: broken (sample_hooks.py, line ")


def test_a_hook_that_exits_does_not_end_the_server(host: RecordingHost) -> None:
    assert failure("leave", call_of(), host).kind is FailureKind.RUNTIME


def test_what_is_no_json_is_refused(host: RecordingHost) -> None:
    assert failure("not_json", call_of(), host).kind is FailureKind.RUNTIME


def test_a_run_ends_at_its_limit_and_the_next_one_works() -> None:
    async def work() -> None:
        host = RecordingHost()
        runner = PythonRunner(SETTINGS, threads=Threads(limit=1))
        started = time.monotonic()
        with pytest.raises(HookFailed) as caught:
            await runner.run(code_of("sleep"), call_of(wall_limit_s=0.1), host)
        assert caught.value.kind is FailureKind.TIMEOUT
        result = await runner.run(code_of("change_body"), call_of(), host)
        assert result.request["body"]["changed"]
        assert time.monotonic() - started < 0.5  # neither waited for the sleeper
        await runner.close()

    asyncio.run(work())


@pytest.mark.parametrize("function", ["ask", "ask_async"])
def test_a_question_is_answered_by_the_host(function: str, host: RecordingHost) -> None:
    result = run(function, call_of("customEndpoint"), host)
    assert result.response["body"] == {"answer": 1}
    assert host.questions == [("push", "sendMessage", [{"_id": "u"}, "hello"])]


def test_a_run_may_ask_only_so_often(host: RecordingHost) -> None:
    assert failure("ask_without_end", call_of(), host).kind is FailureKind.VIOLATION
    assert len(host.questions) == SETTINGS.max_module_calls


def test_the_value_of_an_endpoint_is_its_answer(host: RecordingHost) -> None:
    result = run("announce", call_of("customEndpoint", body={"to": "all"}), host)
    assert result.is_final
    assert result.response["body"]["body"] == {"to": "all"}
    assert result.log == (("info", "announcing to all"),)


def test_server_code_is_given_its_parameters(host: RecordingHost) -> None:
    assert run("add", call_of("serverCode", body={"a": 1, "b": 2}), host).response["body"] == 3


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("os", "getcwd"),
        ("tests.hooks.support", "call_of"),
        (MODULE, "path_join"),  # of another module
        (MODULE, "missing"),
        (f"{MODULE}.missing", "function"),
        ("tests", "hooks"),
        ("a b", "c"),
        ("", ""),
    ],
)
def test_what_is_not_allowed_or_not_there_never_runs(
    module: str, function: str, host: RecordingHost
) -> None:
    assert failure(function, call_of(), host, module).kind is FailureKind.SYNTAX


@pytest.mark.parametrize("function", ["change_body", "change_body_async"])
def test_a_warm_hook_costs_little(function: str, host: RecordingHost) -> None:
    async def work() -> float:
        runner = PythonRunner(SETTINGS, threads=Threads(limit=4))
        times = []
        for _ in range(300):
            call = call_of(body={"name": "Joe"})
            started = time.perf_counter()
            await runner.run(code_of(function), call, host)
            times.append(time.perf_counter() - started)
        await runner.close()
        return statistics.median(times)

    median_s = asyncio.run(work())
    print(f"{function}: {median_s * 1e6:.0f} us")
    assert median_s < 0.002  # recorded figures are in docs/benchmarks.md; this only catches slips


def test_a_module_is_found_in_the_folders_the_operator_named(
    tmp_path: Path, host: RecordingHost
) -> None:
    (tmp_path / "found_in_a_folder.py").write_text("def f(a, b, c):\n    a.body['found'] = True\n")
    code = code_of("f", "found_in_a_folder")

    async def work(folders: list[str]) -> Result:
        settings = HookSettings(python_modules=["found_in_a_folder"], python_folders=folders)
        runner = PythonRunner(settings, threads=Threads(limit=1))
        try:
            return await runner.run(code, call_of(), host)
        finally:
            await runner.close()

    with pytest.raises(HookFailed, match=r"hooks\.python_folders"):
        asyncio.run(work([]))
    try:
        assert asyncio.run(work([str(tmp_path)])).request["body"] == {"found": True}
    finally:
        sys.path.remove(str(tmp_path))
