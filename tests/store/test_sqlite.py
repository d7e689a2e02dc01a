"""The SQLite file: durable when answered, read beside the writer, refused when unusable."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from mqttpush.errors import ConfigError, StoreUnavailable
from mqttpush.events import AppRemoved
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import MEMORY_DSN, Gate, opened


def path_of(dsn: str) -> Path:
    return Path(dsn.removeprefix("sqlite:///"))


def app_ids_in_file(dsn: str) -> list[str]:
    """What another program sees in the file now: only what is committed."""
    connection = sqlite3.connect(path_of(dsn))
    try:
        return [row[0] for row in connection.execute("SELECT app_id FROM apps ORDER BY app_id")]
    finally:
        connection.close()


def insert_app(tx: Transaction, app_id: str) -> None:
    tx.apps.insert(nouns.app(app_id))
    tx.emit(AppRemoved(app_id))


@in_loop
async def test_an_answered_write_stands_in_the_file(file_dsn: str) -> None:
    async with opened(file_dsn) as stage:
        await stage.store.write(lambda tx: insert_app(tx, "a"))
        assert app_ids_in_file(file_dsn) == ["a"]


@in_loop
async def test_what_is_handed_on_stands_in_the_file(file_dsn: str) -> None:
    seen: list[list[str]] = []
    async with opened(
        file_dsn, on_commit=lambda _: seen.append(app_ids_in_file(file_dsn))
    ) as stage:
        await stage.store.write(lambda tx: insert_app(tx, "a"))
    assert seen == [["a"]]


@in_loop
async def test_a_store_opened_again_holds_what_was_written(file_dsn: str) -> None:
    async with opened(file_dsn) as stage:
        await stage.store.write(lambda tx: insert_app(tx, "a"))
    async with opened(file_dsn) as stage:
        app = await stage.store.read(lambda tx: tx.apps.get("a"))
        assert app == nouns.app("a")


@in_loop
async def test_every_commit_is_forced_to_disk(file_dsn: str) -> None:
    def synchronous(tx: Transaction) -> None:
        execute = vars(tx.apps)["_execute"]  # the pragma is the connection's, not the file's
        assert execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert execute("PRAGMA journal_mode").fetchone()[0] == "wal"

    async with opened(file_dsn) as stage:
        await stage.store.write(synchronous)


@in_loop
async def test_a_read_does_not_wait_for_a_write_and_does_not_see_it(file_dsn: str) -> None:
    async with opened(file_dsn) as stage:
        gate = Gate()

        def slow(tx: Transaction) -> None:
            insert_app(tx, "a")
            gate(tx)

        writing = asyncio.create_task(stage.store.write(slow))
        await gate.entered()
        assert await stage.store.read(lambda tx: tx.apps.get("a")) is None
        gate.open()
        await writing
        assert await stage.store.read(lambda tx: tx.apps.get("a")) is not None


@in_loop
async def test_a_disk_error_fails_the_whole_batch_and_leaves_nothing(file_dsn: str) -> None:
    def fail(tx: Transaction) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with opened(file_dsn) as stage:
        gate = Gate()
        holding = asyncio.create_task(stage.store.write(gate))
        await gate.entered()
        writes = [
            asyncio.ensure_future(stage.store.write(lambda tx: insert_app(tx, "a"))),
            asyncio.ensure_future(stage.store.write(fail)),
            asyncio.ensure_future(stage.store.write(lambda tx: insert_app(tx, "b"))),
        ]
        await asyncio.sleep(0)
        gate.open()
        await holding
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        assert stage.committed == []
        await stage.store.write(lambda tx: insert_app(tx, "c"))
        assert app_ids_in_file(file_dsn) == ["c"]


@in_loop
async def test_a_missing_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/deep/down/mqttpush.db"
    async with opened(dsn):
        assert path_of(dsn).exists()
        assert path_of(dsn).parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name",
    ["file/mqttpush.db", "file/below/mqttpush.db", "folder", "file"],
    ids=["folder is a file", "no folder can be made", "file is a folder", "file is no database"],
)
@in_loop
async def test_a_place_that_cannot_be_used_is_a_config_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no database, but long enough to be looked at " * 20)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as refused:
        async with opened(f"sqlite:///{tmp_path}/{name}"):
            pass
    assert refused.value.setting == "store.dsn"
    assert refused.value.example
    assert str(tmp_path) in str(refused.value)


@in_loop
async def test_two_stores_in_memory_know_nothing_of_each_other() -> None:
    async with opened(MEMORY_DSN) as one, opened(MEMORY_DSN) as other:
        await one.store.write(lambda tx: insert_app(tx, "a"))
        assert await other.store.read(lambda tx: tx.apps.list()) == []
