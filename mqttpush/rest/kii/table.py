"""All routes of this dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mqttpush.operations import Operations
from mqttpush.operations.code_runs import CodeRuns
from mqttpush.rest.kii.acls import AclRoutes
from mqttpush.rest.kii.apps import AppRoutes
from mqttpush.rest.kii.bodies import BodyRoutes
from mqttpush.rest.kii.buckets import BucketRoutes
from mqttpush.rest.kii.commands import CommandRoutes
from mqttpush.rest.kii.document import DIALECT
from mqttpush.rest.kii.filters import FilterRoutes
from mqttpush.rest.kii.groups import GroupRoutes
from mqttpush.rest.kii.installations import InstallationRoutes, MqttAddress
from mqttpush.rest.kii.messages import MessageRoutes
from mqttpush.rest.kii.networks import NetworkRoutes
from mqttpush.rest.kii.oauth import OauthRoutes
from mqttpush.rest.kii.onboarding import OnboardingRoutes
from mqttpush.rest.kii.ownership import OwnershipRoutes
from mqttpush.rest.kii.principals import PrincipalRoutes
from mqttpush.rest.kii.publications import PublicationRoutes
from mqttpush.rest.kii.server_code import ServerCodeRoutes
from mqttpush.rest.kii.subscriptions import SubscriptionRoutes
from mqttpush.rest.kii.topics import TopicRoutes
from mqttpush.rest.routing import Route


def kii_routes(
    operations: Operations, mqtt_address: Callable[[], MqttAddress], runs: CodeRuns
) -> Iterator[Route]:
    """Every route under /api and /thing-if, each with its section in documents."""
    sections = {
        "Tokens": OauthRoutes(operations.principals).table(),
        "Apps": AppRoutes(operations.apps).table(),
        "Users and things": PrincipalRoutes(operations.principals).table(),
        "Installations": InstallationRoutes(operations.installations, mqtt_address).table(),
        "Buckets and objects": BucketRoutes(operations.buckets).table(),
        "Bodies of objects": BodyRoutes(operations.bodies, operations.uploads).table(),
        "Published bodies": PublicationRoutes(operations.publications).table(),
        "Subscriptions": SubscriptionRoutes(operations.subscriptions).table(),
        "Topics": TopicRoutes(operations.topics).table(),
        "Filters": FilterRoutes(operations.filters).table(),
        "Push networks": NetworkRoutes(operations.networks).table(),
        "Messages": MessageRoutes(operations.messages, operations.deliveries).table(),
        "Groups": GroupRoutes(operations.groups).table(),
        "Ownership": OwnershipRoutes(operations.ownership).table(),
        "Access rules": AclRoutes(operations.acls).table(),
        "Onboarding": OnboardingRoutes(
            operations.onboarding, operations.principals, mqtt_address
        ).table(),
        "Commands": CommandRoutes(operations.commands).table(),
        "Server code": ServerCodeRoutes(operations.server_code, runs).table(),
    }
    for tag, routes in sections.items():
        for route in routes:
            yield replace(route, tag=tag, dialect=DIALECT)
