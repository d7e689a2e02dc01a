"""Nouns with the values no test cares about filled in."""

from __future__ import annotations

from mqttpush.models import (
    NEVER_MS,
    App,
    DeviceType,
    Installation,
    MqttEndpoint,
    Object,
    Owner,
    Scope,
    Source,
    SourceKind,
    Thing,
    User,
)

APP_ID = "app-1"
NOW_MS = 1_463_364_001_908


def app(app_id: str = APP_ID, *, is_disabled: bool = False, is_strict: bool = False) -> App:
    return App(
        app_id=app_id,
        name=app_id,
        app_key=f"key-of-{app_id}",
        client_id=f"client-of-{app_id}",
        client_secret_hash=b"\x00" * 32,
        created_ms=NOW_MS,
        is_disabled=is_disabled,
        is_app_key_checked=is_strict,
    )


def user(
    user_id: str, app_id: str = APP_ID, *, login_name: str | None = None, is_disabled: bool = False
) -> User:
    return User(
        app_id=app_id,
        user_id=user_id,
        created_ms=NOW_MS,
        login_name=login_name,
        is_disabled=is_disabled,
    )


def thing(thing_id: str, app_id: str = APP_ID, *, is_disabled: bool = False) -> Thing:
    return Thing(
        app_id=app_id,
        thing_id=thing_id,
        vendor_thing_id=f"vendor-of-{thing_id}",
        created_ms=NOW_MS,
        password_hash="not a hash",
        is_disabled=is_disabled,
    )


def owner(subject: str, app_id: str = APP_ID) -> Owner:
    return Owner(app_id, subject)


def installation(
    installation_id: str,
    of: Owner,
    *,
    device_type: DeviceType = DeviceType.MQTT,
    registration_id: str | None = None,
    is_development: bool = False,
) -> Installation:
    return Installation(
        installation_id=installation_id,
        owner=of,
        device_type=device_type,
        registration_id=registration_id or f"registration-of-{installation_id}",
        is_development=is_development,
        created_ms=NOW_MS,
        updated_ms=NOW_MS,
    )


def mqtt_endpoint(
    installation_id: str, *, password_hash: bytes = b"", expires_ms: int = NEVER_MS
) -> MqttEndpoint:
    return MqttEndpoint(
        installation_id=installation_id,
        username=f"username-of-{installation_id}",
        password_hash=password_hash,
        mqtt_topic=f"topic-of-{installation_id}",
        expires_ms=expires_ms,
    )


def json_object(object_id: str, *, version: int = 1, document: str = "{}") -> Object:
    return Object(
        object_id=object_id,
        version=version,
        created_ms=NOW_MS,
        modified_ms=NOW_MS,
        owner="user:writer",
        data_type="application/json",
        document=document,
    )


def source(
    key: int,
    *,
    kind: SourceKind = SourceKind.BUCKET,
    scope: Scope | None = None,
    source_id: str = "",
    creator: str = "admin:",
) -> Source:
    return Source(
        key=key,
        kind=kind,
        scope=scope or Scope(APP_ID),
        id=source_id or f"{kind.value}-{key}",
        creator=creator,
    )
