"""`mqttpush listen`: a device of one's own that prints what reaches it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

import click
import orjson

from mqttpush.cli.options import ServerOptions, json_option, server_options
from mqttpush.cli.session import open_admin, open_app
from mqttpush.cli.terminal import note, run
from mqttpush.client import Account, AppClient
from mqttpush.devices import TRANSPORTS, Device, Transport, tend
from mqttpush.errors import ClientError, ServerUnreachable

RECONNECT_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0)
# What the server adds to a push; the rest is the sender's own (spec kii 9.1).
CONTROL_FIELDS = frozenset(
    {
        "appID",
        "bucketID",
        "bucketType",
        "modifiedAt",
        "objectID",
        "objectScopeAppID",
        "objectScopeGroupID",
        "objectScopeThingID",
        "objectScopeType",
        "objectScopeUserID",
        "origin",
        "sender",
        "senderURI",
        "sourceURI",
        "topic",
        "type",
        "when",
    }
)


@click.command()
@click.option("--bucket", "buckets", multiple=True, help="Subscribe to a bucket; may be repeated.")
@click.option("--topic", "topics", multiple=True, help="Subscribe to a topic; may be repeated.")
@click.option("--token", help="A user's access token; without it, a pseudo user is made.")
@click.option("--transport", type=click.Choice(TRANSPORTS), default="tcp", show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="Exit after so many pushes.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), help="Exit after so many seconds."
)
@json_option
@server_options(is_admin=True)
def listen(
    buckets: tuple[str, ...],
    topics: tuple[str, ...],
    token: str | None,
    transport: Transport,
    count: int | None,
    timeout_s: float | None,
    is_json: bool,
    server: ServerOptions,
) -> None:
    """Show pushes as they arrive, one a line, until Ctrl-C.

    Becomes a user with a device: onboards, subscribes, connects over MQTT, and connects again when
    the link is lost. Exits 1 when --timeout comes before --count.

    \b
    Examples:
      mqttpush listen --bucket news
      mqttpush listen --topic alarms --count 1 --timeout 60 --json
    """

    async def work() -> int:
        listener = _Listener(is_json=is_json, wanted_count=count)
        async with open_app(server) as client:
            account = Account("", token) if token else await client.create_pseudo_user()
            try:
                await _ensure_topics(server, topics)
                await _subscribe(client, account, buckets, topics)
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await listener.run(client, account, transport)
            finally:
                if not token:
                    with suppress(ClientError):  # the server may have gone first
                        await client.delete_user(account.token, account.id)
        return listener.count

    try:
        shown_count = run(work())
    except KeyboardInterrupt:
        return
    if count is not None and shown_count < count:
        note(f"mqttpush: {shown_count} of {count} pushes within {timeout_s:g} s")
        raise click.exceptions.Exit(1)


class _Listener:
    """Prints pushes and knows when enough have come."""

    def __init__(self, *, is_json: bool, wanted_count: int | None) -> None:
        self.count = 0
        self._is_json = is_json
        self._wanted_count = wanted_count
        self._enough = asyncio.Event()

    async def run(self, client: AppClient, account: Account, transport: Transport) -> None:
        """Stay connected until enough pushes have come."""
        installation_id = await client.install_mqtt(account.token)
        mqtt_endpoint = await client.get_mqtt_endpoint(account.token, installation_id)
        device = Device(mqtt_endpoint, on_push=self._show, transport=transport)
        await device.connect()
        note(f"listening as user {account.id or '(token)'}, MQTT topic {mqtt_endpoint.mqtt_topic}")
        while True:
            if await self._wait(device) == "enough":
                device.close()
                return
            note(f"the link was lost ({device.lost.result()}); connecting again")
            for delay_s in (*RECONNECT_DELAYS_S, None):
                device = Device(mqtt_endpoint, on_push=self._show, transport=transport)
                try:
                    await device.connect()
                    note("connected again")
                    break
                except ServerUnreachable:
                    if delay_s is None:
                        raise
                    await asyncio.sleep(delay_s)

    async def _wait(self, device: Device) -> str:
        tending = asyncio.ensure_future(tend([device]))
        enough = asyncio.ensure_future(self._enough.wait())
        try:
            waited: list[asyncio.Future[Any]] = [device.lost, enough]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tending.cancel()
            enough.cancel()
        return "enough" if self._enough.is_set() else "lost"

    def _show(self, payload: bytes) -> None:
        if self._enough.is_set():
            return
        click.echo(payload.decode("utf-8", "replace") if self._is_json else describe(payload))
        self.count += 1
        if self.count == self._wanted_count:
            self._enough.set()


def describe(payload: bytes) -> str:
    """One readable line: time, what happened where, and the sender's own data."""
    try:
        push: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        push = None
    now = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    if not isinstance(push, dict):
        return f"{now}  {payload!r}"
    if "bucketID" in push:
        what = f"{push.get('type', 'event')}  {push['bucketID']}/{push.get('objectID', '')}"
    elif "topic" in push:
        what = f"message  topic {push['topic']}"
    elif "commandID" in push:
        what = f"command  {push['commandID']}"
    else:
        what = "direct push"
    if "bucketID" not in push and push.get("type"):
        what += f"  {push['type']}"
    data = {name: value for name, value in push.items() if name not in CONTROL_FIELDS}
    return f"{now}  {what}" + (f"  {orjson.dumps(data).decode()}" if data else "")


async def _ensure_topics(server: ServerOptions, topics: tuple[str, ...]) -> None:
    """Only the administrator makes topics; where we have his rights, a missing one is made."""
    is_local = not (server.app_key and server.url)
    if topics and (is_local or server.client_secret):
        async with open_admin(server) as session:
            for topic_id in topics:
                await session.client.create_topic(session.token, topic_id)


async def _subscribe(
    client: AppClient, account: Account, buckets: tuple[str, ...], topics: tuple[str, ...]
) -> None:
    for bucket_id in buckets:
        await client.subscribe_to_bucket(account.token, bucket_id)
    for topic_id in topics:
        await client.subscribe_to_topic(account.token, topic_id)
