"""Credentials: shapes and sizes clients rely on, and who is let in with what."""

from __future__ import annotations

import asyncio
import random
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import (
    FailureCounter,
    Passwords,
    SecretMaker,
    Tries,
    authenticate,
    may_connect,
    secret_hash,
)
from mqttpush.errors import LimitReached, NotAuthenticated, NotFound, PrincipalDisabled
from mqttpush.kinvey import PasswordProof
from mqttpush.models import NEVER_MS, Credentials, MqttEndpoint, Owner, Principal, PrincipalKind
from mqttpush.store import ConnectRow, Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import opened

CLIENT_SECRET = "the client's secret"
MAKER = SecretMaker(source=random.Random(7), server_key=b"k" * 32)
BASE36_ID = r"[a-z0-9]{12}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{8}"
CHEAP = SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024)


@pytest.mark.spec("kii 1.1")
@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (MAKER.user_id(), BASE36_ID),
        (MAKER.thing_id(), rf"th\.{BASE36_ID}"),
        (MAKER.app_id(), r"[A-Za-z0-9]{8,39}"),
        (MAKER.access_token(), r"[A-Za-z0-9_-]{43}"),
        (MAKER.installation_id(), r"[a-z0-9]{25}"),
        (MAKER.mqtt_topic(), r"[A-Za-z0-9]{23}"),
        (MAKER.mqtt_password("i", "t"), r"[A-Za-z]{64}"),
        (MAKER.uuid(), r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ],
    ids=["user", "thing", "app", "token", "installation", "topic", "password", "uuid"],
)
def test_what_is_made_has_the_shape_clients_expect(made: str, shape: str) -> None:
    assert re.fullmatch(shape, made)


@pytest.mark.spec("kii 3.1")
@pytest.mark.parametrize("length", [1, 8, 20, 39, 40, 50, 64])
def test_an_mqtt_username_fits_the_buffers_of_c_clients(length: int) -> None:
    username = MAKER.mqtt_username("a" * length)
    assert 20 <= len(username) <= 63


@pytest.mark.spec("kii 3.1")
@pytest.mark.parametrize("length", [8, 20, 39])
def test_an_mqtt_username_is_the_app_s_id_and_23_alphanumerics(length: int) -> None:
    app_id = "a" * length
    assert re.fullmatch(rf"{app_id}-[A-Za-z0-9]{{23}}", MAKER.mqtt_username(app_id))


def test_what_is_made_twice_differs() -> None:
    for make in (MAKER.user_id, MAKER.access_token, MAKER.mqtt_topic, MAKER.installation_id):
        assert make() != make()


@pytest.mark.spec("kii 3.1")
def test_an_mqtt_password_is_the_same_again_and_different_for_any_other_endpoint() -> None:
    again = SecretMaker(source=random.Random(8), server_key=b"k" * 32)
    other_key = SecretMaker(source=random.Random(7), server_key=b"x" * 32)
    password = MAKER.mqtt_password("i", "t")
    assert again.mqtt_password("i", "t") == password
    others = {
        MAKER.mqtt_password("j", "t"),
        MAKER.mqtt_password("i", "u"),
        other_key.mqtt_password("i", "t"),
    }
    assert len(others | {password}) == 4


# --- passwords of people -----------------------------------------------------------------------


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(CHEAP)
    yield passwords
    passwords.close()


@in_loop
async def test_a_password_fits_its_own_hash_only(passwords: Passwords) -> None:
    hashed = await passwords.hash("123456")
    assert await passwords.verify(hashed, "123456")
    assert not await passwords.verify(hashed, "123457")
    assert not await passwords.verify(hashed, "")
    assert "123456" not in hashed


@in_loop
async def test_the_same_password_has_another_hash_each_time(passwords: Passwords) -> None:
    assert await passwords.hash("123456") != await passwords.hash("123456")


@in_loop
async def test_for_an_unknown_name_a_decoy_is_checked_and_never_fits(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "decoy")
    assert not await passwords.verify(None, "123456")


@in_loop
async def test_for_an_unknown_name_as_much_work_is_done_as_for_a_known_one() -> None:
    """Counted, not timed: verify goes through the same bounded queue of hashes."""
    passwords = Passwords(CHEAP.model_copy(update={"max_queued_hashes": 0}))
    try:
        for password_hash in (None, "$argon2id$known"):
            with pytest.raises(LimitReached) as refused:
                await passwords.verify(password_hash, "123456")
            assert refused.value.limit == "security.max_queued_hashes"
    finally:
        passwords.close()


@in_loop
async def test_a_damaged_hash_fits_nothing(passwords: Passwords) -> None:
    assert not await passwords.verify("no hash at all", "123456")


# --- tokens ------------------------------------------------------------------------------------

TOKENS = {
    "user": Principal("app-1", PrincipalKind.USER, "anna"),
    "thing": Principal("app-1", PrincipalKind.THING, "lamp"),
    "admin": Principal("app-1", PrincipalKind.ADMIN),
    "anonymous": Principal("app-1", PrincipalKind.ANONYMOUS),
    "stranger": Principal("app-2", PrincipalKind.USER, "anna"),
    "disabled user": Principal("app-1", PrincipalKind.USER, "off"),
    "disabled thing": Principal("app-1", PrincipalKind.THING, "off"),
    "deleted user": Principal("app-1", PrincipalKind.USER, "gone"),
    "of a disabled app": Principal("app-off", PrincipalKind.ADMIN),
}


def fill(tx: Transaction) -> None:
    tx.apps.insert(replace(nouns.app("app-1"), client_secret_hash=secret_hash(CLIENT_SECRET)))
    tx.apps.insert(nouns.app("app-2"))
    tx.apps.insert(nouns.app("app-off", is_disabled=True))
    tx.apps.insert(nouns.app("app-strict", is_strict=True))
    tx.users.insert(nouns.user("anna", "app-1"))
    tx.users.insert(nouns.user("anna", "app-2"))
    tx.users.insert(replace(nouns.user("proved", "app-1"), password_hash="hash"))
    tx.users.insert(nouns.user("off", "app-1", is_disabled=True))
    tx.things.insert(nouns.thing("lamp", "app-1"))
    tx.things.insert(nouns.thing("off", "app-1", is_disabled=True))
    for token, principal in TOKENS.items():
        tx.tokens.insert(secret_hash(token), principal, 0, NEVER_MS)
    tx.tokens.insert(secret_hash("short"), TOKENS["user"], 0, 1000)


async def principal_of(credentials: Credentials, now_ms: int = nouns.NOW_MS) -> Principal:
    async with opened() as stage:
        await stage.store.write(fill)
        outcome = await stage.store.read(
            lambda tx: answered(tx, credentials, now_ms)  # its errors leave the store's task group
        )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def answered(tx: Transaction, credentials: Credentials, now_ms: int) -> Principal | Exception:
    try:
        return authenticate(
            tx, credentials, now_ms, lambda app_id, depth: f"service-{app_id}-depth-{depth}"
        )
    except (NotAuthenticated, NotFound, PrincipalDisabled) as exc:
        return exc


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("token", ["user", "thing", "admin", "anonymous"])
@in_loop
async def test_a_token_speaks_for_its_principal(token: str) -> None:
    assert await principal_of(Credentials("app-1", token=token)) == TOKENS[token]


@pytest.mark.spec("kii 0.5")
@pytest.mark.parametrize("token", ["", "no such token", "stranger", "deleted user"])
@in_loop
async def test_a_wrong_token_is_nobody(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        await principal_of(Credentials("app-1", token=token))


@pytest.mark.spec("kii 1.2")
@in_loop
async def test_a_token_ends_at_its_time() -> None:
    credentials = Credentials("app-1", token="short")
    assert await principal_of(credentials, now_ms=999) == TOKENS["user"]
    with pytest.raises(NotAuthenticated):
        await principal_of(credentials, now_ms=1000)


@pytest.mark.parametrize(
    ("credentials", "noun"),
    [
        (Credentials("app-1", token="disabled user"), "user"),
        (Credentials("app-1", token="disabled thing"), "thing"),
        (Credentials("app-off", token="of a disabled app"), "app"),
        (Credentials("app-off", app_key="key-of-app-off"), "app"),
    ],
)
@pytest.mark.spec("kii 1.4")
@in_loop
async def test_who_is_switched_off_is_told_so(credentials: Credentials, noun: str) -> None:
    with pytest.raises(PrincipalDisabled) as refused:
        await principal_of(credentials)
    assert refused.value.noun == noun


@pytest.mark.spec("kii 0.3")
@pytest.mark.parametrize("app_key", ["key-of-app-1", "k", "dummy", "", None])
@in_loop
async def test_any_app_key_makes_an_anonymous_caller_by_default(app_key: str | None) -> None:
    principal = await principal_of(Credentials("app-1", app_key=app_key))
    assert principal == Principal("app-1", PrincipalKind.ANONYMOUS)


@pytest.mark.spec("kii 0.3")
@pytest.mark.parametrize("app_key", ["k", "", None, "key-of-app-1", "ключ"])
@in_loop
async def test_a_strict_app_takes_its_own_key_only(app_key: str | None) -> None:
    strict = await principal_of(Credentials("app-strict", app_key="key-of-app-strict"))
    assert strict.is_anonymous
    with pytest.raises(NotAuthenticated):
        await principal_of(Credentials("app-strict", app_key=app_key))


@in_loop
async def test_an_app_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound) as refused:
        await principal_of(Credentials("nowhere", app_key="k"))
    assert refused.value.noun == "app"


@in_loop
async def test_a_request_that_names_no_app_is_nobody() -> None:
    with pytest.raises(NotAuthenticated):
        await principal_of(Credentials(""))


# --- CONNECT -----------------------------------------------------------------------------------


def connect_row(*, is_enabled: bool = True, expires_ms: int = NEVER_MS) -> ConnectRow:
    endpoint = MqttEndpoint("i", "u", secret_hash("right"), "t", expires_ms)
    return ConnectRow(
        endpoint=endpoint,
        installation=nouns.installation("i", Owner("app-1", "user:anna")),
        is_enabled=is_enabled,
    )


@pytest.mark.spec("kii 3.2")
@pytest.mark.parametrize("password", [b"", b"wrong", b"right ", b"Right", b"\xff\x00"])
def test_connecting_needs_the_right_password(password: bytes) -> None:
    assert may_connect(connect_row(), b"right", nouns.NOW_MS)
    assert not may_connect(connect_row(), password, nouns.NOW_MS)


@pytest.mark.spec("kii 3.1")
def test_connecting_ends_with_the_endpoint_s_time() -> None:
    assert may_connect(connect_row(expires_ms=1000), b"right", 999)
    assert not may_connect(connect_row(expires_ms=1000), b"right", 1000)


@pytest.mark.spec("kii 12")
def test_an_owner_who_is_switched_off_may_not_connect() -> None:
    assert not may_connect(connect_row(is_enabled=False), b"right", nouns.NOW_MS)


@pytest.mark.spec("kinvey 2")
@pytest.mark.parametrize(
    ("secret", "kind", "depth"),
    [
        (CLIENT_SECRET, PrincipalKind.ADMIN, 0),
        ("service-app-1-depth-3", PrincipalKind.ADMIN, 3),
        ("key-of-app-1", PrincipalKind.ANONYMOUS, 0),
    ],
)
@in_loop
async def test_a_secret_of_the_app_says_who_it_is(
    secret: str, kind: PrincipalKind, depth: int
) -> None:
    credentials = Credentials("app-1", app_secret=secret)
    assert await principal_of(credentials) == Principal("app-1", kind, depth=depth)


@pytest.mark.spec("kinvey 2")
@pytest.mark.parametrize(
    ("app_id", "secret"),
    [
        ("app-1", ""),
        ("app-1", "service-app-2-depth-1"),
        ("app-1", "service-app-1-depth-"),
        ("app-1", "service-app-1-depth-0"),
        ("app-1", "key-of-app-2"),
        ("app-2", CLIENT_SECRET),
        ("nowhere", "service-nowhere-depth-1"),
    ],
)
@in_loop
async def test_a_secret_of_another_app_is_none(app_id: str, secret: str) -> None:
    with pytest.raises(NotAuthenticated):
        await principal_of(Credentials(app_id, app_secret=secret))


@pytest.mark.spec("kinvey 2")
@in_loop
async def test_a_proved_password_counts_while_it_is_the_user_s() -> None:
    proof = PasswordProof("proved", "hash")
    expected = Principal("app-1", PrincipalKind.USER, "proved")
    assert await principal_of(Credentials("app-1", proof=proof)) == expected
    for other in (PasswordProof("proved", "older hash"), PasswordProof("nobody", "hash")):
        with pytest.raises(NotAuthenticated):
            await principal_of(Credentials("app-1", proof=other))
    with pytest.raises(NotAuthenticated):
        await principal_of(Credentials("app-2", proof=proof))


def test_the_service_secret_is_the_same_each_time_and_of_one_app() -> None:
    maker = SecretMaker(source=random.SystemRandom(), server_key=b"k" * 32)
    again = SecretMaker(source=random.SystemRandom(), server_key=b"k" * 32)
    other = SecretMaker(source=random.SystemRandom(), server_key=b"x" * 32)
    assert maker.service_secret("a", 1) == again.service_secret("a", 1)
    secrets = {
        maker.service_secret("a", 1),
        maker.service_secret("b", 1),
        other.service_secret("a", 1),
        f"{maker.service_secret('a', 2)[:-1]}1",
    }
    assert len(secrets) == 4


async def of_address(passwords: Passwords, address: str) -> None:
    await passwords.hash_of_thing("123456", address)


@in_loop
async def test_one_address_has_a_share_of_the_queue() -> None:
    settings = CHEAP.model_copy(update={"max_queued_hashes_per_address": 2})
    passwords = Passwords(settings, unlimited=["127.0.0.0/8"])
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", *["127.0.0.1"] * 5]
    try:
        ended = await asyncio.gather(
            *(of_address(passwords, each) for each in addresses), return_exceptions=True
        )
        assert isinstance(refused := ended[2], LimitReached)
        assert refused.limit == "security.max_queued_hashes_per_address"
        assert [each for each in ended if each is not refused] == [None] * 8
        await of_address(passwords, "2001:db8::3")
    finally:
        passwords.close()


# --- wrong passwords ---------------------------------------------------------------------------


def counter(now: list[float], **limits: int) -> FailureCounter:
    settings = SecuritySettings.model_validate(limits)
    return FailureCounter(settings, clock=lambda: now[0], unlimited=["127.0.0.0/8"])


def limit_of(tries: Tries) -> str | None:
    """The bound that is met, if any."""
    try:
        tries.check()
    except LimitReached as exc:
        return exc.limit
    return None


def test_failures_are_of_a_name_an_app_and_an_address_for_a_while() -> None:
    now = [1000.0]
    failures = counter(now, max_failed_passwords=2)
    for _ in range(2):
        failures.tries("app", "joe", "192.0.2.1").check()
        failures.tries("app", "joe", "192.0.2.1").wrong()
    with pytest.raises(LimitReached, match="max_failed_passwords") as refused:
        failures.tries("app", "joe", "192.0.2.1").check()
    assert refused.value.retry_after_s == pytest.approx(FailureCounter.WINDOW_S / 2)
    for free in (
        ("app", "joe", "192.0.2.2"),
        ("app", "sue", "192.0.2.1"),
        ("b", "joe", "192.0.2.1"),
    ):
        assert limit_of(failures.tries(*free)) is None
    now[0] += FailureCounter.WINDOW_S
    assert limit_of(failures.tries("app", "joe", "192.0.2.1")) is None


def test_an_ipv6_subscriber_has_one_address_to_guess_from() -> None:
    failures = counter([0.0], max_failed_passwords=1)
    failures.tries("app", "joe", "2001:db8:1:2::1").wrong()
    assert limit_of(failures.tries("app", "joe", "2001:db8:1:2:ffff::9"))
    assert limit_of(failures.tries("app", "joe", "2001:db8:1:3::1")) is None


def test_a_right_password_clears_the_name_and_not_the_address() -> None:
    failures = counter([0.0], max_failed_passwords=2, max_failed_passwords_per_address=3)
    own = failures.tries("app", "own account", "192.0.2.1")
    for number in range(3):
        assert limit_of(own) is None
        own.wrong()
        own.right()
        assert (limit_of(own) is None) == (number < 2)
    assert limit_of(own) == "security.max_failed_passwords_per_address"
    assert limit_of(failures.tries("app", "anybody", "192.0.2.1"))
    assert limit_of(failures.tries("app", "", "192.0.2.1"))
    assert limit_of(failures.tries("other", "anybody", "192.0.2.1")) is None
    assert limit_of(failures.tries("app", "anybody", "192.0.2.2")) is None


@pytest.mark.parametrize("address", ["127.0.0.1", ""], ids=["a proxy's", "server code"])
def test_an_address_that_many_share_has_no_bound_of_its_own(address: str) -> None:
    failures = counter([0.0], max_failed_passwords=2, max_failed_passwords_per_address=1)
    failures.tries("app", "joe", address).wrong()
    assert limit_of(failures.tries("app", "sue", address)) is None
    failures.tries("app", "joe", address).wrong()
    assert limit_of(failures.tries("app", "joe", address)) == "security.max_failed_passwords"


def test_long_names_of_strangers_are_not_kept() -> None:
    failures = counter([0.0])
    tracemalloc.start()
    try:
        for number in range(100):
            text = f"{number}" + "x" * 1_000_000
            failures.tries("app", text, "192.0.2.1").wrong()
            failures.tries(text, "joe", "192.0.2.1").wrong()
            del text
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 1_000_000
