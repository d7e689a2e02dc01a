"""Changes in the style of MongoDB: `$set` and its like, or a whole new document (spec kinvey 8.7).

Knows no store: a document and a change make a new document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.store.queries import same

_KEPT: Final = ("_id", "_acl", "_kmd")  # by a whole new document that does not name them
INDEX_END: Final = 10_000  # a list is not made longer than this by naming a place in it
NOTHING: Final = object()


def changed(document: Json, change: Mapping[str, Any]) -> Json:
    """The document after the change; raises InvalidRequest for a change that makes no sense."""
    names = [name for name in change if name.startswith("$")]
    if not names:
        kept: Json = {name: document[name] for name in _KEPT if name in document}
        return {**kept, **change}
    if len(names) != len(change):
        raise InvalidRequest("operators and fields do not mix", field="change")
    result = deepcopy(document)
    for operator, fields in change.items():
        apply = _OPERATORS.get(operator)
        if apply is None or not isinstance(fields, dict):
            known = ", ".join(_OPERATORS)
            raise InvalidRequest(f"{operator}: use {known} with an object", field="change")
        for path, operand in fields.items():
            _apply(result, str(path).split("."), operator, apply, operand)
    return result


def _apply(
    target: Any,
    path: list[str],
    operator: str,
    apply: Callable[[str, Any, Any], Any],
    operand: Any,
) -> None:
    name, rest = path[0], path[1:]
    place: Any = name
    if isinstance(target, list):
        if not name.isdigit() or int(name) >= INDEX_END:
            raise InvalidRequest(f"{name} is no place in a list", field="change")
        place = int(name)
        if operator == "$unset" and place >= len(target):
            return
        target.extend([None] * (place + 1 - len(target)))
        value = target[place]
    elif isinstance(target, dict):
        value = target.get(name, NOTHING)
    else:
        raise InvalidRequest(f"{name}: there is no object to change", field="change")
    if rest:
        if value in (NOTHING, None):
            if operator in ("$unset", "$pull"):
                return
            value = target[place] = {}
        _apply(value, rest, operator, apply, operand)
        return
    new = apply(name, value, operand)
    if new is not NOTHING:
        target[place] = new
    elif isinstance(target, dict):
        target.pop(name, None)
    else:
        target[place] = None


def _inc(name: str, value: Any, operand: Any) -> Any:
    start = 0 if value is NOTHING else value
    for number in (start, operand):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidRequest(f"{name}: $inc adds numbers", field="change")
    return start + operand


def _push(name: str, value: Any, operand: Any) -> Any:
    return [*_list(name, value), *_each(operand)]


def _add_to_set(name: str, value: Any, operand: Any) -> Any:
    items = list(_list(name, value))
    for each in _each(operand):
        if not any(same(each, item) for item in items):
            items.append(each)
    return items


def _pull(name: str, value: Any, operand: Any) -> Any:
    if value is NOTHING:
        return NOTHING
    return [item for item in _list(name, value) if not _is_pulled(item, operand)]


def _is_pulled(item: Any, operand: Any) -> bool:
    """An object names fields that must be so; any other value must be equal."""
    if isinstance(operand, dict) and isinstance(item, dict):
        return all(name in item and same(item[name], operand[name]) for name in operand)
    return same(item, operand)


def _list(name: str, value: Any) -> list[Any]:
    if value is NOTHING:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} is no list", field="change")
    return value


def _each(operand: Any) -> list[Any]:
    if isinstance(operand, dict) and set(operand) == {"$each"}:
        return list(operand["$each"]) if isinstance(operand["$each"], list) else []
    return [operand]


_OPERATORS: Final[Mapping[str, Callable[[str, Any, Any], Any]]] = {
    "$set": lambda _, __, operand: operand,
    "$unset": lambda _, __, ___: NOTHING,
    "$inc": _inc,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
}
