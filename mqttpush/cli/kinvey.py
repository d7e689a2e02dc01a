"""`mqttpush kinvey`: apps that Kinvey's clients use; environment files and settings."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from mqttpush.cli.options import ServerOptions, config_option, json_option, settings_of
from mqttpush.cli.session import READY_FILE, database_path, open_admin, open_store
from mqttpush.cli.terminal import note, print_facts, print_json, run
from mqttpush.errors import InvalidRequest, RequestRefused, ServerUnreachable

FILE_LIMIT_BYTES = 16 * 1024 * 1024


@click.group()
def kinvey() -> None:
    """Load environment files of Kinvey, choose what holds for an app its clients use.

    Works on the store that the settings name, whether or not the server runs; a running server
    heeds it from the next request on.

    \b
    Examples:
      mqttpush app create Shop --app-id kid_shop --app-key THE-APP-SECRET
      mqttpush kinvey apply environment.json --app-id kid_shop
      mqttpush kinvey settings kid_shop
      mqttpush kinvey settings kid_shop is_live_service_on=true
    """


@kinvey.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--app-id", required=True, help="App that becomes this environment.")
@click.option("--dry-run", is_flag=True, help="Check all of the file; change nothing.")
@config_option
@json_option
def apply(file: Path, app_id: str, dry_run: bool, config_file: Path | None, is_json: bool) -> None:
    """Apply an environment file: collections, hooks, endpoints, schedules, push credentials.

    Creates and updates, never deletes. Files it names are read from its own folder and below.
    All of it or nothing: nothing is changed unless the whole file is right, all its code parses and
    all its push credentials could be used.
    """

    async def work() -> None:
        from mqttpush.operations.environment_file import read_environment
        from mqttpush.server import open_code

        document = _json(_read(file), str(file))
        plan = read_environment(document, app_id, lambda name: _beside(file, name))
        async with open_code(settings_of(config_file)) as files:
            warnings = await (files.check(plan) if dry_run else files.apply(plan))
        if not dry_run:
            warnings += await _heeded(ServerOptions(config_file, app_id=app_id))
        facts: dict[str, Any] = {
            "collections": len(plan.collections),
            "code": len(plan.hooks),
            "schedules": len(plan.schedules),
            "push": sorted(plan.push),
        }
        if is_json:
            print_json({**facts, "warnings": warnings, "changed": not dry_run})
            return
        print_facts({**facts, "push": ", ".join(facts["push"]) or "nothing"})
        for warning in warnings:
            note(f"warning: {warning}")
        note("Nothing was changed." if dry_run else f"{app_id} is as the file says.")

    run(work())


@kinvey.command()
@click.argument("app_id")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@config_option
@json_option
def settings(
    app_id: str, changes: tuple[str, ...], config_file: Path | None, is_json: bool
) -> None:
    """Show or change what holds for an app that Kinvey's clients use."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            known = asdict(await operations.environments.settings(app_id))
            wanted = dict(_change(each, known) for each in changes)
            found = await operations.environments.change_settings(app_id, wanted)
        if is_json:
            print_json(asdict(found))
        else:
            print_facts(
                {name: orjson.dumps(value).decode() for name, value in asdict(found).items()}
            )

    run(work())


async def _heeded(server: ServerOptions) -> list[str]:
    """Have the running server take notice, if there is one; returns what is to be done else."""
    if not (database_path(server.settings()).parent / READY_FILE).exists():
        return []
    try:
        async with open_admin(server) as session:
            await session.client.heed(session.token)
    except ServerUnreachable as exc:
        return [f"a server was ready on this store; restart it if it runs: {exc}"]
    except RequestRefused as exc:
        return [f"the running server did not take notice, restart it: {exc}"]
    return []


def _change(text: str, known: dict[str, Any]) -> tuple[str, object]:
    """`NAME=VALUE`, of the type the setting has."""
    name, equals, value = text.partition("=")
    if not equals or name not in known:
        raise click.UsageError(f"{text}: give NAME=VALUE, the names are {', '.join(known)}")
    if isinstance(known[name], bool):
        if value not in ("true", "false"):
            raise click.UsageError(f"{name} is true or false")
        return name, value == "true"
    if not value.isascii() or not value.isdigit() or not 0 <= int(value) <= 6:
        raise click.UsageError(f"{name} is an integer from 0 to 6")
    return name, int(value)


def _read(file: Path) -> bytes:
    try:
        if not file.is_file():  # a pipe would be waited for
            raise InvalidRequest("is not a file", field=str(file))
        if file.stat().st_size > FILE_LIMIT_BYTES:
            raise InvalidRequest(f"has more than {FILE_LIMIT_BYTES} bytes", field=str(file))
        return file.read_bytes()
    except OSError as exc:
        raise InvalidRequest(f"cannot be read: {exc.strerror}", field=str(file)) from exc


def _json(data: bytes, name: str) -> object:
    try:
        return orjson.loads(data.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"is not JSON: {exc}", field=name) from exc


def _beside(file: Path, name: str) -> bytes:
    """A file that the environment file names: in its folder or below, also behind links."""
    folder = file.resolve().parent
    try:
        target = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # a loop of links, a NUL
        raise InvalidRequest("is no name of a file", field="codeFile") from exc
    if not target.is_relative_to(folder):
        raise InvalidRequest("is outside of the folder of the environment file", field=name)
    return _read(target)
