"""Topics: make, look for, list, delete (spec kii 6.1, 6.2)."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique


def listed(api: Api, base: str, token: str) -> list[str]:
    """All topics over all pages."""
    found: list[str] = []
    query = ""
    while True:
        answer = api.call("GET", f"{base}{query}", token=token)
        assert "TopicsRetrievalResponse+json" in answer.headers["content-type"]
        body = answer.json()
        assert len(body["topics"]) <= 50
        found += [topic["topicID"] for topic in body["topics"]]
        if "paginationKey" not in body:
            return found
        query = f"?paginationKey={quote(body['paginationKey'], safe='')}"


@pytest.mark.spec("kii 6.1")
def test_a_topic_is_made_once_found_and_deleted(api: Api, user: Account) -> None:
    path = f"/users/me/topics/{unique('topic')}"
    for method in ("HEAD", "GET", "DELETE"):
        assert api.call(method, path, token=user.token).status_code == 404
    made = api.call("PUT", path, token=user.token)
    assert (made.status_code, made.content) == (204, b"")
    for method in ("HEAD", "GET"):
        assert api.call(method, path, token=user.token).status_code in (200, 204)
    assert_refused(api.call("PUT", path, token=user.token), 409, "TOPIC_ALREADY_EXISTS")
    assert api.call("DELETE", path, token=user.token).status_code == 204
    assert_refused(api.call("DELETE", path, token=user.token), 404, "TOPIC_NOT_FOUND")
    assert_refused(api.call("GET", path, token=user.token), 404, "TOPIC_NOT_FOUND")


@pytest.mark.spec("kii 6.1")
@pytest.mark.parametrize("topic_id", ["a", "a" * 64, "A-b_9"])
def test_a_topic_id_at_its_bounds_is_taken(api: Api, user: Account, topic_id: str) -> None:
    assert api.call("PUT", f"/users/me/topics/{topic_id}", token=user.token).status_code == 204


@pytest.mark.spec("kii 6.1")
@pytest.mark.parametrize("topic_id", ["a" * 65, "a.b", "a%20b", "%C3%BC", "a%2Fb", "a%00b", "a:b"])
def test_a_topic_id_outside_its_alphabet_is_400(api: Api, user: Account, topic_id: str) -> None:
    refused = api.call("PUT", f"/users/me/topics/{topic_id}", token=user.token)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 6.5")
def test_only_the_admin_makes_and_deletes_topics_of_the_app(
    api: Api, user: Account, thing: Account, admin_token: str
) -> None:
    path = f"/topics/{unique('app')}"
    for token in (user.token, thing.token, None):
        assert_refused(api.call("PUT", path, token=token), 401, "UNAUTHORIZED")
    assert api.call("PUT", path, token=admin_token).status_code == 204
    for token in (user.token, thing.token, None):
        assert_refused(api.call("DELETE", path, token=token), 401, "UNAUTHORIZED")
    assert api.call("GET", path, token=user.token).is_success


@pytest.mark.spec("kii 6.1")
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_anonymous_may_not_look_for_a_topic(api: Api, admin_token: str, method: str) -> None:
    path = f"/topics/{unique('app')}"
    api.ok("PUT", path, token=admin_token)
    assert api.call(method, path).status_code == 401
    assert api.call("GET", "/topics").status_code == 401


@pytest.mark.spec("kii 6.5")
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_stranger_makes_and_deletes_nothing_in_a_user_s_scope(
    api: Api, user: Account, other_user: Account, method: str
) -> None:
    topic = unique("own")
    api.ok("PUT", f"/users/me/topics/{topic}", token=user.token)
    name = topic if method == "DELETE" else unique("new")
    refused = api.call(method, f"/users/{user.id}/topics/{name}", token=other_user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
    assert listed(api, "/users/me/topics", user.token) == [topic]


@pytest.mark.spec("kii 6.1")
@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("/users/nobody", "USER_NOT_FOUND"),
        ("/users/EMAIL:no@bo.dy", "USER_NOT_FOUND"),
        ("/things/th.nothing", "THING_NOT_FOUND"),
        ("/things/VENDOR_THING_ID:nothing", "THING_NOT_FOUND"),
        ("/groups/none", "GROUP_NOT_FOUND"),
    ],
)
def test_a_topic_of_nobody_is_404(api: Api, admin_token: str, scope: str, code: str) -> None:
    assert_refused(api.call("PUT", f"{scope}/topics/tt", token=admin_token), 404, code)


@pytest.mark.spec("kii 6.2")
def test_a_list_holds_every_topic_once_over_its_pages(api: Api, user: Account) -> None:
    names = [f"topic-{number:03}" for number in range(120)]
    for name in names:
        api.ok("PUT", f"/users/me/topics/{name}", token=user.token)
    assert sorted(listed(api, "/users/me/topics", user.token)) == names


@pytest.mark.spec("kii 6.2")
def test_an_empty_list_is_a_list(api: Api, user: Account) -> None:
    assert api.ok("GET", "/users/me/topics", token=user.token) == {"topics": []}


@pytest.mark.spec("kii 6.2")
def test_a_list_shows_only_topics_one_may_subscribe_to(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    topic = unique("own")
    api.ok("PUT", f"/users/me/topics/{topic}", token=user.token)
    base = f"/users/{user.id}/topics"
    assert listed(api, base, admin_token) == [topic]
    assert listed(api, base, other_user.token) == []


@pytest.mark.spec("kii 6.2")
@pytest.mark.parametrize("key", ["%00", "%25%26%3D", "nonsense", "%FF"])
def test_a_strange_pagination_key_is_no_error_of_ours(api: Api, user: Account, key: str) -> None:
    answer = api.call("GET", f"/users/me/topics?paginationKey={key}", token=user.token)
    assert answer.status_code in (200, 400)


@pytest.mark.spec("kii 6.1")
def test_a_deleted_topic_takes_its_subscriptions_with_it(api: Api, user: Account) -> None:
    topic = f"/users/me/topics/{unique('topic')}"
    path = f"{topic}/push/subscriptions/users/me"
    api.ok("PUT", topic, token=user.token)
    api.ok("PUT", path, token=user.token)
    api.ok("DELETE", topic, token=user.token)
    assert_refused(api.call("GET", path, token=user.token), 404, "TOPIC_NOT_FOUND")
    api.ok("PUT", topic, token=user.token)
    refused = api.call("GET", path, token=user.token)
    assert_refused(refused, 404, "PUSH_SUBSCRIPTION_NOT_FOUND")
