"""Putting an environment file's plan into force, and trying code out (spec kinvey 9).

Knows no file. The one idea: all code and all credentials are checked first, and what the plan says
is written in one unit of work, so a file that is refused has changed nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mqttpush.errors import CodeFailed, InvalidRequest, NotFound
from mqttpush.hooks import Call, FailureKind, HookFailed, HostRefused, Language
from mqttpush.models import Json
from mqttpush.operations import Operations
from mqttpush.operations.environment_file import Plan
from mqttpush.operations.running import Running
from mqttpush.server_code import Hook, HookKind
from mqttpush.store import Store, Transaction
from mqttpush.store.network_keys import SealedKeys


@dataclass(frozen=True, slots=True)
class Tried:
    """A dry run. questions: what the code asked of the server, none of which was done."""

    outcome: str
    answer: Json
    log: tuple[tuple[str, str], ...] = ()
    questions: list[Json] = field(default_factory=list)
    seconds: float = 0.0


class DryHost:
    """`Host` that does nothing: it notes the question and answers as an empty server would."""

    def __init__(self) -> None:
        self.questions: list[Json] = []

    async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
        self.questions.append({"module": module, "function": function, "arguments": arguments})
        if module == "push":
            return {"messageId": "dry-run", "users": 0, "devices": 0, "queued": 0}
        if module == "collectionAccess":
            return _of_nothing(function, arguments)
        if module == "api":
            return {"status": 200, "headers": {}, "body": {}}
        if module == "email":
            return {}
        raise HostRefused("BadRequest", f"there is no {module}.{function}")


class EnvironmentFiles:
    """For the operator: apply a plan, check and try code."""

    def __init__(self, store: Store, operations: Operations, running: Running) -> None:
        self._store = store
        self._operations = operations
        self._running = running

    async def check_code(self, hooks: list[Hook]) -> list[str]:
        """Raises InvalidRequest that names the hook which could never run; returns warnings."""
        warnings = []
        for hook in hooks:
            code = await self._running.business_logic.code_of(hook, hooks)
            if code.language is Language.FLEX and not code.service_url:
                name = hook.code["service"]
                warnings.append(
                    f"{_name(hook)}: where is the service {name}? `mqttpush hooks service set`"
                )
                continue
            if code.language is Language.FLEX:
                continue  # it may be down now and up when it is called
            try:
                await self._running.engine.check(code)
            except CodeFailed as exc:
                raise InvalidRequest(str(exc), field=_name(hook)) from exc
        return warnings

    async def check(self, plan: Plan) -> list[str]:
        """Whether the plan could be applied: raises what `apply` does, returns its warnings."""
        return (await self._checked(plan)).warnings

    async def apply(self, plan: Plan) -> list[str]:
        """Create and update what the plan says, delete nothing; returns warnings.

        Raises InvalidRequest, NotFound("app"): then nothing has changed.
        """
        operations, app_id = self._operations, plan.app_id
        checked = await self._checked(plan)

        def unit(tx: Transaction) -> None:
            if tx.apps.get(app_id) is None:
                raise NotFound("app", app_id)
            for network, keys in checked.keys.items():
                operations.networks.keep(tx, app_id, network, keys)
            if plan.settings:
                settings = replace(tx.kinvey.settings(app_id), **plan.settings)
                tx.kinvey.put_settings(app_id, settings)
            for name, permission in plan.collections.items():
                operations.entities.declare_in(tx, app_id, name, permission)
            for hook in plan.hooks:
                operations.server_code.put_hook(tx, hook)
            for each in plan.schedules:
                operations.server_code.schedule_endpoint(
                    tx, app_id, each.name, each.start_ms, each.interval
                )

        await self._store.write(unit)
        return checked.warnings

    async def try_out(self, hook: Hook, request: Json, response: Json) -> Tried:
        """Run the code once with a sample request; pushes, mails and writes are not done."""
        host, logic = DryHost(), self._running.business_logic
        code = await logic.code_of(hook, [hook])
        if code.language is Language.FLEX and not code.service_url:
            raise HookFailed(FailureKind.REMOTE, f"the service {hook.code['service']} is unknown")
        is_post = hook.function.startswith(("onPost", "onLogin"))
        call = Call(
            app_id=hook.app_id,
            request_id="dry-run",
            hook_type=_type_of(hook, is_post=is_post),
            object_name=hook.name,
            request={**_SAMPLE, "collectionName": hook.name, "appKey": hook.app_id, **request},
            response={"status": 200, "headers": {}, "body": {}, **response} if is_post else {},
            wall_limit_s=self._running.engine.wall_limit_s(code.language),
            app={"appKey": hook.app_id, "appSecret": "", "masterSecret": None, "baasUrl": ""},
        )
        started = time.monotonic()
        try:
            result = await self._running.engine.run(code, call, host)
        except HookFailed as exc:
            seconds = time.monotonic() - started
            return Tried(str(exc), {}, exc.log, host.questions, seconds)
        seconds = time.monotonic() - started
        left = {"request": {"body": result.request.get("body")}, "response": result.response}
        outcome = "complete" if result.is_final else "continue"
        return Tried(outcome, left, result.log, host.questions, seconds)

    async def _checked(self, plan: Plan) -> _Checked:
        operations = self._operations
        await operations.apps.get(plan.app_id)
        warnings = [*plan.warnings, *await self.check_code(plan.hooks)]
        keys = {}
        for network, fields in plan.push.items():
            try:
                keys[network] = await operations.networks.checked(plan.app_id, network, fields)
            except InvalidRequest as exc:
                raise InvalidRequest(str(exc), field=f"push ({network})") from exc
        return _Checked(warnings, keys)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What only checking tells of a plan. keys: by network, as they are kept."""

    warnings: list[str]
    keys: Mapping[str, SealedKeys]


_SAMPLE: Json = {
    "method": "POST",
    "headers": {},
    "body": {},
    "params": {},
    "username": "somebody",
    "userId": "0123456789abcdef01234567",
    "securityContext": "user",
}


def _type_of(hook: Hook, *, is_post: bool) -> str:
    if hook.kind is HookKind.ENDPOINT:
        return "customEndpoint"
    return "post" if is_post else "pre"


def _name(hook: Hook) -> str:
    return f"{hook.name} {hook.function}".strip()


def _of_nothing(function: str, arguments: list[Any]) -> Any:
    """What a collection without documents answers."""
    if function in ("find", "distinct"):
        return []
    if function in ("count", "update", "remove"):
        return 0
    if function == "collectionExists":
        return False
    written = arguments[1] if len(arguments) > 1 else None
    return written if function in ("insert", "save") else None
