"""Sealing: opened only with the key, in the place, and unchanged."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.errors import SealBroken
from mqttpush.sealing import Sealer


def sealer(key: bytes = bytes(32)) -> Sealer:
    return Sealer(master_key=key, random_bytes=os.urandom)


@given(place=st.text(max_size=50), secret=st.binary(max_size=500))
def test_what_was_sealed_is_opened_with_the_same_key(place: str, secret: bytes) -> None:
    assert sealer().open(place, sealer().seal(place, secret)) == secret


def test_a_sealed_secret_cannot_be_seen_and_is_never_the_same_twice() -> None:
    one, other = (sealer().seal("place", b"a secret") for _ in range(2))
    assert b"secret" not in one
    assert one != other


def test_another_key_is_told_from_damage() -> None:
    sealed = sealer().seal("place", b"a secret")
    with pytest.raises(SealBroken, match="another key"):
        sealer(b"\x01" * 32).open("place", sealed)
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(SealBroken, match="damaged"):
        sealer().open("place", damaged)


def test_a_secret_of_one_place_does_not_open_in_another() -> None:
    sealed = sealer().seal("app a", b"a secret")
    with pytest.raises(SealBroken):
        sealer().open("app b", sealed)


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_an_error_and_nothing_worse(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        sealer().open("place", sealed)
