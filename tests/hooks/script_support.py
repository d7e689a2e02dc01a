"""Scripts run by the runner alone, with a host that answers from a table."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, HookFailed, HostRefused, Language, Result
from mqttpush.hooks.javascript.runner import JavaScriptRunner
from tests.hooks.support import call_of

# One worker, so that a second run shows what the first one left behind.
SETTINGS = HookSettings(script_workers=1, script_cpu_s=1.0)


class TableHost:
    """Answers `module.function` from a table; what is not in it with {}."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = answers or {}
        self.questions: list[tuple[str, list[Any]]] = []

    async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
        name = f"{module}.{function}"
        self.questions.append((name, arguments))
        answer = self.answers.get(name, {})
        if isinstance(answer, HostRefused):
            raise answer
        return answer


def script(source: str, function: str = "onPreSave") -> Code:
    return Code(Language.JAVASCRIPT, function, source=source)


def endpoint(body: str) -> Code:
    """A custom endpoint of these statements."""
    return script(f"function onRequest(request, response, modules) {{ {body} }}", "onRequest")


async def outcomes(
    runs: Sequence[tuple[Code, Call]],
    *,
    host: TableHost | None = None,
    settings: HookSettings = SETTINGS,
    late: list[tuple[str, str]] | None = None,
) -> list[Result | HookFailed]:
    """What each run came to, one after the other."""
    said: list[tuple[str, str]] = [] if late is None else late
    runner = JavaScriptRunner(settings, on_late_log=lambda _code, _call, log: said.extend(log))
    results: list[Result | HookFailed] = []
    try:
        for code, call in runs:
            try:
                results.append(await runner.run(code, call, host or TableHost()))
            except HookFailed as failure:
                results.append(failure)
    finally:
        await runner.settle()
        await runner.close()
    return results


def run(code: Code, call: Call | None = None, host: TableHost | None = None) -> Result:
    """The result of one run; its failure is raised."""
    (outcome,) = asyncio.run(outcomes([(code, call or call_of("customEndpoint"))], host=host))
    if isinstance(outcome, HookFailed):
        raise outcome
    return outcome


def failure(code: Code, call: Call | None = None, host: TableHost | None = None) -> HookFailed:
    (outcome,) = asyncio.run(outcomes([(code, call or call_of("customEndpoint"))], host=host))
    assert isinstance(outcome, HookFailed), outcome
    return outcome


def value(expression: str, *, host: TableHost | None = None, **request: Any) -> Any:
    """What an expression is in an endpoint, as JSON."""
    code = endpoint(f"response.body = {{ value: {expression} }}; response.complete();")
    return run(code, call_of("customEndpoint", **request), host).response["body"].get("value")
