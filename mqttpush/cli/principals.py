"""`mqttpush user` and `mqttpush thing`: sign somebody up on a running server."""

from __future__ import annotations

import secrets
from typing import Any

import click

from mqttpush.cli.options import ServerOptions, json_option, server_options
from mqttpush.cli.session import open_app
from mqttpush.cli.terminal import print_facts, print_json, run
from mqttpush.cli.values import parse_pairs


@click.group()
def user() -> None:
    """Create users of an app.

    \b
    Examples:
      mqttpush user create                      a pseudo user, known by his token alone
      mqttpush user create anna displayName=Anna --json
    """


@user.command("create")
@click.argument("login_name", required=False)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--password", help="4 to 50 characters; made up when left out.")
@json_option
@server_options(is_admin=False)
def create_user(
    login_name: str | None,
    fields: tuple[str, ...],
    password: str | None,
    is_json: bool,
    server: ServerOptions,
) -> None:
    """Create a user and print his ID and access token.

    Without LOGIN_NAME it is a pseudo user. FIELD=VALUE sets attributes such as displayName.
    """
    if login_name and "=" in login_name:  # the first field, not a name
        fields = (login_name, *fields)
        login_name = None
    attributes: dict[str, Any] = parse_pairs(fields)
    if login_name:
        attributes["loginName"] = login_name
        attributes["password"] = password or secrets.token_urlsafe(12)
    elif password:
        raise click.UsageError("--password needs a LOGIN_NAME")

    async def work() -> None:
        async with open_app(server) as client:
            account = await client.create_user(attributes)
        facts = {"userID": account.id, "accessToken": account.token}
        if login_name:
            facts |= {"loginName": login_name, "password": attributes["password"]}
        (print_json if is_json else print_facts)(facts)

    run(work())


@click.group()
def thing() -> None:
    """Create things: devices that act by themselves.

    \b
    Example:
      mqttpush thing create kitchen-lamp --json
    """


@thing.command("create")
@click.argument("vendor_thing_id")
@click.option("--password", help="1 to 200 characters; made up when left out.")
@json_option
@server_options(is_admin=False)
def create_thing(
    vendor_thing_id: str, password: str | None, is_json: bool, server: ServerOptions
) -> None:
    """Create a thing and print its ID and access token.

    VENDOR_THING_ID is the maker's name of it, such as a serial number.
    """
    chosen = password or secrets.token_urlsafe(12)

    async def work() -> None:
        async with open_app(server) as client:
            account = await client.create_thing(vendor_thing_id, chosen)
        facts = {
            "thingID": account.id,
            "vendorThingID": vendor_thing_id,
            "password": chosen,
            "accessToken": account.token,
        }
        (print_json if is_json else print_facts)(facts)

    run(work())
