"""Entities: objects as the second dialect's clients write and read them (spec kinvey 7.1).

Owns the three fields that are not the app's own: `_id`, `_acl`, `_kmd`. The one idea: nothing of
them is kept in the document. `_acl` is the object's access rules and its owner, `_kmd` its times,
so both dialects see one object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from mqttpush.access import Verb, readers, resource_of
from mqttpush.errors import InvalidRequest
from mqttpush.events import EntityPublished
from mqttpush.kinvey import kinvey_time
from mqttpush.models import ANY_AUTHENTICATED, ANYBODY, AclEntry, Json, Object, Source
from mqttpush.store import Transaction

OUT_OF_RANGE: Final = "ParameterValueOutOfRange"
SUBJECT_LIMIT: Final = 1000  # of one list in `_acl`
# It is part of a path and of the name its access rules are kept under.
_ID: Final = re.compile(r"[^/\x00-\x1f\x7f]{1,200}")
# What a path means otherwise.
_TAKEN: Final = frozenset(
    {".", "..", "_count", "_deltaset", "_group", "_subscribe", "_unsubscribe"}
)
_OWN: Final = frozenset({"_id", "_acl", "_kmd"})
_VERBS: Final = {"r": Verb.READ_OBJECT.value, "w": Verb.WRITE_OBJECT.value}
_LETTERS: Final = {verb: letter for letter, verb in _VERBS.items()}

Grant = tuple[str, str]  # verb, subject


class Draft(NamedTuple):
    """An entity as somebody wrote it. grants: of its `_acl`; None if it has none."""

    entity_id: str
    creator: str
    grants: frozenset[Grant] | None
    text: str


def draft_of(entity: Mapping[str, Any]) -> Draft:
    """Raises InvalidRequest for a bad `_id` or `_acl`."""
    acl = entity.get("_acl")
    if acl is not None and not isinstance(acl, dict):
        raise InvalidRequest("must be an object", field="_acl", code=OUT_OF_RANGE)
    creator = acl.get("creator") if acl else None
    own = {key: value for key, value in entity.items() if key not in _OWN}
    return Draft(
        checked_id(entity["_id"]) if entity.get("_id") not in (None, "") else "",
        creator if isinstance(creator, str) and _ID.fullmatch(creator) else "",
        None if acl is None else _grants(acl),
        orjson.dumps(own).decode(),
    )


def checked_id(entity_id: object) -> str:
    """Raises InvalidRequest unless it can be an `_id`."""
    if not isinstance(entity_id, str) or not _ID.fullmatch(entity_id):
        problem = "must be a text of 1 to 200 characters without /"
        raise InvalidRequest(problem, field="_id", code=OUT_OF_RANGE)
    if entity_id in _TAKEN:
        raise InvalidRequest("means something else in a path", field="_id", code=OUT_OF_RANGE)
    return entity_id


def put_grants(tx: Transaction, bucket: Source, item: Object, grants: frozenset[Grant]) -> None:
    """Make the object's rules what its `_acl` says; rules it cannot say stay."""
    app_id, resource = bucket.scope.app_id, resource_of(bucket.scope, bucket, item)
    entries = tx.entities.rules_of(bucket, [item.object_id]).get(item.object_id, [])
    now = {(each.verb, each.subject) for each in entries if each.is_granted and _is_told(each)}
    for verb, subject in now - grants:
        tx.acl.delete(app_id, resource, verb, subject)
    for verb, subject in grants - now:
        tx.acl.put(app_id, resource, AclEntry(verb, subject, is_granted=True))


def render_all(tx: Transaction, bucket: Source, items: Sequence[Object]) -> list[Json]:
    """The objects as they are read; one query for all their rules."""
    rules = tx.entities.rules_of(bucket, [item.object_id for item in items])
    return [_rendered(bucket, item, rules.get(item.object_id, ())) for item in items]


def render(tx: Transaction, bucket: Source, item: Object) -> Json:
    return render_all(tx, bucket, [item])[0]


def publish(tx: Transaction, bucket: Source, item: Object) -> None:
    """Tell who follows the collection live, as far as he may read the entity now."""
    entity = orjson.dumps(render(tx, bucket, item))
    tx.emit(EntityPublished(bucket, readers(tx, bucket, item), entity))


def project(entity: Json, fields: Sequence[str]) -> Json:
    """Only these fields, dotted names going into objects; `_id` and `_acl` come always."""
    if not fields:
        return entity
    shown: Json = {}
    for name in ("_id", "_acl", *fields):
        _copy(entity, shown, name.split("."))
    return shown


def _copy(source: Any, target: Json, path: list[str]) -> None:
    name, rest = path[0], path[1:]
    if not isinstance(source, dict) or name not in source:
        return
    if not rest:
        target[name] = source[name]
    elif isinstance(source[name], dict):
        inner = target.setdefault(name, {})
        if inner is not source[name]:  # it was asked for as a whole
            _copy(source[name], inner, rest)


def _rendered(bucket: Source, item: Object, rules: Iterable[AclEntry]) -> Json:
    kind, _, creator = item.owner.partition(":")
    acl: Json = {"creator": bucket.scope.app_id if kind == "admin" else creator}
    for verb, subject, is_granted in ((e.verb, e.subject, e.is_granted) for e in rules):
        letter = _LETTERS.get(verb)
        if letter is None or not is_granted:
            continue
        kind, _, identifier = subject.partition(":")
        if subject in (ANYBODY, ANY_AUTHENTICATED):
            acl[f"g{letter}"] = True
        elif kind == "user":
            acl.setdefault(letter, []).append(identifier)
        elif kind == "group":
            acl.setdefault("groups", {}).setdefault(letter, []).append(identifier)
    times = {"ect": kinvey_time(item.created_ms), "lmt": kinvey_time(item.modified_ms)}
    return {**orjson.loads(item.document), "_id": item.object_id, "_acl": acl, "_kmd": times}


def _is_told(entry: AclEntry) -> bool:
    kind = entry.subject.partition(":")[0]
    return entry.verb in _LETTERS and kind in ("user", "group")


def _grants(acl: Mapping[str, Any]) -> frozenset[Grant]:
    """`roles` grant nothing: there are none."""
    groups = acl.get("groups")
    if groups is not None and not isinstance(groups, dict):
        raise InvalidRequest("must be an object", field="_acl.groups", code=OUT_OF_RANGE)
    grants: set[Grant] = set()
    for letter, verb in _VERBS.items():
        if acl.get(f"g{letter}") is True:
            grants.add((verb, ANY_AUTHENTICATED))
        grants.update((verb, f"user:{each}") for each in _ids(acl, letter, "_acl"))
        of_groups = _ids(groups or {}, letter, "_acl.groups")
        grants.update((verb, f"group:{each}") for each in of_groups)
    return frozenset(grants)


def _ids(of: Mapping[str, Any], letter: str, place: str) -> list[str]:
    ids = of.get(letter)
    if ids is None:
        return []
    is_list = isinstance(ids, list) and len(ids) <= SUBJECT_LIMIT
    if not is_list or not all(isinstance(each, str) and _ID.fullmatch(each) for each in ids):
        problem = f"must be a list of at most {SUBJECT_LIMIT} IDs"
        raise InvalidRequest(problem, field=f"{place}.{letter}", code=OUT_OF_RANGE)
    return list(ids)
