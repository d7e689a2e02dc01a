"""Queries in the style of MongoDB: parsed, and asked of one document (spec kinvey 7.5).

Owns the language: which operators there are, and what they mean. `query_sql` turns the same tree
into SQL; what SQL cannot say it asks here. Knows no table and no principal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from mqttpush.errors import InvalidRequest
from mqttpush.store.patterns import WEIGHT_LIMIT, compile_pattern

BAD_QUERY: Final = "InvalidQuerySyntax"
TEST_LIMIT: Final = 400  # of one query: conditions, empty ones, lists to compare with
VALUE_LIMIT: Final = 2000  # values of one `$in`
DEPTH_LIMIT: Final = 20
_GEO: Final = frozenset({"$near", "$nearSphere", "$maxDistance", "$within", "$geoWithin"})
_FIELD: Final = re.compile(r"[^$\x00][^\x00]{0,199}")
MISSING: Final = object()

Path = tuple[str, ...]


class Test(NamedTuple):
    """One condition on what stands at a path. operator: `$eq`, `$regex`, …, see `_HOLDS`."""

    path: Path
    operator: str
    operand: Any


class And(NamedTuple):
    """All of them; nothing to ask is true."""

    parts: tuple[Node, ...]


class Or(NamedTuple):
    """At least one of them; none to choose from is false."""

    parts: tuple[Node, ...]


class Not(NamedTuple):
    """The contrary."""

    part: Node


Node = Test | And | Or | Not
EVERYTHING: Final = And(())


class SortKey(NamedTuple):
    """One field to sort by."""

    path: Path
    is_descending: bool


class Values(list[Any]):
    """What `$in` has to choose from: texts and numbers are looked up, not compared one by one."""

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(values)
        self._texts = frozenset(each for each in self if isinstance(each, str))
        self._numbers = frozenset(each for each in self if _is_number(each))
        self.others = [each for each in self if not isinstance(each, str) and not _is_number(each)]

    def have(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self._texts
        if _is_number(value):
            return value in self._numbers
        return any(same(value, each) for each in self.others)


class EntityQuery(NamedTuple):
    """Which documents, in which order. limit: None for all there are."""

    condition: Node = EVERYTHING
    sort: tuple[SortKey, ...] = ()
    limit: int | None = None
    skip: int = 0


def parse_query(query: object) -> Node:
    """The condition of a decoded `query`; raises InvalidRequest with code InvalidQuerySyntax."""
    return _Parser().document(query, 0)


def parse_sort(sort: object) -> tuple[SortKey, ...]:
    """`{"a": 1, "b": -1}`, `[["a", 1]]`, or a bare name; raises InvalidRequest."""
    if isinstance(sort, str):
        return (SortKey(_path(sort), is_descending=False),) if sort else ()
    pairs = list(sort.items()) if isinstance(sort, Mapping) else sort
    if not isinstance(pairs, list) or len(pairs) > 16:
        raise _bad("sort must be a name, or names with 1 or -1", "sort")
    keys = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise _bad("sort must be a name, or names with 1 or -1", "sort")
        name, direction = pair
        if direction not in (1, -1, "asc", "desc") or isinstance(direction, bool):
            raise _bad(f"{name}: sort by 1 or -1", "sort")
        keys.append(SortKey(_path(name), is_descending=direction in (-1, "desc")))
    return tuple(keys)


def matches(node: Node, document: Mapping[str, Any]) -> bool:
    """Does the document meet the condition?"""
    if isinstance(node, Test):
        return holds(node, list(values_at(document, node.path)))
    if isinstance(node, And):
        return all(matches(part, document) for part in node.parts)
    if isinstance(node, Or):
        return any(matches(part, document) for part in node.parts)
    return not matches(node.part, document)


def values_at(value: Any, path: Path) -> Iterator[Any]:
    """What stands at the path; lists on the way are entered. `MISSING` where there is nothing."""
    if not path:
        yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from values_at(value[path[0]], path[1:])
        else:
            yield MISSING
    elif isinstance(value, list):
        if path[0].isdigit() and len(path[0]) < 10 and int(path[0]) < len(value):
            yield from values_at(value[int(path[0])], path[1:])
        for item in value:
            if isinstance(item, dict):
                yield from values_at(item, path)
    else:
        yield MISSING


def holds(test: Test, found: list[Any], timeout_s: float | None = None) -> bool:
    """Does the test hold for what was found at its path? timeout_s: of a regular expression.

    Raises TimeoutError when that is over.
    """
    if test.operator == "$exists":
        return any(value is not MISSING for value in found)
    if test.operator == "$size":
        return any(isinstance(value, list) and len(value) == test.operand for value in found)
    values = found + [item for value in found if isinstance(value, list) for item in value]
    if test.operator == "$regex":
        pattern = test.operand
        return any(
            isinstance(value, str) and pattern.search(value, timeout=timeout_s) is not None
            for value in values
        )
    holds_for = _HOLDS[test.operator]
    return any(holds_for(value, test.operand) for value in values or [MISSING])


def same(left: Any, right: Any) -> bool:
    """Are two JSON values equal? 1 is 1.0, but true is not 1; absent is null."""
    if left is MISSING:
        return right is None
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compared(sign: Callable[[Any, Any], bool], takes_equal: bool) -> Callable[[Any, Any], bool]:
    def compare(value: Any, operand: Any) -> bool:
        if operand is None:
            return takes_equal and (value is None or value is MISSING)
        for kind in (bool, (int, float), str):
            if isinstance(operand, kind):
                is_kind = isinstance(value, kind)
                return (
                    is_kind and isinstance(value, bool) == (kind is bool) and sign(value, operand)
                )
        return False

    return compare


def _leaves_rest(value: Any, operand: tuple[int, int]) -> bool:
    if not _is_number(value) or abs(value) >= 2**63:
        return False
    divisor, rest = operand
    number = abs(int(value))
    left = number % abs(divisor)
    return (left if value >= 0 else -left) == rest


_HOLDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$eq": same,
    "$in": lambda value, operand: operand.have(value),
    "$gt": _compared(lambda a, b: a > b, takes_equal=False),
    "$gte": _compared(lambda a, b: a >= b, takes_equal=True),
    "$lt": _compared(lambda a, b: a < b, takes_equal=False),
    "$lte": _compared(lambda a, b: a <= b, takes_equal=True),
    "$mod": _leaves_rest,
}
COMPARISONS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class _Parser:
    """Checks as it goes; counts what was asked for."""

    def __init__(self) -> None:
        self._count = 0
        self._weight = 0  # of regular expressions

    def document(self, query: object, depth: int) -> Node:
        if not isinstance(query, dict):
            raise _bad("a query must be an object")
        if depth > DEPTH_LIMIT:
            raise _bad(f"a query may be {DEPTH_LIMIT} deep")
        if not query:
            self._spend(1)
        parts: list[Node] = []
        for name, value in query.items():
            if name in ("$and", "$or", "$nor"):
                parts.append(self._several(name, value, depth))
            elif name.startswith("$"):
                raise _unknown(name)
            else:
                parts.append(self._field(_path(name), value, depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _several(self, name: str, value: object, depth: int) -> Node:
        if not isinstance(value, list) or not value:
            raise _bad(f"{name} takes a list of queries")
        parts = tuple(self.document(each, depth + 1) for each in value)
        if name == "$and":
            return And(parts)
        return Or(parts) if name == "$or" else Not(Or(parts))

    def _field(self, path: Path, value: object, depth: int) -> Node:
        if not _has_operators(value):
            return self._test(path, "$eq", value)
        assert isinstance(value, dict)
        if "$options" in value and "$regex" not in value:
            raise _bad("$options goes with $regex")
        parts = [
            self._operator(path, name, operand, value, depth)
            for name, operand in value.items()
            if name != "$options"
        ]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _operator(
        self, path: Path, name: str, operand: Any, all_of: Mapping[str, Any], depth: int
    ) -> Node:
        if depth > DEPTH_LIMIT:
            raise _bad(f"a query may be {DEPTH_LIMIT} deep")
        if name == "$not":
            if not _has_operators(operand):
                raise _bad("$not takes operators")
            return Not(self._field(path, operand, depth + 1))
        if name == "$exists":
            test = self._test(path, "$exists", None)
            return test if operand in (True, 1, "true") else Not(test)
        if name == "$all":
            tests = tuple(self._test(path, "$eq", each) for each in _list(name, operand))
            return And(tests) if tests else Or(())
        if name in _CONTRARIES:
            return Not(self._operator(path, _CONTRARIES[name], operand, all_of, depth))
        if name == "$regex":
            return self._test(path, name, self._pattern(operand, all_of.get("$options", "")))
        check = _OPERANDS.get(name)
        if check is None:
            raise _unknown(name)
        operand = check(name, operand)
        if isinstance(operand, Values):
            self._spend(len(operand.others))
        return self._test(path, name, operand)

    def _test(self, path: Path, operator: str, operand: Any) -> Test:
        self._spend(1)
        return Test(path, operator, operand)

    def _pattern(self, pattern: object, options: object) -> Any:
        try:
            compiled, weight = compile_pattern(pattern, options)
        except ValueError as exc:
            raise _bad(f"$regex {exc}") from exc
        self._weight += weight
        if self._weight > WEIGHT_LIMIT:
            raise _bad("$regex: the expressions are too long or repeat too much together")
        return compiled

    def _spend(self, count: int) -> None:
        self._count += count
        if self._count > TEST_LIMIT:
            raise _bad(f"a query may have {TEST_LIMIT} conditions")


def _has_operators(value: object) -> bool:
    if not isinstance(value, dict) or not any(name.startswith("$") for name in value):
        return False
    if all(name.startswith("$") for name in value):
        return True
    raise _bad("operators and fields do not mix")


def _path(name: object) -> Path:
    if not isinstance(name, str) or not _FIELD.fullmatch(name):
        raise _bad(f"{name!r} is no name of a field")
    path = tuple(name.split("."))
    if not all(path):
        raise _bad(f"{name!r} is no name of a field")
    return path


def _list(name: str, operand: Any) -> list[Any]:
    if not isinstance(operand, list) or len(operand) > VALUE_LIMIT:
        raise _bad(f"{name} takes a list of at most {VALUE_LIMIT} values")
    return operand


def _scalar(name: str, operand: Any) -> Any:
    if isinstance(operand, list | dict):
        raise _bad(f"{name} compares texts, numbers and booleans")
    return operand


def _size(name: str, operand: Any) -> int:
    if isinstance(operand, bool) or not isinstance(operand, int):
        raise _bad(f"{name} takes a whole number")
    return operand


def _divisor(name: str, operand: Any) -> tuple[int, int]:
    is_pair = (
        isinstance(operand, list)
        and len(operand) == 2
        and all(_is_number(each) and isfinite(each) for each in operand)
    )
    if not is_pair or int(operand[0]) == 0:
        raise _bad(f"{name} takes a divisor, which is not 0, and a rest")
    return int(operand[0]), int(operand[1])


_CONTRARIES: Final = {"$ne": "$eq", "$nin": "$in"}
_OPERANDS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "$eq": lambda _, operand: operand,
    "$in": lambda name, operand: Values(_list(name, operand)),
    "$size": _size,
    "$mod": _divisor,
    **dict.fromkeys(COMPARISONS, _scalar),
}


def _unknown(name: str) -> InvalidRequest:
    if name in _GEO:
        return _bad(f"{name}: places on the globe are not supported")
    return _bad(f"{name} is no operator here")


def _bad(problem: str, field: str = "query") -> InvalidRequest:
    return InvalidRequest(problem, field=field, code=BAD_QUERY)
