"""Schema versions: older files are copied and migrated as one step, newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mqttpush.errors import SchemaMismatch
from mqttpush.store.migrations import Migration, known_migrations
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import opened

KNOWN = known_migrations()
NOW = KNOWN[-1].version
NEXT = Migration(NOW + 1, "extra", "CREATE TABLE extra (number INTEGER) STRICT;\n")
BROKEN = Migration(
    NOW + 2, "broken", "CREATE TABLE half (n INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n"
)


def path_of(dsn: str) -> Path:
    return Path(dsn.removeprefix("sqlite:///"))


def backup_of(dsn: str) -> Path:
    return Path(f"{path_of(dsn)}.v{NOW}.bak")


def tables_in(path: Path) -> set[str]:
    return set(select(path, "SELECT name FROM sqlite_master WHERE type = 'table'"))


def select(path: Path, query: str) -> list[str]:
    """The first column, seen by another program."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute(query)]
    finally:
        connection.close()


async def make_file(dsn: str, migrations: list[Migration] | None = None) -> None:
    async with opened(dsn, migrations=migrations) as stage:
        await stage.store.write(lambda tx: tx.apps.insert(nouns.app("a")))


@in_loop
async def test_a_new_file_gets_the_newest_schema_and_no_backup(file_dsn: str) -> None:
    await make_file(file_dsn)
    found = select(path_of(file_dsn), "SELECT version FROM schema_versions ORDER BY version")
    assert [int(version) for version in found] == [migration.version for migration in KNOWN]
    assert not list(path_of(file_dsn).parent.glob("*.bak"))


@in_loop
async def test_a_file_of_this_version_is_opened_as_it_is(file_dsn: str) -> None:
    await make_file(file_dsn)
    async with opened(file_dsn) as stage:
        assert await stage.store.read(lambda tx: tx.apps.get("a")) is not None
    assert not list(path_of(file_dsn).parent.glob("*.bak"))


@in_loop
async def test_an_older_file_is_migrated_with_its_rows(file_dsn: str) -> None:
    await make_file(file_dsn)
    async with opened(file_dsn, migrations=[*KNOWN, NEXT]) as stage:
        assert await stage.store.read(lambda tx: tx.apps.get("a")) == nouns.app("a")
    assert "extra" in tables_in(path_of(file_dsn))


@in_loop
async def test_an_older_file_is_copied_before_it_is_changed(file_dsn: str) -> None:
    await make_file(file_dsn)
    async with opened(file_dsn, migrations=[*KNOWN, NEXT]):
        pass
    assert "extra" not in tables_in(backup_of(file_dsn))
    assert select(backup_of(file_dsn), "SELECT app_id FROM apps") == ["a"]


@in_loop
async def test_the_backup_opens_as_a_store_of_the_old_version(file_dsn: str) -> None:
    await make_file(file_dsn)
    async with opened(file_dsn, migrations=[*KNOWN, NEXT]):
        pass
    async with opened(f"sqlite:///{backup_of(file_dsn)}") as stage:
        assert await stage.store.read(lambda tx: tx.apps.get("a")) == nouns.app("a")


@in_loop
async def test_a_migration_that_fails_leaves_the_old_schema_whole(file_dsn: str) -> None:
    await make_file(file_dsn)
    with pytest.raises(Exception, match="nowhere"):
        async with opened(file_dsn, migrations=[*KNOWN, NEXT, BROKEN]):
            pass
    assert {"extra", "half"}.isdisjoint(tables_in(path_of(file_dsn)))
    async with opened(file_dsn) as stage:
        assert await stage.store.read(lambda tx: tx.apps.get("a")) == nouns.app("a")


@in_loop
async def test_a_newer_file_is_refused_by_both_versions_and_not_touched(file_dsn: str) -> None:
    await make_file(file_dsn, [*KNOWN, NEXT])
    before = tables_in(path_of(file_dsn))
    with pytest.raises(SchemaMismatch) as refused:
        async with opened(file_dsn):
            pass
    assert (refused.value.found_version, refused.value.known_version) == (NOW + 1, NOW)
    assert str(NOW + 1) in str(refused.value)
    assert tables_in(path_of(file_dsn)) == before
    assert not list(path_of(file_dsn).parent.glob("*.bak"))


def test_the_files_of_the_package_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in KNOWN] == list(range(1, NOW + 1))


@in_loop
async def test_installations_of_the_first_schema_keep_their_endpoints(file_dsn: str) -> None:
    path_of(file_dsn).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path_of(file_dsn))
    connection.executescript(KNOWN[0].sql)
    connection.executescript(
        "CREATE TABLE schema_versions (version INTEGER, name TEXT, applied_at TEXT);"
        "INSERT INTO schema_versions VALUES (1, 'initial', '');"
        "INSERT INTO apps VALUES ('a', 'a', 'k', 'c', x'00', 1, 0, 0, 0);"
        "INSERT INTO installations VALUES ('i', 'a', 'user:u', 'MQTT', 'r', 0, 7);"
        "INSERT INTO mqtt_endpoints VALUES ('i', 'name', x'00', 'topic', 9);"
    )
    connection.close()
    async with opened(file_dsn) as stage:
        kept = await stage.store.read(lambda tx: tx.installations.get("a", "i"))
        assert kept is not None
        assert (kept.created_ms, kept.updated_ms, kept.problem) == (7, 7, "")
        endpoint = await stage.store.read(lambda tx: tx.installations.endpoint("i"))
        assert endpoint is not None
        assert endpoint.mqtt_topic == "topic"
        await stage.store.write(lambda tx: tx.installations.delete("i"))
        assert await stage.store.read(lambda tx: tx.installations.endpoint("i")) is None
    assert not {"endpoints_aside", "new_installations"} & tables_in(path_of(file_dsn))
