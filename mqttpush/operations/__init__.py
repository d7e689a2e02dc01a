"""The verbs of the domain, one file a noun: the only writers of the store.

Knows no status code and no packet. A verb takes the request's credentials and does everything in
one unit of work: authenticate, resolve references, ask `access`, write, emit.
"""

from __future__ import annotations

from dataclasses import dataclass

from mqttpush.operations.accounts import Accounts
from mqttpush.operations.acls import Acls
from mqttpush.operations.apps import Apps
from mqttpush.operations.bodies import Bodies
from mqttpush.operations.broadcasts import Broadcasts
from mqttpush.operations.buckets import Buckets
from mqttpush.operations.commands import Commands
from mqttpush.operations.context import Context
from mqttpush.operations.deliveries import Deliveries
from mqttpush.operations.devices import Devices
from mqttpush.operations.entities import Entities
from mqttpush.operations.environments import Environments
from mqttpush.operations.filters import Filters
from mqttpush.operations.groups import Groups
from mqttpush.operations.installations import Installations
from mqttpush.operations.live import Live
from mqttpush.operations.messages import Messages
from mqttpush.operations.networks import Networks
from mqttpush.operations.onboarding import Onboarding
from mqttpush.operations.ownership import Ownership
from mqttpush.operations.presence import Presence
from mqttpush.operations.principals import Principals
from mqttpush.operations.publications import Publications
from mqttpush.operations.server_code import ServerCode
from mqttpush.operations.subscriptions import Subscriptions
from mqttpush.operations.topics import Topics
from mqttpush.operations.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Operations:
    """Every verb, by noun."""

    apps: Apps
    principals: Principals
    installations: Installations
    buckets: Buckets
    bodies: Bodies
    publications: Publications
    uploads: Uploads
    subscriptions: Subscriptions
    topics: Topics
    messages: Messages
    networks: Networks
    deliveries: Deliveries
    onboarding: Onboarding
    commands: Commands
    presence: Presence
    ownership: Ownership
    groups: Groups
    filters: Filters
    acls: Acls
    environments: Environments
    entities: Entities
    live: Live
    accounts: Accounts
    devices: Devices
    broadcasts: Broadcasts
    server_code: ServerCode

    @staticmethod
    def over(context: Context) -> Operations:
        """All verbs on one context."""
        installations, principals = Installations(context), Principals(context)
        return Operations(
            apps=Apps(context),
            principals=principals,
            installations=installations,
            buckets=Buckets(context),
            bodies=Bodies(context),
            publications=Publications(context),
            uploads=Uploads(context),
            subscriptions=Subscriptions(context),
            topics=Topics(context),
            messages=Messages(context),
            networks=Networks(context),
            deliveries=Deliveries(context),
            onboarding=Onboarding(context, installations),
            commands=Commands(context),
            presence=Presence(context),
            ownership=Ownership(context),
            groups=Groups(context),
            filters=Filters(context),
            acls=Acls(context),
            environments=Environments(context),
            entities=Entities(context),
            live=Live(context),
            accounts=Accounts(context, principals),
            devices=Devices(context),
            broadcasts=Broadcasts(context),
            server_code=ServerCode(context),
        )
