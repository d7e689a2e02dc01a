"""`mqttpush hooks`: an app's server code as its operator sees it: list, try, log, services."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from mqttpush.cli.options import config_option, json_option, settings_of
from mqttpush.cli.session import open_store
from mqttpush.cli.terminal import note, print_facts, print_json, print_table, run
from mqttpush.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from mqttpush.server_code import Hook, LogLine

_CODE_KEYS = {"python": ("entryPoint",), "external": ("service", "handler")}


@click.group()
def hooks() -> None:
    """List, check, try and follow the server code of an app.

    `mqttpush kinvey apply` puts hooks there from a file.

    \b
    Examples:
      mqttpush hooks list kid_shop
      mqttpush hooks check kid_shop scores onPreSave --request '{"body": {"points": 7}}'
      mqttpush hooks check kid_shop scores onPreSave --python shop.hooks:check_score
      mqttpush hooks log kid_shop
      mqttpush hooks service set kid_shop mailer http://127.0.0.1:10001
    """


@hooks.command("list")
@click.argument("app_id")
@config_option
@json_option
def list_hooks(app_id: str, config_file: Path | None, is_json: bool) -> None:
    """List an app's hooks, endpoints and common code."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            await operations.apps.get(app_id)
            found = await operations.server_code.hooks(app_id)
            schedules = await operations.server_code.schedules(app_id)
        if is_json:
            print_json(
                {
                    "hooks": [_described(hook) for hook in found],
                    "schedules": [
                        {"name": each.name, "endpoint": each.endpoint, "next": _time(each.next_ms)}
                        for each in schedules
                    ],
                }
            )
            return
        if not found and not schedules:
            note("No server code yet: `mqttpush kinvey apply FILE` puts it there.")
        rows = [
            (hook.kind.value, hook.name, hook.function, hook.language, _code(hook))
            for hook in found
        ]
        if rows:
            print_table(("kind", "name", "function", "type", "code"), rows)
        if schedules:
            print_table(
                ("schedule", "runs", "next"),
                [(each.name, each.endpoint, _time(each.next_ms)) for each in schedules],
            )

    run(work())


@hooks.command()
@click.argument("app_id")
@click.argument("name")
@click.argument("function", default="onRequest")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Script to check in place of what is stored.",
)
@click.option("--python", "entry_point", help="Python function to check: package.module:function.")
@click.option("--request", "request_json", default="{}", help="Sample request, JSON.")
@click.option("--response", "response_json", default="{}", help="Sample response of a post-hook.")
@config_option
@json_option
def check(
    app_id: str,
    name: str,
    function: str,
    file: Path | None,
    entry_point: str | None,
    request_json: str,
    response_json: str,
    config_file: Path | None,
    is_json: bool,
) -> None:
    """Parse a hook and run it once with a sample request; exit code 1 if either fails.

    NAME is a collection or an endpoint, FUNCTION the hook's name. Pushes, mails and writes of the
    code are shown, not done. An HTTP service is really called.
    """

    async def work() -> None:
        from mqttpush.server import open_code, open_operations

        settings = settings_of(config_file)
        async with open_operations(settings) as operations:
            await operations.apps.get(app_id)
            stored = await operations.server_code.hooks(app_id)
        hook = _chosen(stored, app_id, name, function, file, entry_point)
        samples = (_object(request_json, "--request"), _object(response_json, "--response"))
        async with open_code(settings) as files:
            await files.check_code([hook])
            tried = await files.try_out(hook, *samples)
        facts: dict[str, Any] = {
            "outcome": tried.outcome,
            "milliseconds": round(tried.seconds * 1000, 2),
            **tried.answer,
            "questions": tried.questions,
            "log": [f"{level}: {message}" for level, message in tried.log],
        }
        if is_json:
            print_json(facts)
        else:
            print_facts({key: _shown(value) for key, value in facts.items()})
        if tried.outcome not in ("complete", "continue"):
            raise SystemExit(1)

    run(work())


@hooks.command()
@click.argument("app_id")
@click.option("--request-id", help="Lines of one request: X-Kinvey-Request-Id of its answer.")
@click.option("--limit", type=click.IntRange(1, 2000), default=100, help="At most so many.")
@config_option
@json_option
def log(
    app_id: str, request_id: str | None, limit: int, config_file: Path | None, is_json: bool
) -> None:
    """Show what an app's code logged and how it failed, oldest first."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            await operations.apps.get(app_id)
            lines = await operations.server_code.log(app_id, request_id=request_id, limit=limit)
        for line in lines:
            if is_json:
                print_json({**line._asdict(), "at": _time(line.at_ms)})
            else:
                click.echo(_line(line))
        if not lines and not is_json:
            note("Nothing was logged.")

    run(work())


@hooks.command()
@click.argument("app_id")
@click.argument("name")
@click.argument("function", default="onRequest")
@config_option
def delete(app_id: str, name: str, function: str, config_file: Path | None) -> None:
    """Delete a hook, or with its name alone an endpoint and its schedule."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            stored = await operations.server_code.hooks(app_id)
            hook = _chosen(stored, app_id, name, function, None, None)
            await operations.server_code.delete_hook(app_id, hook.kind, name, hook.function)
        note(f"deleted {name} {function}")

    run(work())


@hooks.group()
def service() -> None:
    """Say where the HTTP services are that hooks of type `external` name."""


@service.command("set")
@click.argument("app_id")
@click.argument("name")
@click.argument("url")
@click.option(
    "--secret",
    default="",
    envvar="MQTTPUSH_CLI_SERVICE_SECRET",
    show_envvar=True,
    help="Sent as X-Auth-Key: the service's sharedSecret.",
)
@config_option
def set_service(app_id: str, name: str, url: str, secret: str, config_file: Path | None) -> None:
    """Set the base URL of a service; NAME may be service/environment."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            await operations.server_code.put_service(app_id, name, url, secret)
        note(f"{name} is at {url}")

    run(work())


@service.command("list")
@click.argument("app_id")
@config_option
@json_option
def list_services(app_id: str, config_file: Path | None, is_json: bool) -> None:
    """List the services of an app; secrets are not shown."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            found = await operations.server_code.services(app_id)
        if is_json:
            print_json([{"name": each.name, "url": each.url} for each in found])
        elif found:
            print_table(("name", "url"), [(each.name, each.url) for each in found])
        else:
            note("No service yet: `mqttpush hooks service set APP NAME URL` adds one.")

    run(work())


@service.command("delete")
@click.argument("app_id")
@click.argument("name")
@config_option
def delete_service(app_id: str, name: str, config_file: Path | None) -> None:
    """Forget a service; hooks that name it fail from then on."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            await operations.server_code.delete_service(app_id, name)
        note(f"forgot {name}")

    run(work())


def _chosen(
    stored: list[Hook],
    app_id: str,
    name: str,
    function: str,
    file: Path | None,
    entry_point: str | None,
) -> Hook:
    """What is stored under the name, or the code that is given for it."""
    from mqttpush.server_code import Hook, HookKind

    kind = HookKind.ENDPOINT if function == "onRequest" else HookKind.HOOK
    if file is not None:
        try:
            code = {"source": file.read_text(encoding="utf-8-sig")}
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequest("cannot be read as UTF-8", field=str(file)) from exc
        return Hook(app_id, kind, name, function, "internal", code)
    if entry_point:
        return Hook(app_id, kind, name, function, "python", {"entryPoint": entry_point})
    for hook in stored:
        if (hook.kind, hook.name, hook.function) == (kind, name, function):
            return hook
    raise NotFound("hook", f"{name} {function}", app_id=app_id)


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"is not JSON: {exc}", field=option) from exc
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field=option)
    return value


def _described(hook: Hook) -> dict[str, Any]:
    return {
        "kind": hook.kind.value,
        "name": hook.name,
        "function": hook.function,
        "type": hook.language,
        **hook.code,
        "modified": _time(hook.modified_ms),
    }


def _code(hook: Hook) -> str:
    keys = _CODE_KEYS.get(hook.language)
    if keys is None:
        return f"{len(hook.code['source'])} characters"
    return " ".join(str(hook.code[key]) for key in keys)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _line(line: LogLine) -> str:
    where = f"{line.place} {line.function}".strip()
    return f"{_time(line.at_ms)} {line.request_id} {where} {line.level}: {line.message}"


def _time(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
