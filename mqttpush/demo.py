"""Demo: an app with one user who hears one bucket, for somebody's first five minutes.

Knows the verbs, as a dialect does, and nothing below them.
"""

from __future__ import annotations

from typing import Final

from mqttpush.models import Credentials, DeviceType, PrincipalKind, SourceKind
from mqttpush.operations import Operations
from mqttpush.operations.context import Reference, ScopeReference
from mqttpush.operations.installations import InstallationDraft
from mqttpush.operations.principals import UserDraft
from mqttpush.operations.subscriptions import SubscriptionReference

APP_NAME: Final = "demo"
BUCKET_ID: Final = "greetings"


async def make_demo(operations: Operations) -> dict[str, object] | None:
    """Make the demo app and say how to reach it; None if the store has an app already."""
    if await operations.apps.list():
        return None
    created = await operations.apps.create(APP_NAME)
    app = created.app
    _, token = await operations.principals.create_user(
        Credentials(app.app_id), UserDraft(), with_token=True
    )
    as_user = Credentials(app.app_id, token=token)
    installation = await operations.installations.create(
        as_user, InstallationDraft(DeviceType.MQTT, None, is_development=False)
    )
    view = await operations.installations.mqtt_endpoint(as_user, installation.installation_id)
    await operations.subscriptions.subscribe(
        as_user,
        SubscriptionReference(
            SourceKind.BUCKET, ScopeReference(), BUCKET_ID, PrincipalKind.USER, Reference("me")
        ),
    )
    return {
        "appID": app.app_id,
        "appKey": app.app_key,
        "clientID": app.client_id,
        "clientSecret": created.client_secret,
        "accessToken": token,
        "bucketID": BUCKET_ID,
        "username": view.endpoint.username,
        "password": view.password,
        "mqttTopic": view.endpoint.mqtt_topic,
    }
