"""Counting the devices of a message: as quick as the devices that are meant are few."""

from __future__ import annotations

import time
from dataclasses import replace

from mqttpush.models import Audience, DeviceType, Owner
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import opened

COUNT = 10_000
LIMIT_S = 1.0  # 0.05 s by an index; to try each user for each device takes 50 million looks
EVERYBODY = Audience(nouns.APP_ID, is_everybody=True)
ONE_VARIANT = ("fcm", "fcm:")


def fill(tx: Transaction) -> None:
    """Users with one phone each."""
    tx.apps.insert(nouns.app())
    for number in range(COUNT):
        user = nouns.user(f"u{number}")
        tx.users.insert(user)
        insert_phone(tx, f"i{number}", user.subject)


def insert_phone(tx: Transaction, name: str, subject: str) -> None:
    owner = Owner(nouns.APP_ID, subject)
    phone = nouns.installation(name, owner, device_type=DeviceType.ANDROID, registration_id=name)
    tx.installations.insert(phone)


@in_loop
async def test_the_devices_of_many_users_are_counted_at_once() -> None:
    def count(tx: Transaction) -> tuple[int, int]:
        everybody = tx.kinvey.count_devices(EVERYBODY)[ONE_VARIANT]
        return tx.kinvey.count_device_owners(nouns.APP_ID), everybody

    async with opened() as stage:
        await stage.store.write(fill)
        begun = time.monotonic()
        assert await stage.store.read(count) == (COUNT, COUNT)
        assert time.monotonic() - begun < LIMIT_S


@in_loop
async def test_only_enabled_users_and_those_meant_are_counted() -> None:
    def unit(tx: Transaction) -> list[dict[tuple[str, str], int]]:
        tx.apps.insert(nouns.app())
        for name in ("joe", "sue", "off"):
            tx.users.insert(nouns.user(name))
            insert_phone(tx, f"of-{name}", f"user:{name}")
        off = tx.users.get(nouns.APP_ID, "off")
        assert off is not None
        tx.users.update(replace(off, is_disabled=True))
        tx.things.insert(nouns.thing("lamp"))
        insert_phone(tx, "of-lamp", "thing:lamp")
        tx.users.insert(nouns.user(":lamp"))  # whose ID is what follows `thing`
        owners = tuple(Owner(nouns.APP_ID, f"user:{name}") for name in ("joe", "off"))
        ids = ("of-joe", "of-sue", "of-lamp", "unknown")
        audiences = (
            EVERYBODY,
            Audience(nouns.APP_ID, owners=owners),
            Audience(nouns.APP_ID, owners=owners, installation_ids=ids),
            Audience("another", owners=owners, installation_ids=ids),
            Audience(nouns.APP_ID),
        )
        return [tx.kinvey.count_devices(each) for each in audiences]

    async with opened() as stage:
        counts = await stage.store.write(unit)
    assert counts == [{ONE_VARIANT: 2}, {ONE_VARIANT: 1}, {ONE_VARIANT: 2}, {}, {}]
