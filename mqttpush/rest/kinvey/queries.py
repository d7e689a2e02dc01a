"""What the query string says about which entities, for all collections (spec kinvey 7.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.operations.queries import EntityQuery, entity_query

PARAMETERS: Final = ("query", "sort", "limit", "skip", "fields")
_TEXT_LIMIT: Final = 65_536
_NUMBER_LIMIT: Final = 9  # digits
_FIELD_LIMIT: Final = 100


def query_of(parameters: Mapping[str, str]) -> EntityQuery:
    """`query`, `sort`, `limit` and `skip`; raises InvalidRequest."""
    sort = parameters.get("sort", "").strip()
    return entity_query(
        _json(parameters.get("query", ""), "query"),
        _json(sort, "sort") if sort[:1] in ("{", "[", '"') else sort,
        _number(parameters, "limit"),
        _number(parameters, "skip") or 0,
    )


def fields_of(parameters: Mapping[str, str]) -> list[str]:
    """Names of `fields`, with commas between them; none for all."""
    names = [name.strip() for name in parameters.get("fields", "").split(",") if name.strip()]
    if len(names) > _FIELD_LIMIT:
        problem = f"at most {_FIELD_LIMIT} names"
        raise InvalidRequest(problem, field="fields", code="ParameterValueOutOfRange")
    return names


def _json(text: str, name: str) -> Any:
    if not text.strip():
        return None
    try:
        if len(text) > _TEXT_LIMIT:
            raise ValueError("it is too long")
        return orjson.loads(text)
    except ValueError as exc:
        raise InvalidRequest(f"is not JSON: {exc}", field=name, code="InvalidQuerySyntax") from exc


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _NUMBER_LIMIT:
        problem = "must be a whole number of at most 9 digits"
        raise InvalidRequest(problem, field=name, code="ParameterValueOutOfRange")
    return int(text)
