"""Queries as clients of the second dialect write them, decoded from JSON (spec kinvey 7.5)."""

from __future__ import annotations

from mqttpush.store.queries import EVERYTHING, EntityQuery, parse_query, parse_sort

__all__ = ["EntityQuery", "entity_query"]


def entity_query(
    query: object = None, sort: object = None, limit: int | None = None, skip: int = 0
) -> EntityQuery:
    """Raises InvalidRequest with code InvalidQuerySyntax."""
    condition = EVERYTHING if query is None else parse_query(query)
    return EntityQuery(condition, () if sort is None else parse_sort(sort), limit, skip)
