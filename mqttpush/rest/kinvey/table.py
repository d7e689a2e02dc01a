"""All routes of this dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from mqttpush.config import LiveSettings
from mqttpush.operations import Operations
from mqttpush.operations.account_mail import AccountMail
from mqttpush.operations.running import Running
from mqttpush.rest.kinvey.appdata import AppdataRoutes
from mqttpush.rest.kinvey.document import DIALECT, PAGES
from mqttpush.rest.kinvey.endpoints import EndpointRoutes
from mqttpush.rest.kinvey.handshake import HandshakeRoutes
from mqttpush.rest.kinvey.pages import PageRoutes
from mqttpush.rest.kinvey.pipeline import Pipeline
from mqttpush.rest.kinvey.push import PushRoutes
from mqttpush.rest.kinvey.realtime import MqttAddress, RealtimeRoutes, Streams
from mqttpush.rest.kinvey.rpc import RpcRoutes
from mqttpush.rest.kinvey.users import UserRoutes
from mqttpush.rest.kinvey.wire import Gate
from mqttpush.rest.routing import Route


def kinvey_routes(
    operations: Operations,
    running: Running,
    streams: Streams,
    mqtt_address: Callable[[], MqttAddress],
    live_settings: Callable[[], LiveSettings],
    account_mail: AccountMail,
) -> Iterator[Route]:
    """Every route of this dialect, each with its section in documents."""
    gate, pipeline = Gate(operations.environments), Pipeline(running.business_logic)
    users = UserRoutes(gate, pipeline, operations.accounts)
    entities = AppdataRoutes(gate, pipeline, operations.entities, users)
    realtime = RealtimeRoutes(gate, operations.live, streams, mqtt_address, live_settings)
    sections = {
        "Kinvey: handshake": HandshakeRoutes(gate, operations.environments).table(),
        "Kinvey: users": chain(users.table(), RpcRoutes(gate, users, account_mail).table()),
        "Kinvey: collections": entities.table(),
        "Kinvey: Live Service": realtime.table(),
        "Kinvey: push": PushRoutes(gate, operations.devices, operations.broadcasts).table(),
        "Kinvey: endpoints": EndpointRoutes(gate, running).table(),
    }
    for tag, routes in sections.items():
        for route in routes:
            yield replace(route, tag=tag, dialect=DIALECT)
    for route in PageRoutes(account_mail.links).table():
        yield replace(route, tag="Kinvey: pages of links in mails", dialect=PAGES)
