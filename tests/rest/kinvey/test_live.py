"""The Live Service: who follows a collection hears what he may read (spec kinvey 6)."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import httpx
import pytest

from mqttpush.kinvey import Permission
from tests.support.collections import Environment, Member, assert_error
from tests.support.device import TIMEOUT_S, Device
from tests.support.operating import choose, operate
from tests.support.rest import unique
from tests.support.server import Server


@pytest.fixture(scope="module")
def env(server: Server) -> Iterator[Environment]:
    env = Environment(server.url, server.create_app("live"))
    choose(server, env.key, is_live_service_on=True)
    yield env
    env.close()


def register(env: Environment, who: Member, device: str = "device-1") -> dict[str, Any]:
    path, body = f"user/{who.id}/register-realtime", {"deviceId": device}
    answer: dict[str, Any] = env.ok("POST", path, who.authorization, body)
    return answer


def follow(env: Environment, who: Member, collection: str, device: str = "device-1") -> None:
    path = f"appdata/{collection}/_subscribe"
    assert env.ok("POST", path, who.authorization, {"deviceId": device}) == {}


def by_mqtt(registration: dict[str, Any]) -> Device:
    """A device connected as the registration says."""
    mqtt = registration["mqtt"]
    return Device(
        {
            "host": mqtt["host"],
            "portTCP": mqtt["ports"]["tcp"],
            "username": mqtt["username"],
            "password": mqtt["password"],
            "mqttTopic": mqtt["topic"],
        }
    )


class Events:
    """Server-sent events of a client, read in a thread of its own."""

    def __init__(self, env: Environment, who: Member, device: str = "device-1") -> None:
        parameters = httpx.QueryParams({"deviceId": device, "authtoken": who.authtoken})
        self._url = f"{env.url}/realtime/{env.key}?{parameters}"
        self._lines: Queue[str | None] = Queue()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Events:
        self._thread.start()
        assert self._line() == ": here you are"
        return self

    def __exit__(self, *_: object) -> None:
        link: socket.socket = self._response.extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):  # the server may have ended it
            link.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)

    def _read(self) -> None:
        try:
            with (
                httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http,
                http.stream("GET", self._url) as response,
            ):
                self._response = response
                assert response.headers["content-type"].startswith("text/event-stream")
                for line in response.iter_lines():
                    self._lines.put(line)
        except (httpx.HTTPError, httpx.StreamError):
            pass
        self._lines.put(None)

    def _line(self) -> str | None:
        return self._lines.get(timeout=TIMEOUT_S)

    def next(self) -> dict[str, Any]:
        while (line := self._line()) is not None:
            if line.startswith("data: "):
                frame: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return frame
        raise AssertionError("the stream has ended")

    def wait_until_ended(self) -> None:
        while self._line() is not None:
            pass


@pytest.mark.spec("kinvey 13.9")
def test_a_subscriber_hears_what_he_may_read_on_the_channel_it_belongs_to(
    env: Environment, ann: Member, bob: Member, books: str
) -> None:
    answer = register(env, ann)
    assert {"subscribeKey", "publishKey", "userChannelGroup"} <= set(answer)
    follow(env, ann, books)
    path = f"appdata/{books}"
    with by_mqtt(answer) as device, Events(env, ann) as events:
        posted = env.ok("POST", path, bob.authorization, {"n": 1})
        frame = device.next_push()
        assert frame["channel"] == f"{env.key}.c-{books}"
        assert frame["message"] == posted
        assert events.next() == frame
        env.ok("DELETE", f"{path}/{posted['_id']}", bob.authorization)
        changed = env.ok("PUT", f"{path}/other", bob.authorization, {"n": 2})
        later = device.next_push()
        assert later["message"] == changed, "a deletion is no event"
        assert int(later["timetoken"]) > int(frame["timetoken"])
        assert events.next() == later


@pytest.mark.spec("kinvey 13.9")
def test_a_private_entity_goes_to_its_readers_alone_on_their_own_channels(
    server: Server, env: Environment, ann: Member, bob: Member, books: str
) -> None:
    operate(server, lambda each: each.entities.declare(env.key, books, Permission.PRIVATE))
    with_ann, with_bob = register(env, ann), register(env, bob)
    for who in (ann, bob):
        follow(env, who, books)
    path = f"appdata/{books}"
    with by_mqtt(with_ann) as of_ann, by_mqtt(with_bob) as of_bob:
        env.ok("POST", path, bob.authorization, {"n": 1})
        env.ok("POST", path, bob.authorization, {"n": 2, "_acl": {"r": [ann.id]}})
        env.ok("POST", path, bob.authorization, {"n": 3, "_acl": {"gr": True}})
        channel = f"{env.key}.c-{books}"
        own = [of_bob.next_push() for _ in range(3)]
        assert [each["message"]["n"] for each in own] == [1, 2, 3]
        assert [each["channel"] for each in own] == [*[f"{channel}.u-{bob.id}"] * 2, channel]
        heard = [of_ann.next_push() for _ in range(2)]
        assert [each["message"]["n"] for each in heard] == [2, 3]
        assert [each["channel"] for each in heard] == [f"{channel}.u-{ann.id}", channel]


@pytest.mark.spec("kinvey 6")
def test_who_left_or_is_not_registered_hears_nothing(
    env: Environment, ann: Member, books: str
) -> None:
    path = f"appdata/{books}"
    early = env.call("POST", f"{path}/_subscribe", ann.authorization, {"deviceId": "device-1"})
    assert_error(early, 400, "BadRequest")
    with by_mqtt(register(env, ann)) as device:
        for collection in (books, f"{books}-2"):
            follow(env, ann, collection)
        env.ok("POST", f"{path}/_unsubscribe", ann.authorization, {"deviceId": "device-1"})
        env.ok("POST", path, ann.authorization, {"n": 1})
        env.ok("POST", f"{path}-2", ann.authorization, {"n": 2})
        assert device.next_push()["message"]["n"] == 2
        body = {"deviceId": "device-1"}
        response = env.call("POST", f"user/{ann.id}/unregister-realtime", ann.authorization, body)
        assert (response.status_code, response.content) == (204, b"")
        device.wait_until_lost()


@pytest.mark.spec("kinvey 6")
def test_a_session_that_ends_takes_its_live_clients_along(
    env: Environment, ann: Member, books: str
) -> None:
    answer = register(env, ann)
    follow(env, ann, books)
    with by_mqtt(answer) as device, Events(env, ann) as events:
        env.ok("POST", "user/_logout", ann.authorization)
        device.wait_until_lost()
        events.wait_until_ended()
    with pytest.raises(ConnectionRefusedError), by_mqtt(answer):
        pass


@pytest.mark.spec("kinvey 6")
def test_unregistering_after_the_end_of_the_session_is_fine(env: Environment, ann: Member) -> None:
    register(env, ann)
    env.ok("POST", "user/_logout", ann.authorization)
    path, body = f"user/{ann.id}/unregister-realtime", {"deviceId": "device-1"}
    assert env.call("POST", path, ann.authorization, body).status_code == 204
    assert_error(env.call("POST", path, "Basic bad", body), 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 6")
def test_a_suspended_user_hears_nothing_any_more(env: Environment, ann: Member, books: str) -> None:
    answer = register(env, ann)
    follow(env, ann, books)
    with by_mqtt(answer) as device, Events(env, ann) as events:
        env.ok("DELETE", f"user/{ann.id}", env.master)
        device.wait_until_lost()
        events.wait_until_ended()


@pytest.mark.spec("kinvey 6")
def test_long_polling_answers_as_pubnub_does(
    env: Environment, ann: Member, bob: Member, books: str
) -> None:
    answer = register(env, ann)
    follow(env, ann, books)
    parameters = {"uuid": "device-1", "auth": ann.authtoken, "pnsdk": "x"}
    parameters["channel-group"] = answer["userChannelGroup"]
    url = f"{env.url}/v2/subscribe/{answer['subscribeKey']}/,/0"

    def poll(timetoken: str) -> Any:
        response = env.http.get(url, params={**parameters, "tt": timetoken})
        assert response.status_code == 200, response.text
        return response.json()

    begun = poll("0")
    assert begun["m"] == []
    first = env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 1})
    came = poll(begun["t"]["t"])
    (message,) = came["m"]
    assert message["c"] == f"{env.key}.c-{books}"
    assert message["d"] == first
    assert message["p"]["t"] == came["t"]["t"]
    assert poll(begun["t"]["t"])["m"] == came["m"], "an answer that was lost is given again"
    second = env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 2})
    assert [each["d"] for each in poll(came["t"]["t"])["m"]] == [second]
    (now,) = env.http.get(f"{env.url}/time/0").json()
    assert now >= int(came["t"]["t"])
    env.ok("POST", "user/_logout", ann.authorization)
    refused = env.http.get(url, params={**parameters, "tt": "0"})
    assert refused.status_code == 403


@pytest.mark.spec("kinvey 6")
@pytest.mark.parametrize("name", ["device-1", "pn-made-up"])
def test_what_is_written_before_a_follower_first_polls_waits_for_him(
    env: Environment, ann: Member, bob: Member, books: str, name: str
) -> None:
    register(env, ann)
    follow(env, ann, books)
    written = env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 1})
    url = f"{env.url}/v2/subscribe/{env.key}/,/0"
    parameters = {"uuid": name, "auth": ann.authtoken}
    begun = env.http.get(url, params={**parameters, "tt": "0"}).json()
    assert begun["m"] == []
    came = env.http.get(url, params={**parameters, "tt": begun["t"]["t"]}).json()
    assert [each["d"] for each in came["m"]] == [written]
    more = env.ok("POST", f"appdata/{books}", bob.authorization, {"n": 2})
    came = env.http.get(url, params={**parameters, "tt": came["t"]["t"]}).json()
    assert [each["d"] for each in came["m"]] == [more]


@pytest.mark.spec("kinvey 6")
def test_another_session_of_the_user_says_what_a_client_follows(
    env: Environment, ann: Member, books: str
) -> None:
    body = {"username": unique("user"), "password": "secret"}
    made = env.ok("POST", "user", env.app, body)
    first = Member(made["_id"], made["_kmd"]["authtoken"])
    second = Member(first.id, env.ok("POST", "user/login", env.app, body)["_kmd"]["authtoken"])
    with by_mqtt(register(env, first)) as device:
        follow(env, second, books)
        env.ok("POST", f"appdata/{books}", ann.authorization, {"n": 1})
        assert device.next_push()["message"]["n"] == 1


@pytest.mark.spec("kinvey 6")
def test_nobody_registers_or_listens_for_someone_else(
    env: Environment, ann: Member, bob: Member
) -> None:
    register(env, ann)
    body = {"deviceId": "device-1"}
    for who in (bob.authorization, env.master):
        response = env.call("POST", f"user/{ann.id}/register-realtime", who, body)
        assert_error(response, 401, "InsufficientCredentials")
    response = env.call("GET", "realtime/?deviceId=device-1", bob.authorization)
    assert_error(response, 400, "BadRequest")
    assert_error(env.call("GET", "realtime", ann.authorization), 400, "MissingRequestParameter")


@pytest.mark.spec("kinvey 6")
def test_the_live_service_is_off_unless_it_is_switched_on(
    server: Server, app: dict[str, str]
) -> None:
    env = Environment(server.url, app)
    ann = env.member()
    body = {"deviceId": "device-1"}
    response = env.call("POST", f"user/{ann.id}/register-realtime", ann.authorization, body)
    assert_error(response, 400, "FeatureUnavailable")
    env.close()


@pytest.mark.spec("kinvey 6")
def test_what_is_written_in_the_other_dialect_is_heard_too(
    server: Server, env: Environment, ann: Member, books: str
) -> None:
    with by_mqtt(register(env, ann)) as device:
        follow(env, ann, books)
        url = f"{server.url}/api/apps/{env.key}/buckets/{books}/objects/o1"
        headers = {"Authorization": f"Bearer {ann.authtoken}"}
        assert env.http.put(url, json={"n": 1}, headers=headers).status_code == 201
        frame = device.next_push()
        assert frame["message"]["n"] == 1
        assert frame["message"]["_acl"] == {"creator": ann.id}
