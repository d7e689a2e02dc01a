"""Finding a route: right, and at a cost that the number of routes does not change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mqttpush.errors import InvalidRequest
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route, RouteTable
from tests.rest.test_cross_app import ROUTES

TABLE = RouteTable(ROUTES)
LONGEST = max((route.path for route in ROUTES), key=lambda path: path.count("/"))


async def answer(_: ApiRequest) -> ApiResponse:
    return ApiResponse(204)


def looked_up(find: Callable[[], object]) -> int:
    """How many dictionary look-ups the call makes."""
    count = 0

    def profile(_: FrameType, event: str, called: Any) -> None:
        nonlocal count
        is_look_up = event == "c_call" and getattr(called, "__name__", "") == "get"
        count += is_look_up and isinstance(called.__self__, dict)

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        assert find() is not None
    finally:
        sys.setprofile(previous)
    return count


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_found_by_its_path(route: Route) -> None:
    match = TABLE.find(route.path.replace("{", "").replace("}", ""))
    assert match
    found, names = match.routes[route.method]
    assert found is route
    assert match.parameters(names) == {name: name for name in names}


def test_matching_costs_two_look_ups_a_segment_at_most() -> None:
    for route in ROUTES:
        segments = route.path.count("/")
        assert looked_up(lambda path=route.path: TABLE.find(path)) <= 2 * segments + 1  # type: ignore[misc]


def test_matching_costs_the_same_with_one_route_as_with_all() -> None:
    alone = RouteTable([Route("GET", LONGEST, answer, "alone")])
    assert looked_up(lambda: TABLE.find(LONGEST)) == looked_up(lambda: alone.find(LONGEST))


def test_empty_segments_count_for_nothing() -> None:
    match = TABLE.find("//api//apps/a//buckets/b/")
    assert match
    assert match.values == ["a", "b"]


def test_a_literal_wins_over_a_parameter() -> None:
    table = RouteTable(
        [Route("GET", "/users/{userID}", answer, "one"), Route("GET", "/users/me", answer, "me")]
    )
    match = table.find("/users/me")
    assert match
    assert match.routes["GET"][0].summary == "me"


@pytest.mark.parametrize("path", ["/", "", "/api", "/api/apps", "/nothing/at/all", "/api/apps/{}"])
def test_what_is_no_path_of_ours_is_not_found(path: str) -> None:
    match = TABLE.find(path)
    assert match is None or set(match.routes) == {"DELETE"}  # an app called `{}`


def test_a_parameter_that_is_no_utf_8_is_refused() -> None:
    match = TABLE.find("/api/apps/%ff")
    assert match
    with pytest.raises(InvalidRequest):
        match.parameters(("appID",))
