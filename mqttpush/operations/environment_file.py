"""Environment files: a whole app of the second dialect as one JSON file (spec kinvey 9).

Owns the file's shape and what of it this server cannot do. Knows no path: whoever reads the file
hands in how to load what it names. The one idea: the file is read whole into a plan, the plan's
code is checked, and only then is anything written, which creates and updates but never deletes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.hooks import Language
from mqttpush.kinvey import Permission
from mqttpush.models import Json
from mqttpush.operations.business_logic import (
    FUNCTIONS,
    LOGIN_FUNCTIONS,
    ON_REQUEST,
    USER_COLLECTION,
)
from mqttpush.operations.entities import check_name
from mqttpush.operations.hook_documents import INTERVALS_MS, PYTHON_NAME
from mqttpush.operations.server_code import SOURCE_LIMIT_CHARACTERS
from mqttpush.server_code import Hook, HookKind

# Reads a file the environment file names, relative to it; raises InvalidRequest.
Load = Callable[[str], bytes]

SCHEMA_VERSION: Final = "1."
CONFIG_TYPE: Final = "environment"
NAME_LIMIT_CHARACTERS: Final = 128
_KNOWN: Final = frozenset(
    {
        "schemaVersion",
        "configType",
        "settings",
        "collections",
        "commonCode",
        "collectionHooks",
        "customEndpoints",
        "roles",
        "groups",
        "push",
    }
)


@dataclass(frozen=True, slots=True)
class EndpointSchedule:
    """When an endpoint runs. interval: None for once."""

    name: str
    start_ms: int
    interval: str | None


@dataclass(slots=True)
class Plan:
    """What a file asks for. push: by network, fields as `networks set` takes them."""

    app_id: str
    settings: Json = field(default_factory=dict)
    collections: dict[str, Permission] = field(default_factory=dict)
    hooks: list[Hook] = field(default_factory=list)
    schedules: list[EndpointSchedule] = field(default_factory=list)
    push: dict[str, Json] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_environment(document: object, app_id: str, load: Load) -> Plan:
    """Raises InvalidRequest that names the place in the file and what is wrong there."""
    fields = _object(document, "the file")
    if fields.get("configType", CONFIG_TYPE) != CONFIG_TYPE:
        raise InvalidRequest(f"must be {CONFIG_TYPE}: export one environment", field="configType")
    if not str(fields.get("schemaVersion", SCHEMA_VERSION)).startswith(SCHEMA_VERSION):
        raise InvalidRequest("is not known, 1.0.0 is", field="schemaVersion")
    plan = Plan(app_id)
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown:
        plan.warnings.append(f"passed over: {', '.join(unknown)}")
    plan.warnings.extend(
        f"{name} are not done by this server: passed over"
        for name in ("roles", "groups")
        if fields.get(name)
    )
    _read_settings(plan, fields)
    _read_collections(plan, fields)
    for name, entry in _section(fields, "commonCode"):
        if len(name) > NAME_LIMIT_CHARACTERS:
            problem = f"a name has at most {NAME_LIMIT_CHARACTERS} characters"
            raise InvalidRequest(problem, field="commonCode")
        code = {"source": _source(entry, f"commonCode.{name}", load)}
        plan.hooks.append(Hook(app_id, HookKind.COMMON, name, "", Language.JAVASCRIPT.value, code))
    for collection, functions in _section(fields, "collectionHooks"):
        if collection != USER_COLLECTION:
            _checked(check_name, collection, f"collectionHooks.{collection}")
        for function, entry in _object(functions, f"collectionHooks.{collection}").items():
            _read_hook(plan, collection, function, entry, load)
    for name, entry in _section(fields, "customEndpoints"):
        _read_endpoint(plan, name, entry, load)
    _read_push(plan, fields, load)
    return plan


def _read_settings(plan: Plan, fields: Json) -> None:
    settings = _object(fields.get("settings") or {}, "settings")
    version = settings.pop("apiVersion", None)
    if version is not None:
        if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= 6:
            raise InvalidRequest("must be an integer from 0 to 6", field="settings.apiVersion")
        plan.settings["api_version"] = version
    if settings:
        plan.warnings.append(f"settings passed over: {', '.join(sorted(settings))}")


def _read_collections(plan: Plan, fields: Json) -> None:
    for name, entry in _section(fields, "collections"):
        place = f"collections.{name}"
        described = _object(entry, place)
        if described.get("type", "internal") != "internal":
            plan.warnings.append(f"{place}: data of other services is not served: passed over")
            continue
        permissions = described.get("permissions", Permission.SHARED.value)
        if isinstance(permissions, dict):
            plan.warnings.append(f"{place}: permissions by role are not done: taken as private")
            permissions = Permission.PRIVATE.value
        if not isinstance(permissions, str) or permissions not in set(Permission):
            known = ", ".join(each.value for each in Permission)
            raise InvalidRequest(f"must be one of {known}", field=f"{place}.permissions")
        if name == USER_COLLECTION:
            continue  # it is always there, with permissions of its own
        _checked(check_name, name, place)
        plan.collections[name] = Permission(permissions)


def _read_hook(plan: Plan, collection: str, function: str, entry: object, load: Load) -> None:
    place = f"collectionHooks.{collection}.{function}"
    if function not in FUNCTIONS:
        raise InvalidRequest(f"is no hook: {', '.join(FUNCTIONS)}", field=place)
    if function in LOGIN_FUNCTIONS and collection != USER_COLLECTION:
        raise InvalidRequest(f"is a hook of the collection {USER_COLLECTION} only", field=place)
    language, code = _code(_object(entry, place), place, load)
    plan.hooks.append(Hook(plan.app_id, HookKind.HOOK, collection, function, language, code))


def _read_endpoint(plan: Plan, name: str, entry: object, load: Load) -> None:
    place = f"customEndpoints.{name}"
    described = _object(entry, place)
    _checked(check_name, name, place)
    language, code = _code(described, place, load)
    plan.hooks.append(Hook(plan.app_id, HookKind.ENDPOINT, name, ON_REQUEST, language, code))
    schedule = described.get("schedule")
    if schedule is None:
        return
    fields = _object(schedule, f"{place}.schedule")
    interval = fields.get("interval")
    if interval is not None and (not isinstance(interval, str) or interval not in INTERVALS_MS):
        known = ", ".join(INTERVALS_MS)
        raise InvalidRequest(f"must be one of {known}", field=f"{place}.schedule.interval")
    start_ms = _moment_ms(fields.get("start"), f"{place}.schedule.start")
    plan.schedules.append(EndpointSchedule(name, start_ms, interval))


def _code(entry: Json, place: str, load: Load) -> tuple[str, Json]:
    """The language and what of it is stored."""
    kind = entry.get("type", Language.JAVASCRIPT.value)
    if kind == Language.JAVASCRIPT.value:
        return kind, {"source": _source(entry, place, load)}
    if kind == Language.FLEX.value:
        service, handler = entry.get("service"), entry.get("handlerName")
        if not isinstance(service, str) or not isinstance(handler, str):
            raise InvalidRequest("needs service and handlerName", field=place)
        environment = entry.get("serviceEnvironment")
        name = f"{service}/{environment}" if environment else service
        return kind, {"service": name, "handler": handler}
    if kind == Language.PYTHON.value:
        entry_point = entry.get("entryPoint")
        if not isinstance(entry_point, str) or not (
            PYTHON_NAME.fullmatch(entry_point) or ":" not in entry_point
        ):
            problem = "must be package.module:function, or the name of an entry point"
            raise InvalidRequest(problem, field=f"{place}.entryPoint")
        return kind, {"entryPoint": entry_point}
    known = ", ".join(each.value for each in Language)
    raise InvalidRequest(f"must be one of {known}", field=f"{place}.type")


def _source(entry: object, place: str, load: Load) -> str:
    described = _object(entry, place)
    code, file = described.get("code"), described.get("codeFile")
    if isinstance(code, str) and file is None:
        source = code
    elif not isinstance(file, str) or code is not None:
        raise InvalidRequest("needs either code or codeFile", field=place)
    else:
        try:
            source = load(file).decode("utf-8-sig")  # editors of Windows mark a file's beginning
        except UnicodeDecodeError as exc:
            raise InvalidRequest("is not UTF-8", field=f"{place}.codeFile") from exc
    if len(source) > SOURCE_LIMIT_CHARACTERS:
        problem = f"has {len(source)} characters, {SOURCE_LIMIT_CHARACTERS} are allowed"
        raise InvalidRequest(problem, field=place)
    return source


def _read_push(plan: Plan, fields: Json, load: Load) -> None:
    push = _object(fields.get("push") or {}, "push")
    android = _object(push.get("android") or {}, "push.android")
    if android.get("serviceAccountFile"):
        plan.push["fcm"] = _json_file(load, android["serviceAccountFile"], "push.android")
    elif android:
        plan.warnings.append(
            "push.android: the legacy apiKey no longer works with FCM: add serviceAccountFile"
        )
    ios = _object(push.get("ios") or {}, "push.ios")
    if not ios:
        return
    if ios.get("keyFile"):
        key = _text_file(load, ios["keyFile"], "push.ios.keyFile")
        names = ("keyId", "teamId", "topic")
        plan.push["apns"] = {"key": key, **{name: ios.get(name) for name in names}}
    elif ios.get("certificateFilePath"):
        data = _checked(load, ios["certificateFilePath"], "push.ios.certificateFilePath")
        plan.push["apns"] = {
            "certificate": base64.b64encode(data).decode(),
            "password": ios.get("password") or "",
            **({"topic": ios["topic"]} if ios.get("topic") else {}),
        }
    else:
        plan.warnings.append("push.ios: add keyFile, keyId, teamId and topic, or a certificate")
        return
    if "production" in ios:
        plan.settings["are_devices_for_development"] = ios["production"] is False


def _json_file(load: Load, name: object, place: str) -> Json:
    try:
        return _object(orjson.loads(_checked(load, name, place)), place)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"{name} is not JSON", field=place) from exc


def _text_file(load: Load, name: object, place: str) -> str:
    try:
        return str(_checked(load, name, place), "utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{name} is not text", field=place) from exc


def _checked(check: Callable[[str], Any], value: object, place: str) -> Any:
    """What `check` returns; its error names the place."""
    if not isinstance(value, str):
        raise InvalidRequest("must be a text", field=place)
    try:
        return check(value)
    except InvalidRequest as exc:
        raise InvalidRequest(exc.problem, field=place) from exc


def _moment_ms(value: object, place: str) -> int:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)  # year 0 and year 10000 do not exist
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest("must be a time such as 2026-07-22T16:35:00Z", field=place) from exc
    return int(moment.timestamp() * 1000)


def _section(fields: Json, name: str) -> Iterator[tuple[str, Any]]:
    yield from _object(fields.get(name) or {}, name).items()


def _object(value: object, place: str) -> Json:
    if not isinstance(value, Mapping):
        raise InvalidRequest("must be an object", field=place)
    return dict(value)
