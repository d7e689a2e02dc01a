"""What is written over REST arrives on the private MQTT topic of whoever subscribed, once.

All of it on each engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.support.device import Device
from tests.support.rest import Account, Api, unique
from tests.support.server import Server


@pytest.fixture(scope="module", params=["native", "amqtt"])
def api(
    request: pytest.FixtureRequest, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """An app on a server of this engine; the shared server is a native one."""
    if request.param == "native":
        yield api
        return
    with (
        Server(tmp_path_factory.mktemp("amqtt"), {"MQTT__ENGINE": "amqtt"}) as server,
        closing(Api(server.url, server.create_app("tests"))) as own,
    ):
        yield own


@pytest.fixture(scope="module")
def admin_token(api: Api) -> str:
    return api.admin_token()


def write_create(api: Api, token: str, bucket: str) -> str:
    path = f"/buckets/{bucket}/objects"
    return str(api.ok("POST", path, token=token, json={"a": 1})["objectID"])


def write_create_with_id(api: Api, token: str, bucket: str) -> str:
    api.ok("PUT", f"/buckets/{bucket}/objects/chosen-id", token=token, json={"a": 1})
    return "chosen-id"


def write_replace(api: Api, token: str, bucket: str) -> str:
    api.ok("PUT", f"/buckets/{bucket}/objects/there", token=token, json={"a": 2})
    return "there"


def write_patch(api: Api, token: str, bucket: str) -> str:
    api.ok("PATCH", f"/buckets/{bucket}/objects/there", token=token, json={"a": 3})
    return "there"


def write_patch_by_override(api: Api, token: str, bucket: str) -> str:
    headers = {"X-HTTP-Method-Override": "PATCH"}
    path = f"/buckets/{bucket}/objects/there"
    api.ok("POST", path, token=token, json={"a": 4}, headers=headers)
    return "there"


def write_delete(api: Api, token: str, bucket: str) -> str:
    api.ok("DELETE", f"/buckets/{bucket}/objects/there", token=token)
    return "there"


WRITES: dict[Callable[[Api, str, str], str], str] = {
    write_create: "DATA_OBJECT_CREATED",
    write_create_with_id: "DATA_OBJECT_CREATED",
    write_replace: "DATA_OBJECT_UPDATED",
    write_patch: "DATA_OBJECT_UPDATED",
    write_patch_by_override: "DATA_OBJECT_UPDATED",
    write_delete: "DATA_OBJECT_DELETED",
}


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("is_user_scope", [False, True], ids=["app scope", "user scope"])
def test_an_object_event_arrives_once_at_each_subscriber_and_not_at_a_third(
    api: Api, admin_token: str, write: Callable[[Api, str, str], str], is_user_scope: bool
) -> None:
    writer = api.pseudo_user()
    # In a user's scope only he may read; his thing has no right there, so he listens alone.
    listeners = [writer] if is_user_scope else [api.pseudo_user(), api.pseudo_user()]
    third = api.pseudo_user()
    bucket = unique("bucket")
    scope = f"/users/{writer.id}" if is_user_scope else ""
    scoped = ScopedApi(api, scope)
    scoped.ok("PUT", f"/buckets/{bucket}/objects/there", token=writer.token, json={"a": 0})
    for listener in listeners:
        api.subscribe(listener, f"{scope}/buckets/{bucket}")
    with ExitStack() as stack:
        devices = [stack.enter_context(Device(api.mqtt_endpoint(user))) for user in listeners]
        deaf = stack.enter_context(Device(api.mqtt_endpoint(third)))
        object_id = write(scoped, writer.token, bucket)
        for user in (*listeners, third):
            api.push_to_user(admin_token, user.id, marker="end")
        for device in devices:
            [push] = device.pushes_before("end")
            check_event(push, api, writer, WRITES[write], bucket, object_id, is_user_scope)
        assert deaf.pushes_before("end") == []


class ScopedApi(Api):
    """The same app; paths start in a scope."""

    def __init__(self, api: Api, scope: str) -> None:
        vars(self).update(vars(api))
        self.base = f"{api.base}{scope}"


def check_event(
    push: dict[str, Any],
    api: Api,
    writer: Account,
    event: str,
    bucket: str,
    object_id: str,
    is_user_scope: bool,
) -> None:
    """The fields of spec kii 9.1."""
    place = f"users/{writer.id}/" if is_user_scope else ""
    expected = {
        "type": event,
        "origin": "EVENT",
        "appID": api.app_id,
        "sender": writer.id,
        "senderURI": f"kiicloud://users/{writer.id}",
        "sourceURI": f"kiicloud://{place}buckets/{bucket}/objects/{object_id}",
        "bucketID": bucket,
        "bucketType": "rw",
        "objectID": object_id,
        "objectScopeType": "APP_AND_USER" if is_user_scope else "APP",
        "objectScopeAppID": api.app_id,
    }
    if is_user_scope:
        expected["objectScopeUserID"] = writer.id
    times = {"when"} if event == "DATA_OBJECT_DELETED" else {"when", "modifiedAt"}
    assert {name: value for name, value in push.items() if name not in times} == expected
    assert {name for name in push if name not in expected} == times
    assert push["when"] >= push.get("modifiedAt", 0)


@pytest.mark.spec("kii 5")
def test_a_thing_hears_a_bucket_it_subscribed_to(api: Api) -> None:
    thing, bucket = api.thing(), unique("bucket")
    api.subscribe(thing, f"/buckets/{bucket}")
    with Device(api.mqtt_endpoint(thing)) as device:
        object_id = write_create(api, thing.token, bucket)
        assert device.next_push()["objectID"] == object_id


@pytest.mark.spec("kii 5")
def test_after_unsubscribing_nothing_arrives(api: Api, admin_token: str) -> None:
    user, bucket = api.pseudo_user(), unique("bucket")
    api.subscribe(user, f"/buckets/{bucket}")
    with Device(api.mqtt_endpoint(user)) as device:
        write_create(api, user.token, bucket)
        path = f"/buckets/{bucket}/filters/all/push/subscriptions/users/{user.id}"
        api.ok("DELETE", path, token=user.token)
        write_create(api, user.token, bucket)
        api.push_to_user(admin_token, user.id, marker="end")
        assert len(device.pushes_before("end")) == 1


@pytest.mark.spec("kii 5")
def test_a_subscription_made_while_connected_is_live_at_once(api: Api) -> None:
    user, bucket = api.pseudo_user(), unique("bucket")
    with Device(api.mqtt_endpoint(user)) as device:
        api.subscribe(user, f"/buckets/{bucket}")
        object_id = write_create(api, user.token, bucket)
        assert device.next_push()["objectID"] == object_id


@pytest.mark.spec("kii 4.3")
def test_a_refused_conditional_write_raises_no_event(api: Api, admin_token: str) -> None:
    user, bucket = api.pseudo_user(), unique("bucket")
    api.ok("PUT", f"/buckets/{bucket}/objects/there", token=user.token, json={})
    api.subscribe(user, f"/buckets/{bucket}")
    with Device(api.mqtt_endpoint(user)) as device:
        path = f"/buckets/{bucket}/objects/there"
        for headers in ({"If-Match": "7"}, {"If-None-Match": "*"}):
            answer = api.call("PUT", path, token=user.token, json={"a": 1}, headers=headers)
            assert answer.status_code == 409
        api.push_to_user(admin_token, user.id, marker="end")
        assert device.pushes_before("end") == []


@pytest.mark.spec("kii 9.2")
def test_a_message_to_an_app_topic_arrives_with_its_data_and_origin(
    api: Api, admin_token: str
) -> None:
    user, topic = api.pseudo_user(), unique("topic")
    api.ok("PUT", f"/topics/{topic}", token=admin_token)
    api.subscribe(user, f"/topics/{topic}")
    with Device(api.mqtt_endpoint(user)) as device:
        message = {"data": {"text": "hi", "count": 3, "ok": True}, "mqtt": {"enabled": True}}
        path = f"/topics/{topic}/push/messages"
        answer = api.ok("POST", path, token=admin_token, json=message)
        assert answer["pushMessageID"]
        push = device.next_push()
    assert push.pop("when") > 0
    assert push == {
        "text": "hi",
        "count": 3,
        "ok": True,
        "topic": topic,
        "senderURI": "kiicloud://admins/APP_ADMIN",
        "sourceURI": f"kiicloud://topics/{topic}",
        "objectScopeType": "APP",
        "objectScopeAppID": api.app_id,
    }


@pytest.mark.spec("kii 9.2")
def test_a_message_to_a_users_own_topic_names_him(api: Api) -> None:
    user, topic = api.pseudo_user(), unique("topic")
    base = f"/users/me/topics/{topic}"
    api.ok("PUT", base, token=user.token)
    api.subscribe(user, base)
    with Device(api.mqtt_endpoint(user)) as device:
        message = {"data": {"mymessage": "Hello"}, "mqtt": {"enabled": True}}
        api.ok("POST", f"{base}/push/messages", token=user.token, json=message)
        push = device.next_push()
    assert push.pop("when") > 0
    assert push == {
        "mymessage": "Hello",
        "topic": topic,
        "sender": user.id,
        "senderURI": f"kiicloud://users/{user.id}",
        "sourceURI": f"kiicloud://users/{user.id}/topics/{topic}",
        "objectScopeType": "APP_AND_USER",
        "objectScopeAppID": api.app_id,
        "objectScopeUserID": user.id,
    }


@pytest.mark.spec("kii 9.2")
def test_a_direct_push_carries_its_data_and_two_uris(api: Api, admin_token: str) -> None:
    user = api.pseudo_user()
    with Device(api.mqtt_endpoint(user)) as device:
        api.push_to_user(admin_token, user.id, mymessage="Hello")
        assert device.next_push() == {
            "mymessage": "Hello",
            "sourceURI": f"kiicloud://users/{user.id}",
            "senderURI": "kiicloud://admins/APP_ADMIN",
        }


@pytest.mark.spec("kii 8.4")
def test_data_for_mqtt_wins_over_common_data(api: Api, admin_token: str) -> None:
    user = api.pseudo_user()
    with Device(api.mqtt_endpoint(user)) as device:
        message = {
            "data": {"text": "for all", "common": 1},
            "gcm": {"enabled": False},
            "mqtt": {"enabled": True, "data": {"text": "for mqtt"}},
        }
        path = f"/users/{user.id}/push/messages"
        api.ok("POST", path, token=admin_token, json=message)
        push = device.next_push()
    assert (push["text"], push["common"]) == ("for mqtt", 1)


def test_pushes_of_one_writer_arrive_in_order(api: Api) -> None:
    user, bucket = api.pseudo_user(), unique("bucket")
    api.subscribe(user, f"/buckets/{bucket}")
    with Device(api.mqtt_endpoint(user)) as device:
        written = [write_create(api, user.token, bucket) for _ in range(200)]
        arrived = [device.next_push()["objectID"] for _ in written]
    assert arrived == written
