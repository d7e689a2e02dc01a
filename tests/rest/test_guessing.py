"""Wrong passwords and secrets over HTTP: counted by name, app and address, before any hash."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.rest.support import AUTHORIZATION, assert_refused
from tests.support.collections import Environment, assert_error, basic
from tests.support.rest import Api, unique
from tests.support.server import Server

ELSEWHERE = "127.0.0.2"
WRONG = 5  # security.max_failed_passwords
ONBOARDING = "application/vnd.kii.OnboardingWithVendorThingIDByThing+json"


@dataclass(frozen=True, slots=True)
class Place:
    """One app, and links to it from two addresses."""

    api: Api
    env: Environment
    elsewhere: httpx.Client


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server to which this address is like any other."""
    settings = {
        "HTTP__UNLIMITED_ADDRESSES": "[]",
        "SECURITY__MAX_FAILED_PASSWORDS_PER_ADDRESS": "12",
    }
    server = Server(tmp_path_factory.mktemp("guarded"), settings)
    yield server
    server.stop()


@pytest.fixture
def place(guarded: Server) -> Iterator[Place]:
    """A new app: whatever fails in it has nothing to do with another test."""
    app = guarded.create_app(unique("guessed"))
    transport = httpx.HTTPTransport(local_address=ELSEWHERE)
    elsewhere = httpx.Client(transport=transport, trust_env=False, timeout=30.0)
    place = Place(Api(guarded.url, app), Environment(guarded.url, app), elsewhere)
    yield place
    place.api.close()
    place.env.close()
    elsewhere.close()


def sign_up(place: Place) -> str:
    name = unique("joe")
    body = {"loginName": name, "password": "right1", "emailAddress": f"{name}@example.com"}
    place.api.ok("POST", "/users", json=body, headers={"Content-Type": AUTHORIZATION})
    return name


def log_in(place: Place, name: str, password: str) -> httpx.Response:
    body = {"username": name, "password": password}
    return place.api.call("POST", "/oauth2/token", json=body)


def assert_slowed_down(response: httpx.Response) -> None:
    assert_refused(response, 429, "TOO_MANY_REQUESTS")
    assert 0 < int(response.headers["retry-after"]) <= 60


@pytest.mark.spec("kii 1.2")
def test_guesses_at_a_password_end_and_lock_nobody_out_elsewhere(place: Place) -> None:
    name = sign_up(place)
    for _ in range(WRONG):
        assert_refused(log_in(place, name, "wrong1"), 400, "invalid_grant")
    assert_slowed_down(log_in(place, name, "right1"))
    url, body = f"{place.api.base}/oauth2/token", {"username": name, "password": "right1"}
    assert place.elsewhere.post(url, json=body).status_code == 200


def test_names_that_nobody_has_are_answered_alike(place: Place) -> None:
    name = sign_up(place)
    email, nobody = f"{name}@example.com", "nobody@example.com"
    told = {
        each: [log_in(place, each, "wrong1") for _ in range(WRONG + 1)] for each in (email, nobody)
    }
    for real, unreal in zip(*told.values(), strict=True):
        assert (real.status_code, real.json()) == (unreal.status_code, unreal.json())
    assert told[email][-1].status_code == 429
    # Nor does another name of a user say that it is the same user's.
    assert_refused(log_in(place, name, "wrong1"), 400, "invalid_grant")


def test_the_right_password_clears_the_name(place: Place) -> None:
    name = sign_up(place)
    for _ in range(2):
        for _ in range(WRONG - 1):
            assert log_in(place, name, "wrong1").status_code == 400
        assert log_in(place, name, "right1").status_code == 200


def test_one_password_tried_at_many_names_ends_too(place: Place) -> None:
    name = sign_up(place)
    statuses = [log_in(place, f"user{number}", "123456").status_code for number in range(13)]
    assert statuses == [400] * 12 + [429]
    assert_slowed_down(log_in(place, name, "right1"))
    api = place.api
    assert api.pseudo_user().token  # what needs no secret goes on
    url, body = f"{api.base}/oauth2/token", {"username": name, "password": "right1"}
    assert place.elsewhere.post(url, json=body).status_code == 200


def client_guess(place: Place) -> httpx.Response:
    body = {"client_id": place.api.app["clientID"], "client_secret": "wrong"}
    return place.api.call("POST", "/oauth2/token", json=body)


def onboarding_guess(place: Place) -> httpx.Response:
    body = {"vendorThingID": "lamp", "thingPassword": "wrong1"}
    url = f"{place.api.url}/thing-if/apps/{place.api.app_id}/onboardings"
    return place.api.call("POST", url, json=body, headers={"Content-Type": ONBOARDING})


def thing_guess(place: Place) -> httpx.Response:
    return log_in(place, "VENDOR_THING_ID:lamp", "wrong1")


@pytest.mark.parametrize(
    "guess", [client_guess, onboarding_guess, thing_guess], ids=["client", "onboarding", "thing"]
)
def test_guesses_at_other_secrets_end_as_well(
    place: Place, guess: Callable[[Place], httpx.Response]
) -> None:
    body = {"vendorThingID": "lamp", "thingPassword": "right1"}
    url = f"{place.api.url}/thing-if/apps/{place.api.app_id}/onboardings"
    place.api.ok("POST", url, json=body, headers={"Content-Type": ONBOARDING})
    statuses = [guess(place).status_code for _ in range(WRONG)]
    assert set(statuses) <= {400, 401}
    assert_slowed_down(guess(place))


def test_ways_to_a_thing_s_password_are_counted_together(place: Place) -> None:
    body = {"vendorThingID": "lamp", "thingPassword": "right1"}
    url = f"{place.api.url}/thing-if/apps/{place.api.app_id}/onboardings"
    place.api.ok("POST", url, json=body, headers={"Content-Type": ONBOARDING})
    for guess in (onboarding_guess, thing_guess, onboarding_guess, thing_guess, thing_guess):
        assert guess(place).status_code in (400, 401)
    assert_slowed_down(onboarding_guess(place))
    assert_slowed_down(thing_guess(place))


def change_password(place: Place, token: str, old: str) -> httpx.Response:
    body = {"oldPassword": old, "newPassword": "right1"}
    headers = {"Content-Type": "application/vnd.kii.ChangePasswordRequest+json"}
    return place.api.call("PUT", "/users/me/password", token=token, json=body, headers=headers)


def test_a_stolen_token_does_not_lead_to_the_password(place: Place) -> None:
    token = log_in(place, sign_up(place), "right1").json()["access_token"]
    for _ in range(WRONG):
        assert change_password(place, token, "wrong1").status_code == 400
    assert_slowed_down(change_password(place, token, "right1"))


def test_the_right_old_password_clears_the_wrong_ones(place: Place) -> None:
    token = log_in(place, sign_up(place), "right1").json()["access_token"]
    for _ in range(2):
        for _ in range(WRONG - 1):
            assert change_password(place, token, "wrong1").status_code == 400
        assert change_password(place, token, "right1").status_code == 204


@pytest.mark.spec("kinvey 2")
def test_guesses_at_a_master_secret_end_and_sessions_go_on(place: Place) -> None:
    env = place.env
    joe = env.member()
    for _ in range(12):
        refused = env.call("GET", "appdata", basic(env.key, "wrong"))
        assert_error(refused, 401, "InvalidCredentials")
    slowed_down = env.call("GET", "appdata", env.master)
    assert_error(slowed_down, 429, "TooManyRequests")
    assert int(slowed_down.headers["retry-after"]) > 0
    assert env.ok("GET", "user/_me", joe.authorization)["_id"] == joe.id
    headers = {"Authorization": env.master}
    assert place.elsewhere.get(f"{env.url}/appdata/{env.key}", headers=headers).is_success


def test_a_reload_takes_new_limits(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "mqttpush.toml"
    file.write_text("[security]\nmax_failed_passwords = 1\n")
    server = start_server(CONFIG=str(file))
    api = Api(server.url, server.create_app("reload"))
    body = {"username": "joe", "password": "wrong1"}
    answers = [api.call("POST", "/oauth2/token", json=body).status_code for _ in range(2)]
    assert answers == [400, 429]
    file.write_text("[security]\nmax_failed_passwords = 2\nmax_queued_hashes = 7\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("security.max_queued_hashes needs a restart to become 7")
    server.wait_for_log("settings reloaded")
    answers = [api.call("POST", "/oauth2/token", json=body).status_code for _ in range(3)]
    assert answers == [400, 400, 429]
    api.close()
    server.stop()


def test_a_flood_of_log_ins_is_turned_away_at_once_and_others_go_on(
    start_server: StartServer,
) -> None:
    server = start_server(
        SECURITY__ARGON2_TIME_COST="20",
        SECURITY__ARGON2_MEMORY_KIB="32768",
        SECURITY__MAX_CONCURRENT_HASHES="1",
        SECURITY__MAX_QUEUED_HASHES="2",
    )
    app = server.create_app("flooded")
    api, env = Api(server.url, app), Environment(server.url, app)
    user = api.pseudo_user()

    def guess(number: int) -> httpx.Response:
        if number % 2:
            body = {"username": f"user{number}", "password": "wrong1"}
            return api.call("POST", "/oauth2/token", json=body)
        pair = {"username": f"user{number}", "password": "wrong"}
        return env.call("POST", "user/login", env.app, pair)

    with ThreadPoolExecutor(20) as threads:
        answers = threads.map(guess, range(20))
        for _ in range(5):
            path = "/users/me/buckets/bb/objects"
            assert api.call("POST", path, token=user.token, json={"a": 1}).status_code == 201
        refused = [answer for answer in answers if answer.status_code not in (400, 401)]
    assert refused
    for answer in refused:
        assert answer.headers["retry-after"] == "1"
        if "errorCode" in answer.json():
            assert_refused(answer, 503, "RESOURCE_TEMPORARILY_UNAVAILABLE")
        else:
            assert_error(answer, 500, "KinveyInternalErrorRetry")
    api.close()
    env.close()
    server.stop()
