"""Hostile uses of the Live Service: strangers' channels, odd times, rights that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mqttpush.kinvey import Permission
from tests.support.collections import Environment, Member, assert_error
from tests.support.operating import choose, operate
from tests.support.server import Server

DEVICE = {"deviceId": "device-1"}


@pytest.fixture(scope="module")
def env(server: Server) -> Iterator[Environment]:
    env = Environment(server.url, server.create_app("hostile live"))
    choose(server, env.key, is_live_service_on=True)
    yield env
    env.close()


def register(env: Environment, who: Member) -> None:
    env.ok("POST", f"user/{who.id}/register-realtime", who.authorization, DEVICE)


def follow(env: Environment, who: Member, collection: str) -> httpx.Response:
    return env.call("POST", f"appdata/{collection}/_subscribe", who.authorization, DEVICE)


def poll(env: Environment, who: Member, timetoken: str, **more: str) -> httpx.Response:
    channels = more.pop("channels", ",")
    parameters = {"uuid": "device-1", "auth": who.authtoken, "tt": timetoken, **more}
    return env.http.get(f"{env.url}/v2/subscribe/{env.key}/{channels}/0", params=parameters)


def heard(env: Environment, who: Member, timetoken: str, **more: str) -> list[Any]:
    response = poll(env, who, timetoken, **more)
    assert response.status_code == 200, response.text
    return [(each["c"], each["d"]["n"]) for each in response.json()["m"]]


@pytest.mark.spec("kinvey 6")
def test_naming_channels_of_strangers_lets_one_hear_one_s_own_only(
    server: Server, env: Environment, ann: Member, bob: Member, books: str
) -> None:
    operate(server, lambda each: each.entities.declare(env.key, books, Permission.PRIVATE))
    for who in (ann, bob):
        register(env, who)
        assert follow(env, who, books).status_code == 200
    wanted = {
        "channels": f"{env.key}.c-{books}.u-{bob.id},{env.key}.c-{books}",
        "channel-group": f"{env.key}.u-{bob.id}",
    }
    begun = poll(env, ann, "0", **wanted).json()["t"]["t"]
    env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 1})
    env.ok("POST", f"appdata/{books}", ann.authorization, {"n": 2})
    assert heard(env, ann, begun, **wanted) == [(f"{env.key}.c-{books}.u-{ann.id}", 2)]


@pytest.mark.spec("kinvey 6")
def test_a_right_that_is_lost_while_one_listens_ends_what_one_hears(
    server: Server, env: Environment, ann: Member, bob: Member, books: str
) -> None:
    register(env, ann)
    follow(env, ann, books)
    begun = poll(env, ann, "0").json()["t"]["t"]
    env.ok("PUT", f"appdata/{books}/b1", bob.authorization, {"n": 1})
    operate(server, lambda each: each.entities.declare(env.key, books, Permission.PRIVATE))
    env.ok("PUT", f"appdata/{books}/b1", bob.authorization, {"n": 2})
    shared = {"n": 3, "_acl": {"r": [ann.id]}}
    env.ok("PUT", f"appdata/{books}/b1", bob.authorization, shared)
    env.ok("PUT", f"appdata/{books}/b1", bob.authorization, {"n": 4, "_acl": {}})
    env.ok("PUT", f"appdata/{books}/b2", ann.authorization, {"n": 5})
    assert [number for _, number in heard(env, ann, begun)] == [1, 3, 5]


@pytest.mark.spec("kinvey 6")
@pytest.mark.parametrize("timetoken", ["x", "-1", "1e3", "", "9" * 21, "\u0663"])
def test_a_time_that_is_none_is_refused(env: Environment, ann: Member, timetoken: str) -> None:
    register(env, ann)
    assert_error(poll(env, ann, timetoken), 400, "ParameterValueOutOfRange")


@pytest.mark.spec("kinvey 6")
def test_a_name_that_asked_for_no_time_takes_nothing_from_another(
    env: Environment, ann: Member, bob: Member, books: str
) -> None:
    register(env, ann)
    follow(env, ann, books)
    assert poll(env, ann, "x", uuid="pn-one").status_code == 400
    env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 1})
    begun = poll(env, ann, "0", uuid="pn-other").json()["t"]["t"]
    assert poll(env, ann, "0", uuid="pn-one").status_code == 200
    assert heard(env, ann, begun, uuid="pn-other") == [(f"{env.key}.c-{books}", 1)]


@pytest.mark.spec("kinvey 6")
@pytest.mark.parametrize("more", [{"auth": "x"}, {"auth": ""}, {"uuid": "x" * 300}, {"uuid": ""}])
def test_a_poll_of_nobody_is_forbidden(env: Environment, ann: Member, more: dict[str, str]) -> None:
    register(env, ann)
    assert poll(env, ann, "0", **more).status_code == 403


@pytest.mark.spec("kinvey 6")
def test_users_are_not_followed(env: Environment, ann: Member) -> None:
    register(env, ann)
    assert_error(follow(env, ann, "user"), 403, "IndirectCollectionAccessDisallowed")


@pytest.mark.spec("kinvey 6")
def test_a_client_follows_so_many_collections(tmp_path: Path) -> None:
    server = Server(tmp_path, {"LIVE__MAX_COLLECTIONS_PER_CLIENT": "2"})
    env = Environment(server.url, server.create_app("few"))
    choose(server, env.key, is_live_service_on=True)
    ann = env.member()
    register(env, ann)
    assert [follow(env, ann, name).status_code for name in ("a", "b", "a")] == [200] * 3
    assert_error(follow(env, ann, "c"), 429, "TooManyRequests")
    metrics = env.http.get(f"{server.url}/metrics").text
    assert 'limits_reached_total{limit="live.max_collections_per_client"} 1.0' in metrics
    env.ok("POST", "appdata/a/_unsubscribe", ann.authorization, DEVICE)
    assert follow(env, ann, "c").status_code == 200
    env.close()
    server.stop()
