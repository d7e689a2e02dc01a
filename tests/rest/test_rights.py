"""Ownership, groups and access rules, and what a device hears of them (spec kii 1.5, 1.6, 6.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rest.support import MQTT, assert_refused, send
from tests.support.device import Device
from tests.support.rest import Account, Api, unique

VERB = "SUBSCRIBE_TO_TOPIC"


def make_group(api: Api, owner: Account, *members: str) -> str:
    body = {"name": "team", "owner": owner.id, "members": list(members)}
    made = api.call("POST", "/groups", token=owner.token, json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["groupID"])


# --- ownership ---------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.5")
@pytest.mark.parametrize("prefix", ["user:", "USER:", "user%3A"])
def test_a_thing_gets_an_owner_and_loses_him(
    api: Api, thing: Account, user: Account, prefix: str
) -> None:
    path = f"/things/{thing.id}/ownership/{prefix}{user.id}"
    assert_refused(api.call("GET", path, token=thing.token), 404, "THING_OWNERSHIP_NOT_FOUND")
    assert api.call("PUT", path, token=thing.token).status_code == 204
    for method in ("GET", "HEAD"):
        assert api.call(method, path, token=thing.token).is_success
    again = api.call("PUT", path, token=thing.token)
    assert_refused(again, 409, "THING_OWNERSHIP_ALREADY_EXISTS")
    assert api.call("DELETE", path, token=thing.token).status_code == 204
    assert_refused(api.call("GET", path, token=thing.token), 404, "THING_OWNERSHIP_NOT_FOUND")


@pytest.mark.spec("kii 1.5")
@pytest.mark.parametrize(
    ("owner", "code"),
    [("user:nobody", "USER_NOT_FOUND"), ("group:none", "GROUP_NOT_FOUND")],
)
def test_an_unknown_owner_is_404(api: Api, thing: Account, owner: str, code: str) -> None:
    path = f"/things/{thing.id}/ownership/{owner}"
    assert_refused(api.call("PUT", path, token=thing.token), 404, code)


@pytest.mark.spec("kii 1.5")
def test_a_user_makes_himself_owner_with_the_form_of_post(
    api: Api, thing: Account, user: Account
) -> None:
    body = {"userID": user.id, "thingPassword": "123456"}
    path = f"/things/{thing.id}/ownership"
    assert api.call("POST", path, token=user.token, json=body).status_code == 204
    assert api.call("GET", f"/things/{thing.id}", token=user.token).status_code == 200


@pytest.mark.spec("kii 1.5")
def test_nobody_makes_somebody_else_owner_of_a_thing_that_is_not_his(
    api: Api, thing: Account, user: Account, other_user: Account
) -> None:
    path = f"/things/{thing.id}/ownership/user:{other_user.id}"
    assert_refused(api.call("PUT", path, token=user.token), 401, "UNAUTHORIZED")
    assert_refused(api.call("PUT", path), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.5")
def test_a_group_that_owns_a_thing_gives_its_members_the_scope(
    api: Api, thing: Account, user: Account, other_user: Account
) -> None:
    group = make_group(api, user, other_user.id)
    topic = f"/things/{thing.id}/topics/{unique('owned')}"
    assert_refused(api.call("PUT", topic, token=other_user.token), 401, "UNAUTHORIZED")
    api.ok("PUT", f"/things/{thing.id}/ownership/group:{group}", token=thing.token)
    assert api.call("PUT", topic, token=other_user.token).status_code == 204


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.6")
def test_a_new_group_has_an_id_and_names_members_who_are_unknown(api: Api, user: Account) -> None:
    body = {"name": "team", "owner": user.id, "members": ["nobody"]}
    made = api.call("POST", "/groups", token=user.token, json=body)
    assert made.status_code == 201
    assert made.json()["groupID"]
    assert made.json()["notFoundUsers"] == ["nobody"]


@pytest.mark.spec("kii 1.6")
def test_a_group_is_made_with_a_chosen_id(api: Api, user: Account) -> None:
    group = unique("chosen")
    body = {"name": "team", "owner": user.id, "members": []}
    assert api.call("PUT", f"/groups/{group}", token=user.token, json=body).is_success
    assert api.call("PUT", f"/groups/{group}/topics/tt", token=user.token).status_code == 204


@pytest.mark.spec("kii 1.6")
def test_members_come_and_go_by_the_group_s_owner(
    api: Api, user: Account, other_user: Account
) -> None:
    group = make_group(api, user)
    member = f"/groups/{group}/members/{other_user.id}"
    topic = f"/groups/{group}/topics/{unique('team')}"
    assert_refused(api.call("PUT", member, token=other_user.token), 401, "UNAUTHORIZED")
    assert_refused(api.call("PUT", topic, token=other_user.token), 401, "UNAUTHORIZED")
    assert api.call("PUT", member, token=user.token).status_code == 204
    assert api.call("PUT", topic, token=other_user.token).status_code == 204
    assert api.call("DELETE", member, token=user.token).status_code == 204
    another = f"/groups/{group}/topics/{unique('team')}"
    assert_refused(api.call("PUT", another, token=other_user.token), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.6")
def test_who_leaves_the_group_hears_nothing_more_on_a_live_connection(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    group = make_group(api, user, other_user.id)
    topic = f"/groups/{group}/topics/{unique('team')}"
    api.ok("PUT", topic, token=user.token)
    api.subscribe(other_user, topic)
    with Device(api.mqtt_endpoint(other_user)) as device:
        send(api, topic, user.token, {"data": {"marker": "while a member"}, "mqtt": MQTT})
        assert device.next_push()["marker"] == "while a member"
        api.ok("DELETE", f"/groups/{group}/members/{other_user.id}", token=user.token)
        send(api, topic, user.token, {"data": {"marker": "after"}, "mqtt": MQTT})
        api.push_to_user(admin_token, other_user.id, marker="end")
        assert device.pushes_before("end") == []


@pytest.mark.spec("kii 1.6")
def test_a_deleted_group_takes_its_scope_with_it(api: Api, user: Account) -> None:
    group = make_group(api, user)
    api.ok("PUT", f"/groups/{group}/topics/tt", token=user.token)
    assert api.call("DELETE", f"/groups/{group}", token=user.token).status_code == 204
    refused = api.call("GET", f"/groups/{group}/topics/tt", token=user.token)
    assert_refused(refused, 404, "GROUP_NOT_FOUND")


# --- access rules --------------------------------------------------------------------------------


@pytest.mark.spec("kii 6.6")
def test_the_rules_of_a_topic_tell_who_may_what(api: Api, user: Account, topic: str) -> None:
    answer = api.call("GET", f"{topic}/acl", token=user.token)
    assert "ACLRetrievalResponse+json" in answer.headers["content-type"]
    rules: dict[str, Any] = answer.json()
    assert rules.keys() == {"SUBSCRIBE_TO_TOPIC", "SEND_MESSAGE_TO_TOPIC"}
    assert {"userID": user.id} in rules[VERB]


@pytest.mark.spec("kii 6.6")
@pytest.mark.parametrize("kind", ["user", "thing", "group", "anybody authenticated"])
def test_a_granted_right_lets_in_and_a_revoked_one_does_not(
    api: Api, user: Account, other_user: Account, thing: Account, topic: str, kind: str
) -> None:
    subject, newcomer = {
        "user": (f"UserID:{other_user.id}", other_user),
        "thing": (f"ThingID:{thing.id}", thing),
        "group": (f"GroupID:{make_group(api, other_user)}", other_user),
        "anybody authenticated": ("UserID:ANY_AUTHENTICATED_USER", thing),
    }[kind]
    noun = "things" if newcomer is thing else "users"
    path, rule = f"{topic}/push/subscriptions/{noun}", f"{topic}/acl/{VERB}/{subject}"
    assert_refused(api.call("POST", path, token=newcomer.token), 401, "UNAUTHORIZED")
    assert_refused(api.call("GET", rule, token=user.token), 404, "ACL_NOT_FOUND")
    assert_refused(api.call("DELETE", rule, token=user.token), 404, "ACL_NOT_FOUND")
    assert api.call("PUT", rule, token=user.token).status_code == 204
    assert_refused(api.call("PUT", rule, token=user.token), 409, "ACL_ALREADY_EXISTS")
    assert api.call("GET", rule, token=user.token).is_success
    assert api.call("POST", path, token=newcomer.token).status_code == 204
    assert api.call("DELETE", rule, token=user.token).status_code == 204
    again = api.call("PUT", f"{path}/{newcomer.id}", token=newcomer.token)
    assert_refused(again, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 6.6")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_who_may_change_the_rules_sees_and_changes_them(
    api: Api, topic: str, other_user: Account, method: str
) -> None:
    rule = f"{topic}/acl/{VERB}/UserID:{other_user.id}"
    for token in (other_user.token, None):
        assert_refused(api.call(method, rule, token=token), 401, "UNAUTHORIZED")
    assert_refused(api.call("GET", f"{topic}/acl", token=other_user.token), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 6.6")
def test_a_right_revoked_stops_delivery_on_a_live_connection(
    api: Api, user: Account, other_user: Account, topic: str, admin_token: str
) -> None:
    rule = f"{topic}/acl/{VERB}/UserID:{other_user.id}"
    api.ok("PUT", rule, token=user.token)
    api.subscribe(other_user, topic)
    with Device(api.mqtt_endpoint(other_user)) as device:
        send(api, topic, user.token, {"data": {"marker": "allowed"}, "mqtt": MQTT})
        assert device.next_push()["marker"] == "allowed"
        api.ok("DELETE", rule, token=user.token)
        send(api, topic, user.token, {"data": {"marker": "revoked"}, "mqtt": MQTT})
        api.push_to_user(admin_token, other_user.id, marker="end")
        assert device.pushes_before("end") == []


@pytest.mark.spec("kii 12")
@pytest.mark.parametrize("kind", ["users", "things"])
def test_who_is_switched_off_hears_nothing_until_he_is_switched_on_again(
    api: Api, user: Account, thing: Account, admin_token: str, kind: str
) -> None:
    who = user if kind == "users" else thing
    status, target = f"/{kind}/{who.id}/status", f"/{kind}/{who.id}"
    endpoint = api.mqtt_endpoint(who)
    with Device(endpoint) as before:
        api.ok("PUT", status, token=admin_token, json={"disabled": True})
        send(api, target, admin_token, {"data": {"marker": "while off"}, "mqtt": MQTT})
        api.ok("PUT", status, token=admin_token, json={"disabled": False})
        with Device(endpoint) as after:  # the same credentials hold again
            send(api, target, admin_token, {"data": {"marker": "on"}, "mqtt": MQTT})
            assert after.pushes_before("on") == []
        assert before.pushes.empty()


@pytest.mark.spec("kii 4.2")
def test_a_change_of_an_object_s_rules_raises_its_own_event(api: Api, user: Account) -> None:
    bucket = f"/users/me/buckets/{unique('rules')}"
    api.subscribe(user, bucket)
    with Device(api.mqtt_endpoint(user)) as device:
        api.ok("PUT", f"{bucket}/objects/oo", token=user.token, json={})
        assert device.next_push()["type"] == "DATA_OBJECT_CREATED"
        rule = f"{bucket}/objects/oo/acl/READ_EXISTING_OBJECT/UserID:ANY_AUTHENTICATED_USER"
        for method in ("PUT", "DELETE"):
            api.ok(method, rule, token=user.token)
            push = device.next_push()
            assert push["type"] == "DATA_OBJECT_ACL_MODIFIED"
            assert "modifiedAt" not in push


@pytest.mark.spec("kii C2")
def test_the_sequence_of_the_java_client_s_tests(
    api: Api, user: Account, thing: Account, admin_token: str
) -> None:
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    endpoint = api.mqtt_endpoint(thing)
    for token, count in ((thing.token, 1), (user.token, 0)):
        assert len(api.ok("GET", "/installations", token=token)["installations"]) == count
    by_thing = api.ok("GET", f"/installations?thingID={thing.id}", token=admin_token)
    assert len(by_thing["installations"]) == 1
    topic = f"/things/{thing.id}/topics/{unique('java')}"
    api.ok("PUT", topic, token=thing.token)
    api.subscribe(thing, topic)
    off = {"enabled": False}
    body = {
        "data": {"msg": "mqtt test"},
        "gcm": off,
        "apns": off,
        "jpush": off,
        "mqtt": {"enabled": True, "data": {"msg": "mqtt body"}},
    }
    with Device(endpoint) as device:
        sent = send(api, topic, thing.token, body)
        assert sent.json()["pushMessageID"]
        assert device.next_push()["msg"] == "mqtt body"
    path = f"/installations/{endpoint['installationID']}"
    api.ok("DELETE", path, token=thing.token)
    assert_refused(api.call("GET", path, token=thing.token), 404, "INSTALLATION_NOT_FOUND")
