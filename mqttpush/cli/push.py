"""`mqttpush push`: messages to topics, direct pushes to users and things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from mqttpush.cli.options import Command, ServerOptions, json_option, server_options
from mqttpush.cli.session import AdminSession, open_admin
from mqttpush.cli.terminal import print_facts, print_json, print_table, run
from mqttpush.cli.values import parse_pairs, read_object

NETWORKS = ("mqtt", "fcm", "apns", "jpush", "webpush")
Send = Callable[[AdminSession, dict[str, Any]], Awaitable[str]]


@click.group()
def push() -> None:
    """Send a push to a topic, user or thing, as the app's administrator.

    \b
    Examples:
      mqttpush push topic news text=hello count=3
      mqttpush push topic news --create text=hello
      mqttpush push user 727f20b00022-8d18-5e11-991f-06db2509 text=hello
      mqttpush push user LOGIN_NAME:anna --data '{"text": "hello"}'
      mqttpush push thing VENDOR_THING_ID:kitchen-lamp --data @message.json
      mqttpush push trace 41a7be3e-9d1c-4f0f-8d0c-9f5f2c5a1b0e
    """


def _message_options(command: Command) -> Command:
    decorated: Any = server_options(is_admin=True)(command)
    decorated = json_option(decorated)
    decorated = click.option("--type", "message_type", help="What the push is called.")(decorated)
    decorated = click.option(
        "--only",
        type=click.Choice(NETWORKS),
        multiple=True,
        help="Only over this network; may be repeated.",
    )(decorated)
    decorated = click.option(
        "--delivery",
        type=click.Choice(("everywhere", "once")),
        help="`once` spares phones of those whom a live connection reached.",
    )(decorated)
    decorated = click.option("--data", help="A JSON object, @FILE, or - for standard input.")(
        decorated
    )
    return click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")(decorated)  # type: ignore[no-any-return]


@push.command()
@click.argument("topic_id", metavar="TOPIC")
@click.option("--user", "user_id", help="The topic is in this user's scope, not the app's.")
@click.option("--create", "is_created", is_flag=True, help="Make the topic if it is not there.")
@_message_options
def topic(topic_id: str, user_id: str | None, is_created: bool, **options: Any) -> None:
    """Send a message to everybody subscribed to a topic."""
    scope = f"/users/{user_id}" if user_id else ""

    async def send(session: AdminSession, message: dict[str, Any]) -> str:
        if is_created:
            await session.client.create_topic(session.token, topic_id, scope)
        return await session.client.send_to_topic(session.token, topic_id, message, scope)

    _send(send, **options)


@push.command()
@click.argument("user_id", metavar="USER")
@_message_options
def user(user_id: str, **options: Any) -> None:
    """Send a push to every device of a user, given by ID or LOGIN_NAME:name."""
    _send(
        lambda session, message: session.client.send_to_user(session.token, user_id, message),
        **options,
    )


@push.command()
@click.argument("thing_id", metavar="THING")
@_message_options
def thing(thing_id: str, **options: Any) -> None:
    """Send a push to a thing, given by ID or VENDOR_THING_ID:id."""
    _send(
        lambda session, message: session.client.send_to_thing(session.token, thing_id, message),
        **options,
    )


@push.command()
@click.argument("message_id", metavar="ID", required=False)
@click.option("--device", help="What was last sent to this installation, instead of a message.")
@click.option("--counts", "is_brief", is_flag=True, help="Only how many met which end.")
@json_option
@server_options(is_admin=True)
def trace(
    message_id: str | None, device: str | None, is_brief: bool, is_json: bool, server: ServerOptions
) -> None:
    """Show what became of a message, network by network and device by device.

    ID is the pushMessageID that sending answered. docs/networks.md says what each end means.
    """
    if (message_id is None) == (device is None):
        raise click.UsageError("give the ID of a message, or --device")

    async def work() -> None:
        async with open_admin(server) as session:
            client, token = session.client, session.token
            fate: dict[str, Any] = {}
            path = f"/installations/{device}/push"
            if message_id is not None:
                fate = await client.message_fate(token, message_id)
                path = f"/push/messages/{message_id}"
            rows = [] if is_brief else [row async for row in client.deliveries(token, path)]
        if is_json:
            print_json({**fate, "deliveries": rows})
        else:
            _print_trace(fate, rows)

    run(work())


def _print_trace(fate: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    if fate:
        print_facts({name: fate[name] for name in ("pushMessageID", "sentTo", "sentAt")})
        ends = []
        for network, counts in fate["networks"].items():
            ends += [(network, "delivered", counts["delivered"])]
            ends += [(network, reason, count) for reason, count in counts["dropped"].items()]
            if counts.get("waiting"):
                ends += [(network, "waiting", counts["waiting"])]
            if not counts.get("isComplete", True):
                ends += [(network, "not looked up yet", "?")]
        print_table(("network", "end", "devices"), ends)
    if rows:
        columns = ("installationID", "network", "end", "code", "attempts", "sent to")
        print_table(
            columns,
            [
                (
                    row["installationID"],
                    row["network"],
                    row.get("ending", "waiting"),
                    row.get("code", ""),
                    row["attempts"],
                    row["sentTo"],
                )
                for row in rows
            ],
        )


def _send(
    send: Send,
    *,
    pairs: tuple[str, ...],
    data: str | None,
    only: tuple[str, ...],
    message_type: str | None,
    delivery: str | None,
    is_json: bool,
    server: ServerOptions,
) -> None:
    content = {**(read_object(data) if data else {}), **parse_pairs(pairs)}
    if not content:
        raise click.UsageError("nothing to send: give NAME=VALUE or --data, such as text=hello")
    message: dict[str, Any] = {"data": content}
    message |= {network: {"enabled": True} for network in only or NETWORKS}
    if message_type:
        message["pushMessageType"] = message_type

    if delivery:
        message["delivery"] = delivery

    async def work() -> None:
        async with open_admin(server) as session:
            message_id = await send(session, message)
        (print_json if is_json else print_facts)({"pushMessageID": message_id})

    run(work())
