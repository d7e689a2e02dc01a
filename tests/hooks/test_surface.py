"""What a hook in Python is given."""

from __future__ import annotations

from typing import Any

import pytest

from mqttpush.hooks.surface import Api, Logger


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("../../users/me", "..%2F..%2Fusers%2Fme"),
        ("x/acl", "x%2Facl"),
        ("x?a=b", "x%3Fa%3Db"),
        ("x#y", "x%23y"),
        ("a b", "a%20b"),
    ],
)
def test_a_name_from_a_client_leads_nowhere_else(name: str, quoted: str) -> None:
    paths: list[str] = []

    def ask(module: str, function: str, arguments: list[Any]) -> None:
        paths.append(arguments[1])

    api = Api(ask)
    api.get_object("bucket", name)
    api.delete_object("bucket", name, scope="/users/u")
    api.send_to_user(name, {})
    assert paths == [
        f"/buckets/bucket/objects/{quoted}",
        f"/users/u/buckets/bucket/objects/{quoted}",
        f"/users/{quoted}/push/messages",
    ]


def test_a_log_that_is_full_says_so_once() -> None:
    logger = Logger(10)
    for _ in range(5):
        logger.info("1234567")
    assert [text for _, text in logger.lines] == [
        "1234567",
        "123",
        "the rest is left out (hooks.max_log_bytes)",
    ]
