"""Query clauses: the JSON conditions of spec kii 4.4 -> SQL over one object's row.

Owns the meaning of a clause; a query and a named filter both ask it, so they agree. Knows no bucket
and no principal. Types are strict: the number 1 is not the text "1", and neither is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from mqttpush.errors import InvalidRequest

# Conditions of one query, each value of `in` counted: SQLite takes an expression 1,000 deep.
CLAUSE_LIMIT: Final = 400
VALUE_LIMIT: Final = 200  # values of one `in`
INTEGER_END: Final = 2**63  # SQLite's integers end before it
# No quote and no control character: the name is quoted in a JSON path.
_FIELD: Final = re.compile(r'[^"\\\x00-\x1f\x7f]{1,200}')

# Fields the server keeps, as SQL over the row of `objects`, with the JSON type they have.
_SYSTEM_FIELDS: Final = {
    "_id": ("object_id", "text"),
    "_created": ("created_ms", "integer"),
    "_modified": ("modified_ms", "integer"),
    "_owner": ("substr(owner, instr(owner, ':') + 1)", "text"),
    "_version": ("CAST(version AS TEXT)", "text"),
    "_dataType": (
        # `score` of `application/vnd.{appID}.score+json`; what is plain JSON has no type.
        "iif(data_type = 'application/json', '', substr(data_type,"
        " 17 + instr(substr(data_type, 17), '.'),"
        " length(data_type) - 21 - instr(substr(data_type, 17), '.')))",
        "text",
    ),
}
_FIELD_TYPES: Final = {
    "STRING": "('text')",
    "INTEGER": "('integer')",
    "DECIMAL": "('integer', 'real')",
    "BOOLEAN": "('true', 'false')",
}


class ClauseSql:
    """Builds the SQL condition of one clause; `parameters` go with it, in order."""

    def __init__(self) -> None:
        self.parameters: list[object] = []
        self._count = 0
        self._by_type: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
            "all": self._all,
            "eq": self._eq,
            "range": self._range,
            "prefix": self._prefix,
            "in": self._in,
            "and": lambda clause: self._several(clause, " AND "),
            "or": lambda clause: self._several(clause, " OR "),
            "not": self._not,
            "hasField": self._has_field,
        }

    def condition(self, clause: object) -> str:
        """SQL for `clause`; raises InvalidRequest naming what is wrong with it."""
        self._count_conditions(1)
        if not isinstance(clause, dict):
            raise InvalidRequest("must be an object", field="clause")
        build = self._by_type.get(str(clause.get("type")))
        if build is None:
            known = ", ".join(self._by_type)
            raise InvalidRequest(f"type must be one of {known}", field="clause")
        return build(clause)

    def order(self, field: object) -> str:
        """SQL that sorts by a field; objects without it come first, numbers before texts."""
        value, _ = self._field({"field": field}, "orderBy")
        return value

    def _count_conditions(self, count: int) -> None:
        self._count += count
        if self._count > CLAUSE_LIMIT:
            raise InvalidRequest(f"has more than {CLAUSE_LIMIT} conditions", field="clause")

    def _all(self, _: Mapping[str, Any]) -> str:
        return "1"

    def _eq(self, clause: Mapping[str, Any]) -> str:
        return self._equals(clause, clause.get("value"))

    def _in(self, clause: Mapping[str, Any]) -> str:
        values = clause.get("values")
        if not isinstance(values, list) or not 1 <= len(values) <= VALUE_LIMIT:
            raise InvalidRequest(f"values must be 1 to {VALUE_LIMIT}", field="clause")
        self._count_conditions(len(values) - 1)
        return "(" + " OR ".join(self._equals(clause, value) for value in values) + ")"

    def _equals(self, clause: Mapping[str, Any], value: object) -> str:
        if isinstance(value, bool):
            _, type_ = self._field(clause)
            self.parameters.append("true" if value else "false")
            return f"({type_} = ?)"
        return self._compared(clause, "=", value)

    def _range(self, clause: Mapping[str, Any]) -> str:
        parts = []
        for limit, included, sign in (
            ("lowerLimit", "lowerIncluded", ">"),
            ("upperLimit", "upperIncluded", "<"),
        ):
            if limit in clause:
                is_included = clause.get(included, True)
                parts.append(
                    self._compared(clause, f"{sign}=" if is_included else sign, clause[limit])
                )
        if not parts:
            raise InvalidRequest("a range needs lowerLimit or upperLimit", field="clause")
        return "(" + " AND ".join(parts) + ")"

    def _compared(self, clause: Mapping[str, Any], sign: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidRequest("a value must be a text, number or boolean", field="clause")
        types = "('text')" if isinstance(value, str) else "('integer', 'real')"
        if isinstance(value, int) and not -INTEGER_END <= value < INTEGER_END:
            value = float(value)  # as SQLite reads such a number from the object
        # Parameters stand in the text's order: the type's path, the value's path, the value.
        type_ = self._type(clause)
        extracted = self._value(clause)
        self.parameters.append(value)
        return f"({type_} IN {types} AND {extracted} {sign} ?)"

    def _prefix(self, clause: Mapping[str, Any]) -> str:
        prefix = clause.get("prefix")
        if not isinstance(prefix, str):
            raise InvalidRequest("prefix must be a text", field="clause")
        type_, extracted = self._type(clause), self._value(clause)
        self.parameters += [len(prefix), prefix]
        return f"({type_} = 'text' AND substr({extracted}, 1, ?) = ?)"

    def _several(self, clause: Mapping[str, Any], joint: str) -> str:
        clauses = clause.get("clauses")
        if not isinstance(clauses, list) or not clauses:
            raise InvalidRequest("clauses must be a list of conditions", field="clause")
        return "(" + joint.join(self.condition(each) for each in clauses) + ")"

    def _not(self, clause: Mapping[str, Any]) -> str:
        # A field that is absent has type NULL, and NOT NULL would be NULL: neither.
        return f"(NOT coalesce({self.condition(clause.get('clause'))}, 0))"

    def _has_field(self, clause: Mapping[str, Any]) -> str:
        types = _FIELD_TYPES.get(str(clause.get("fieldType")))
        if types is None:
            raise InvalidRequest(
                f"fieldType must be one of {', '.join(_FIELD_TYPES)}", field="clause"
            )
        return f"({self._type(clause)} IN {types})"

    def _field(self, clause: Mapping[str, Any], name: str = "clause") -> tuple[str, str]:
        """(SQL of the value, SQL of the type) with one parameter, the path, for either."""
        field = clause.get("field")
        if not isinstance(field, str) or not _FIELD.fullmatch(field):
            raise InvalidRequest(f"{field!r} is not a field", field=name)
        if field in _SYSTEM_FIELDS:
            value, type_ = _SYSTEM_FIELDS[field]
            return value, f"'{type_}'"
        self.parameters.append(f'$."{field}"')
        return "json_extract(document, ?)", "json_type(document, ?)"

    def _value(self, clause: Mapping[str, Any]) -> str:
        return self._field(clause)[0]

    def _type(self, clause: Mapping[str, Any]) -> str:
        return self._field(clause)[1]
