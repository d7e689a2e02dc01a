"""`mqttpush app`: apps, made and removed in the store itself, so no server need run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mqttpush.cli.options import ServerOptions, config_option, json_option, settings_of
from mqttpush.cli.session import database_path, open_admin, open_store
from mqttpush.cli.terminal import note, print_facts, print_json, print_table, run
from mqttpush.errors import ServerUnreachable

if TYPE_CHECKING:
    from mqttpush.models import App


@click.group()
def app() -> None:
    """Create, list, show, change and delete apps: the tenants of a server.

    Works on the store that the settings name, whether or not the server runs.

    \b
    Examples:
      mqttpush app create Shop
      mqttpush app create Shop --app-id shop --json
      mqttpush app change shop --app-key-checked
      mqttpush app list
    """


@app.command()
@click.argument("name")
@click.option("--app-id", help="ID of your own choice, 1 to 64 of A-Z a-z 0-9 _ -.")
@click.option("--app-key", help="Key of your own choice, such as an old service's.")
@config_option
@json_option
def create(
    name: str, app_id: str | None, app_key: str | None, config_file: Path | None, is_json: bool
) -> None:
    """Create an app and print its credentials; the client secret is shown this once."""

    async def work() -> None:
        from mqttpush.server import open_operations

        async with open_operations(settings_of(config_file)) as operations:
            created = await operations.apps.create(name, app_id=app_id, app_key=app_key)
        facts = {**_credentials(created.app), "clientSecret": created.client_secret}
        if is_json:
            print_json(facts)
        else:
            print_facts(facts)
            note("The client secret is not shown again: put it in a safe place now.")

    run(work())


@app.command("list")
@config_option
@json_option
def list_apps(config_file: Path | None, is_json: bool) -> None:
    """List the apps, oldest first."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            apps = await operations.apps.list()
        if is_json:
            print_json([_description(each) for each in apps])
        elif apps:
            rows = [(each.app_id, each.name, _time(each), _state(each)) for each in apps]
            print_table(("appID", "name", "created", "state"), rows)
        else:
            note("No app yet: `mqttpush app create NAME` makes one.")

    run(work())


@app.command()
@click.argument("app_id")
@config_option
@json_option
def show(app_id: str, config_file: Path | None, is_json: bool) -> None:
    """Show one app; its client secret cannot be shown again."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            found = await operations.apps.get(app_id)
        if is_json:
            print_json(_description(found))
        else:
            print_facts(_description(found))

    run(work())


@app.command()
@click.argument("app_id")
@click.option(
    "--app-key-checked/--app-key-ignored",
    "is_app_key_checked",
    default=None,
    help="Refuse anonymous clients with a wrong app key; a new app takes any.",
)
@click.option(
    "--thing-password-checked/--thing-password-ignored",
    "is_thing_password_checked",
    default=None,
    help="Ask users for a thing's password before they own it; a new app does not.",
)
@click.option(
    "--small-apns-payloads/--full-apns-payloads",
    "is_apns_payload_small",
    default=None,
    help="Refuse messages over 2,048 bytes for APNs, as Kii did; a new app takes 4,096.",
)
@click.option(
    "--deliver-once/--deliver-everywhere",
    "is_delivery_once",
    default=None,
    help="Spare phones of those whom a live connection reached; a new app does not.",
)
@config_option
@json_option
def change(
    app_id: str,
    is_app_key_checked: bool | None,
    is_thing_password_checked: bool | None,
    is_apns_payload_small: bool | None,
    is_delivery_once: bool | None,
    config_file: Path | None,
    is_json: bool,
) -> None:
    """Switch an app's checks on or off; a running server heeds it from the next request on."""

    async def work() -> None:
        async with open_store(settings_of(config_file)) as operations:
            changed = await operations.apps.change(
                app_id,
                is_app_key_checked=is_app_key_checked,
                is_thing_password_checked=is_thing_password_checked,
                is_apns_payload_small=is_apns_payload_small,
                is_delivery_once=is_delivery_once,
            )
        if is_json:
            print_json(_description(changed))
        else:
            print_facts(_description(changed))

    run(work())


@app.command()
@click.argument("app_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def delete(app_id: str, yes: bool, config_file: Path | None) -> None:
    """Delete an app with all its users, things, data and subscriptions."""
    settings = settings_of(config_file)
    if not yes:
        path = database_path(settings)
        click.confirm(f"Delete app {app_id} of {path} and everything in it?", abort=True, err=True)

    async def work() -> None:
        try:
            # A running server is asked, so that it ends the app's connections at once.
            async with open_admin(ServerOptions(config_file, app_id=app_id)) as session:
                await session.client.delete_app(session.token)
        except ServerUnreachable:
            async with open_store(settings) as operations:
                await operations.apps.delete(app_id)
        note(f"deleted app {app_id}")

    run(work())


def _credentials(found: App) -> dict[str, str]:
    return {"appID": found.app_id, "appKey": found.app_key, "clientID": found.client_id}


def _description(found: App) -> dict[str, object]:
    return {
        **_credentials(found),
        "name": found.name,
        "created": _time(found),
        "state": _state(found),
        "appKeyChecked": found.is_app_key_checked,
        "thingPasswordChecked": found.is_thing_password_checked,
        "smallAPNsPayloads": found.is_apns_payload_small,
        "deliverOnce": found.is_delivery_once,
    }


def _time(found: App) -> str:
    moment = datetime.fromtimestamp(found.created_ms / 1000, UTC)
    return moment.isoformat(sep=" ", timespec="seconds")


def _state(found: App) -> str:
    return "disabled" if found.is_disabled else "active"
