"""Queries as SQL over rows that hold a JSON document.

Owns the translation of `queries`' trees. What SQL says exactly, SQL decides; every other test asks
`query_test`, a function of ours on the connection, which evaluates it in Python. So the answer is
the same either way, and sorting, paging and rights stay with the database. What Python evaluates
has a budget of time: the database looks at the clock by instructions of its own, which is too late.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import orjson

from mqttpush.errors import InvalidRequest, LimitReached
from mqttpush.store.queries import (
    BAD_QUERY,
    COMPARISONS,
    MISSING,
    And,
    Node,
    Or,
    Path,
    SortKey,
    Test,
    holds,
    values_at,
)

# All regular expressions of one query together; a stranger's may backtrack for ever.
REGEX_BUDGET_S: Final = 1.0
# What can stand quoted in a JSON path.
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\x7f\'\[\]]{1,200}')
_INTEGER_END: Final = 2**53  # beyond, SQLite and Python may round differently


class Column(NamedTuple):
    """A field that is not in the document: SQL of its value, with the parameters in it.

    is_json: the SQL gives JSON; else a text, or NULL for what is not there.
    """

    sql: str
    parameters: tuple[object, ...] = ()
    is_json: bool = False


_NOWHERE: Final[Mapping[str, Column]] = {}


class QueryFunction:
    """`query_test(number, kind, value)` of one connection: the tests that SQL leaves to Python."""

    def __init__(self, connection: sqlite3.Connection, timeout_s: float) -> None:
        """timeout_s: how long the tests of one query may take, the database's part counted."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._is_known = False
        self._tests: Sequence[Test] = ()
        self._text = ""
        self._document: Any = None
        self._deadline = 0.0
        self._regex_deadline = 0.0
        self._is_late = False

    @contextmanager
    def answering(self, tests: Sequence[Test]) -> Iterator[None]:
        """These are the tests meant inside; raises LimitReached when they take too long."""
        if tests and not self._is_known:  # here, because we are in the connection's thread
            self._connection.create_function("query_test", 3, self._test)
            self._is_known = True
        self._tests = tests
        self._is_late = False
        now = time.monotonic()
        self._deadline = now + self._timeout_s
        self._regex_deadline = now + min(REGEX_BUDGET_S, self._timeout_s)
        try:
            yield
        except sqlite3.OperationalError as exc:
            if self._is_late:
                raise LimitReached("store.query_timeout_s", retry_after_s=1) from exc
            raise
        finally:
            self._tests, self._text, self._document = (), "", None

    def _test(self, number: int, kind: str, value: str | None) -> bool:
        test = self._tests[number]
        is_regex = test.operator == "$regex"
        left_s = (self._regex_deadline if is_regex else self._deadline) - time.monotonic()
        if left_s <= 0:
            self._is_late = True
            raise TimeoutError
        found: list[Any]
        if kind == "document":
            if value != self._text:
                self._text, self._document = value or "", orjson.loads(value or "{}")
            found = list(values_at(self._document, test.path))
        elif value is None:
            found = [MISSING]
        else:
            found = [orjson.loads(value) if kind == "json" else value]
        try:
            return holds(test, found, left_s if is_regex else None)
        except TimeoutError:
            self._is_late = True
            raise


class QuerySql:
    """Builds the SQL of one query. columns: by path, fields outside the document.

    document: the column that holds it. asides: by the first name of paths, where a document of its
    own has them; not to sort by. `parameters` go with the SQL, in order; `tests` are those
    that `QueryFunction.answering` must know.
    """

    def __init__(
        self,
        columns: Mapping[Path, Column],
        document: str = "document",
        asides: Mapping[str, Column] = _NOWHERE,
    ) -> None:
        self.parameters: list[object] = []
        self.tests: list[Test] = []
        self._columns = columns
        self._document = document
        self._asides = asides

    def condition(self, node: Node) -> str:
        if isinstance(node, Test):
            return self._test(node)
        if isinstance(node, And):
            parts = [self.condition(part) for part in node.parts]
            return f"({' AND '.join(parts)})" if parts else "1"
        if isinstance(node, Or):
            parts = [self.condition(part) for part in node.parts]
            return f"({' OR '.join(parts)})" if parts else "0"
        return f"(NOT {self.condition(node.part)})"

    def order(self, sort: Sequence[SortKey], *, then: str) -> str:
        """ORDER BY: nothing and null, numbers, texts, objects, lists, booleans, as MongoDB does.

        then: the column that decides between equals.
        """
        terms = []
        for path, is_descending in sort:
            direction = "DESC" if is_descending else "ASC"
            column = self._columns.get(path)
            if column is not None:
                self.parameters += column.parameters
                terms.append(f"{column.sql} {direction}")
                continue
            json_path = _json_path(path)
            if json_path is None:
                problem = f"cannot sort by {'.'.join(path)}"
                raise InvalidRequest(problem, field="sort", code=BAD_QUERY)
            self.parameters += [json_path, json_path]
            terms.append(
                f"CASE coalesce(json_type({self._document}, ?), 'null') WHEN 'null' THEN 0"
                " WHEN 'integer' THEN 1 WHEN 'real' THEN 1 WHEN 'text' THEN 2"
                f" WHEN 'object' THEN 3 WHEN 'array' THEN 4 ELSE 5 END {direction}"
            )
            terms.append(f"json_extract({self._document}, ?) {direction}")
        return ", ".join([*terms, then])

    def _test(self, test: Test) -> str:
        column = self._columns.get(test.path)
        if column is not None:
            return self._column_test(test, column)
        aside = self._asides.get(test.path[0])
        if aside is not None:
            return self._asked(test, "document", aside)
        json_path = _json_path(test.path) if len(test.path) == 1 else None
        if json_path is None:
            return self._asked(test, "document", Column(self._document))
        if test.operator == "$exists":
            self.parameters.append(json_path)
            return f"(json_type({self._document}, ?) IS NOT NULL)"
        sign = "=" if test.operator == "$eq" else COMPARISONS.get(test.operator)
        if sign is None or not _is_exact(test.operand):
            return self._asked(test, "document", Column(self._document))
        if not isinstance(test.operand, str):
            return self._compared(json_path, sign, test.operand)
        # For SQLite the text of a JSON value ends at the first NUL.
        asked = self._asked(test, "document", Column(self._document))
        compared = self._compared(json_path, sign, test.operand)
        return f"(CASE WHEN instr({self._document}, '\\u0000') THEN {asked} ELSE {compared} END)"

    def _column_test(self, test: Test, column: Column) -> str:
        if column.is_json:
            return self._asked(test, "json", column)
        if test.operator == "$exists":
            self.parameters += column.parameters
            return f"({column.sql} IS NOT NULL)"
        sign = "=" if test.operator == "$eq" else COMPARISONS.get(test.operator)
        if sign is not None and isinstance(test.operand, str):
            self.parameters += [*column.parameters, test.operand]
            return f"coalesce({column.sql} {sign} ?, 0)"
        if test.operator == "$in" and all(isinstance(each, str) for each in test.operand):
            self.parameters += [*column.parameters, orjson.dumps(test.operand).decode()]
            return f"coalesce({column.sql} IN (SELECT value FROM json_each(?)), 0)"  # noqa: S608
        return self._asked(test, "text", column)

    def _compared(self, json_path: str, sign: str, operand: str | int) -> str:
        """The value itself, or one in the list that stands there, is of the type and compares."""
        types = "('text')" if isinstance(operand, str) else "('integer', 'real')"
        self.parameters += [json_path, json_path, operand, json_path, json_path, operand]
        document = self._document
        return (
            f"(CASE WHEN json_type({document}, ?) IN {types}"  # noqa: S608 names of ours only
            f" THEN json_extract({document}, ?) {sign} ?"
            f" WHEN json_type({document}, ?) = 'array' THEN EXISTS ("
            f"SELECT 1 FROM json_each({document}, ?) WHERE type IN {types} AND value {sign} ?)"
            " ELSE 0 END)"
        )

    def _asked(self, test: Test, kind: str, column: Column) -> str:
        self.tests.append(test)
        self.parameters += [len(self.tests) - 1, kind, *column.parameters]
        return f"query_test(?, ?, {column.sql})"


def _is_exact(operand: object) -> bool:
    """Does SQLite compare it as Python does?"""
    if isinstance(operand, bool):
        return False
    return isinstance(operand, str) or (isinstance(operand, int) and abs(operand) < _INTEGER_END)


def _json_path(path: Path) -> str | None:
    if not all(_PLAIN.fullmatch(part) for part in path):
        return None
    return "$" + "".join(f'."{part}"' for part in path)
