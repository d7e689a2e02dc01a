"""Queries of the second dialect: SQL and Python give the same answer, which is the right one."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.errors import InvalidRequest, LimitReached
from mqttpush.store.queries import matches, parse_query, parse_sort
from mqttpush.store.query_sql import Column, QueryFunction, QuerySql

names = st.sampled_from(["a", "b", "c", "a.b", "b.a", "a.0", "a.b.c", "_id"])
keys = st.sampled_from(["a", "b", "c", "0"])
texts = st.text(alphabet="abz%_é\n\0", max_size=3)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -2.5, 1e300])
    | st.sampled_from([2**40, -(2**40)])
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(keys, values, max_size=4)
operators = st.one_of(
    st.fixed_dictionaries({"$eq": values}),
    st.fixed_dictionaries({"$ne": values}),
    *(st.fixed_dictionaries({sign: scalars}) for sign in ("$gt", "$gte", "$lt", "$lte")),
    *(
        st.fixed_dictionaries({sign: st.lists(values, max_size=3)})
        for sign in ("$in", "$nin", "$all")
    ),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$size": st.integers(0, 3)}),
    st.fixed_dictionaries(
        {"$mod": st.tuples(st.sampled_from([2, 3]), st.integers(-2, 2)).map(list)}
    ),
    st.fixed_dictionaries(
        {
            "$regex": st.sampled_from(["^a", "b$", "[z%]", "."]),
            "$options": st.sampled_from(["", "i"]),
        }
    ),
)
plain = st.tuples(names, values.filter(lambda value: not isinstance(value, dict))).map(
    lambda pair: {pair[0]: pair[1]}
)
conditions = (
    st.tuples(names, operators).map(lambda pair: {pair[0]: pair[1]})
    | st.tuples(names, operators).map(lambda pair: {pair[0]: {"$not": pair[1]}})
    | plain
)
queries = st.recursive(
    conditions,
    lambda inner: st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda pair: {pair[0]: pair[1]}),
    max_leaves=5,
)


class Rows:
    """A table of documents, asked by SQL."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE rows (id TEXT, document TEXT)")
        self.function = QueryFunction(self.connection, timeout_s)

    def find(self, documents: list[dict[str, Any]], query: Any) -> list[int]:
        self.connection.execute("DELETE FROM rows")
        self.connection.executemany(
            "INSERT INTO rows VALUES (?, ?)",
            [(str(number), orjson.dumps(each).decode()) for number, each in enumerate(documents)],
        )
        sql = QuerySql({("_id",): Column("id")})
        condition = sql.condition(parse_query(query))
        with self.function.answering(sql.tests):
            rows = self.connection.execute(
                f"SELECT id FROM rows WHERE {condition} ORDER BY rowid",  # noqa: S608
                sql.parameters,
            )
            return [int(row[0]) for row in rows]

    def sorted(self, documents: list[dict[str, Any]], sort: Any) -> list[int]:
        self.connection.execute("DELETE FROM rows")
        self.connection.executemany(
            "INSERT INTO rows VALUES (?, ?)",
            [(str(number), orjson.dumps(each).decode()) for number, each in enumerate(documents)],
        )
        sql = QuerySql({("_id",): Column("id")})
        order = sql.order(parse_sort(sort), then="rowid")
        rows = self.connection.execute(
            f"SELECT id FROM rows ORDER BY {order}",  # noqa: S608
            sql.parameters,
        )
        return [int(row[0]) for row in rows]


rows = Rows()


@pytest.mark.spec("kinvey 7.5")
@given(found=st.lists(documents, max_size=6), query=queries)
def test_the_database_finds_what_plain_python_finds(
    found: list[dict[str, Any]], query: dict[str, Any]
) -> None:
    condition = parse_query(query)
    expected = [
        number
        for number, document in enumerate(found)
        if matches(condition, {**document, "_id": str(number)})
    ]
    assert rows.find(found, query) == expected


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"n": 5}, [0, 3]),
        ({"n": True}, [4]),
        ({"n": None}, [2, 5]),
        ({"n": {"$gt": 4}}, [0, 1, 3]),
        ({"n": {"$gte": 5, "$lt": 6}}, [0, 3]),
        ({"n": {"$ne": 5}}, [1, 2, 4, 5]),
        ({"n": {"$in": [5, "x"]}}, [0, 3]),
        ({"n": {"$nin": [5, None]}}, [1, 4]),
        ({"n": {"$exists": True}}, [0, 1, 3, 4, 5]),
        ({"n": {"$all": [5, 6]}}, [3]),
        ({"n": {"$size": 2}}, [3]),
        ({"n": {"$mod": [3, 2]}}, [0, 3]),
        ({"name": {"$regex": "^an"}}, [0]),
        ({"name": {"$regex": "^AN", "$options": "i"}}, [0]),
        ({"address.city": "Oslo"}, [1]),
        ({"items.price": {"$lt": 3}}, [2]),
        ({"items.1.price": 4}, [2]),
        ({"$or": [{"n": 7.5}, {"name": "ann"}]}, [0, 1]),
        ({"$nor": [{"n": 7.5}, {"name": "ann"}]}, [2, 3, 4, 5]),
        ({"n": {"$not": {"$gt": 4}}}, [2, 4, 5]),
        ({"address": {"city": "Oslo"}}, [1]),
        ({"_id": {"$in": ["1", "4"]}}, [1, 4]),
    ],
)
def test_operators_mean_what_the_specification_says(query: Any, found: list[int]) -> None:
    documents: list[dict[str, Any]] = [
        {"n": 5, "name": "ann"},
        {"n": 7.5, "address": {"city": "Oslo"}},
        {"items": [{"price": 2}, {"price": 4}]},
        {"n": [5, 6]},
        {"n": True},
        {"n": None},
    ]
    assert rows.find(documents, query) == found


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    "query",
    [
        [],
        "text",
        {"a": {"$near": [1, 2]}},
        {"a": {"$where": "1"}},
        {"$where": "1"},
        {"a": {"$gt": [1]}},
        {"a": {"$in": 5}},
        {"a": {"$regex": "("}},
        {"a": {"$regex": 5}},
        {"a": {"$regex": "a", "$options": "q"}},
        {"a": {"$options": "i"}},
        {"a": {"$mod": [0, 1]}},
        {"a": {"$mod": [2]}},
        {"a": {"$size": "x"}},
        {"a": {"$not": 5}},
        {"a": {"$gt": 1, "b": 2}},
        {"$and": []},
        {"$or": {}},
        {"a..b": 1},
        {"": 1},
        {"a": {"$in": [0] * 2001}},
        {"$or": [{"a": 1}] * 401},
        {"$or": [{}] * 401},
        {"$nor": [{"$and": [{}] * 200}] * 3},
        {"a": {"$in": [[1]] * 401}},
        {"a": {"$mod": [float("inf"), 1]}},
        {"a": {"$regex": "(?R)?a"}},
        {"a": {"$regex": "(a(?1)?)"}},
        {"a": {"$regex": "(?P<n>a(?&n)?)"}},
        {"$or": [{"a": {"$regex": "a" * 1000}}] * 6},
    ],
)
def test_a_query_that_cannot_be_used_is_refused(query: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_query(query)
    assert refused.value.code == "InvalidQuerySyntax"


def test_as_many_conditions_as_there_may_be_are_answered() -> None:
    assert rows.find([{"a": 399}, {"a": 400}], {"$or": [{"a": n} for n in range(400)]}) == [0]
    assert rows.find([{"a": 399}], {"$nor": [{"a": {"$ne": n}} for n in range(400)]}) == []


def test_a_query_nested_without_end_is_refused() -> None:
    query: dict[str, Any] = {"a": 1}
    for _ in range(100):
        query = {"$and": [query]}
    with pytest.raises(InvalidRequest):
        parse_query(query)


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("((a{1000}){1000}){1000}", ""),
        ("(?:(?:[ab]{500})+){500}", ""),
        ("a{1000000}", ""),
        ("(a{1000}){1000,}", ""),
        ("(?x)(?:a{1 000}) {100 0}", ""),
        ("(?:a{1 000}) {100 0}", "x"),
        ("(?:a{1#\n000})#)\n{1000}", "x"),
        ("[()](a{1000}[(]){1000}", ""),
    ],
)
def test_a_small_regular_expression_that_compiles_to_a_huge_one_is_refused(
    pattern: str, options: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"repeats too much|both comments and counts"):
        parse_query({"a": {"$regex": pattern, "$options": options}})


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "5058c666-474f-0509-0600-000001aaaaaa"),
        (
            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            "5058c666-474f-0509-0600-000001aaaaaa",
        ),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "127.0.0.1"),
        ("^([0-9A-F]{2}:){5}[0-9A-F]{2}$", "00:1B:44:11:3A:B7"),
        (".{0,5000}x", "x"),
    ],
)
def test_counted_repeats_of_daily_use_are_allowed(pattern: str, text: str) -> None:
    assert rows.find([{"a": text}, {"a": "?"}], {"a": {"$regex": pattern}}) == [0]


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize("value", ["x\0y", "x"])
def test_a_text_does_not_end_at_a_nul(value: str) -> None:
    documents = [{"a": "x"}, {"a": "x\0y"}]
    assert rows.find(documents, {"a": value}) == [0 if value == "x" else 1]


@pytest.mark.spec("kinvey 7.5")
def test_a_long_list_to_choose_from_is_looked_up_in() -> None:
    documents = [{"a": number} for number in range(3000)]
    wanted = [number + 0.5 for number in range(1999)] + [1.0]
    assert rows.find(documents, {"a": {"$in": wanted}}) == [1]


def test_tests_outside_the_database_are_broken_off_in_time() -> None:
    slow = Rows(timeout_s=0.05)
    documents = [{"a": [[0]] * 400} for _ in range(100)]
    with pytest.raises(LimitReached):
        slow.find(documents, {"a": {"$in": [[number + 1] for number in range(390)]}})


@pytest.mark.spec("kinvey 7.5")
def test_a_regular_expression_that_never_ends_is_broken_off() -> None:
    with pytest.raises(LimitReached):
        rows.find([{"a": "a" * 40 + "b"}] * 3, {"a": {"$regex": "^(a|a|b?a)+$"}})


@pytest.mark.spec("kinvey 7.5")
def test_sorting_ranks_types_and_goes_into_objects() -> None:
    documents: list[dict[str, Any]]
    documents = [{"a": "x"}, {"a": 2}, {}, {"a": True}, {"a": 1.5}, {"a": None}, {"a": {"b": 1}}]
    assert rows.sorted(documents, "a") == [2, 5, 4, 1, 0, 6, 3]
    assert rows.sorted(documents, {"a": -1}) == [3, 6, 0, 1, 4, 2, 5]
    assert rows.sorted([{"a": {"b": 2}}, {"a": {"b": 1}}], [["a.b", 1]]) == [1, 0]


@pytest.mark.parametrize("sort", [5, {"a": 2}, [["a"]], {"$a": 1}, [1], {"a": True}])
def test_an_order_that_cannot_be_used_is_refused(sort: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_sort(sort)
