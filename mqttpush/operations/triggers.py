"""Inside the units of other verbs: what happened makes server code due (spec kii 11).

Owns the names of events and the parameters code is given. Knows no runner. The one idea: a due run
is a row written in the unit of what caused it, so it is run at least once, whatever crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mqttpush.errors import LimitReached
from mqttpush.events import ObjectEvent, RunsQueued
from mqttpush.models import (
    Group,
    Installation,
    Json,
    ObjectEventType,
    Owner,
    PrincipalKind,
    Scope,
    ScopeType,
)
from mqttpush.operations.context import Context
from mqttpush.operations.live_sessions import MARK
from mqttpush.server_code import Job, JobKind
from mqttpush.store import Transaction

# Places of hook documents, without `kiicloud://`.
USERS: Final = "users"
GROUPS: Final = "groups"
THINGS: Final = "things"
INSTALLATIONS: Final = "installations"
MEMBERS_REMOVED: Final = "GROUP_MEMBERS_REMOVED"
_SCOPE_PLACES: Final = {
    ScopeType.APP: "",
    ScopeType.USER: "users/*/",
    ScopeType.GROUP: "groups/*/",
    ScopeType.THING: "things/*/",
}
_SCOPE_IDS: Final = {
    ScopeType.USER: "userID",
    ScopeType.GROUP: "groupID",
    ScopeType.THING: "thingID",
}
BUCKET_EVENTS: Final = frozenset(
    {
        ObjectEventType.CREATED,
        ObjectEventType.UPDATED,
        ObjectEventType.DELETED,
        ObjectEventType.BODY_UPDATED,
        ObjectEventType.BODY_DELETED,
    }
)


def react_to_object(context: Context, tx: Transaction, event: ObjectEvent) -> None:
    """Something happened in a bucket. Raises LimitReached when too much waits already."""
    if event.type not in BUCKET_EVENTS:
        return
    source = event.source
    place = f"{_SCOPE_PLACES[source.scope.type]}buckets/{source.id}"
    parameters = {
        "uri": f"{source.uri}/objects/{event.object_id}",
        "bucketID": source.id,
        "bucketType": "rw",
        "objectID": event.object_id,
        "objectScope": _scope_fields(source.scope),
    }
    _react(context, tx, source.scope.app_id, place, event.type.value, parameters)


def react_to_user(context: Context, tx: Transaction, owner: Owner, event: str) -> None:
    """Something happened to a user (`USER_CREATED`, …) or a thing (`THING_CREATED`, …)."""
    place = USERS if owner.kind == PrincipalKind.USER.value else THINGS
    name = "userID" if place == USERS else "thingID"
    parameters = {"uri": f"kiicloud://{place}/{owner.id}", name: owner.id}
    _react(context, tx, owner.app_id, place, event, parameters)


def react_to_group(
    context: Context, tx: Transaction, group: Group, event: str, members: Sequence[str] = ()
) -> None:
    """Something happened to a group. members: user IDs, of an event about members."""
    parameters: Json = {"uri": f"kiicloud://groups/{group.group_id}", "groupID": group.group_id}
    if members:
        parameters["members"] = list(members)
    _react(context, tx, group.app_id, GROUPS, event, parameters)


def react_to_installation(
    context: Context,
    tx: Transaction,
    installation: Installation,
    event: str,
    *,
    may_be_refused: bool = True,
) -> None:
    """An installation came or went; clients of the Live Service are none to code.

    may_be_refused: else no limit holds, for what nobody can be told to try again.
    """
    if installation.registration_id.startswith(MARK):
        return
    owner = installation.owner
    parameters = {
        "uri": f"kiicloud://installations/{installation.installation_id}",
        "installationID": installation.installation_id,
        "deviceType": installation.device_type.value,
        f"{owner.kind}ID": owner.id,
    }
    _react(
        context, tx, owner.app_id, INSTALLATIONS, event, parameters, may_be_refused=may_be_refused
    )


def _react(
    context: Context,
    tx: Transaction,
    app_id: str,
    place: str,
    event: str,
    parameters: Json,
    *,
    may_be_refused: bool = True,
) -> None:
    """Make due what the app's current version wants run at `event`. Cost without: one look-up."""
    endpoints = tx.server_code.triggered(app_id, place, event)
    if not endpoints:
        return
    limit = context.hooks.max_queued_runs_per_app
    if may_be_refused and tx.server_code.count_jobs(app_id, limit) >= limit:
        raise LimitReached("hooks.max_queued_runs_per_app", retry_after_s=1)
    now_ms = context.now_ms()
    for endpoint in endpoints:
        tx.server_code.insert_job(
            Job(
                app_id,
                JobKind.SERVER_CODE,
                endpoint,
                place,
                {**parameters, "type": event},
                depth=tx.depth,
                ready_ms=now_ms,
                created_ms=now_ms,
            )
        )
    tx.emit(RunsQueued())


def _scope_fields(scope: Scope) -> Json:
    fields: Json = {"appID": scope.app_id, "type": scope.type.value}
    if scope.type in _SCOPE_IDS:
        fields[_SCOPE_IDS[scope.type]] = scope.owner_id
    return fields
