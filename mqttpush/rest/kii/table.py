"""All routes of this dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mqttpush.operations import Operations
from mqttpush.rest.kii.acls import AclRoutes
from mqttpush.rest.kii.apps import AppRoutes
from mqttpush.rest.kii.buckets import BucketRoutes
from mqttpush.rest.kii.filters import FilterRoutes
from mqttpush.rest.kii.groups import GroupRoutes
from mqttpush.rest.kii.installations import InstallationRoutes, MqttAddress
from mqttpush.rest.kii.messages import MessageRoutes
from mqttpush.rest.kii.oauth import OauthRoutes
from mqttpush.rest.kii.ownership import OwnershipRoutes
from mqttpush.rest.kii.principals import PrincipalRoutes
from mqttpush.rest.kii.subscriptions import SubscriptionRoutes
from mqttpush.rest.kii.topics import TopicRoutes
from mqttpush.rest.routing import Route


def kii_routes(operations: Operations, mqtt_address: Callable[[], MqttAddress]) -> Iterator[Route]:
    """Every route under /api."""
    yield from OauthRoutes(operations.principals).table()
    yield from AppRoutes(operations.apps).table()
    yield from PrincipalRoutes(operations.principals).table()
    yield from InstallationRoutes(operations.installations, mqtt_address).table()
    yield from BucketRoutes(operations.buckets).table()
    yield from SubscriptionRoutes(operations.subscriptions).table()
    yield from TopicRoutes(operations.topics).table()
    yield from FilterRoutes(operations.filters).table()
    yield from MessageRoutes(operations.messages).table()
    yield from GroupRoutes(operations.groups).table()
    yield from OwnershipRoutes(operations.ownership).table()
    yield from AclRoutes(operations.acls).table()
