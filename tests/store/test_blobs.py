"""Files of bodies: written before they are named, removed when no row names them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mqttpush.bodies import Body, Upload
from mqttpush.errors import ConfigError, StoreUnavailable
from mqttpush.models import Scope, SourceKind
from mqttpush.store import Transaction
from mqttpush.store.blobs import BLOCK_BYTES, BlobKeeper, Blobs, open_blobs
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import Opened, one_batch, opened

OBJECT_ID = "object"
SCOPE = Scope(nouns.APP_ID)
NOW_MS = 1000


def blob_name(number: int) -> str:
    return f"{number:025}"


FIRST, SECOND = blob_name(1), blob_name(2)


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def broken_chunks() -> AsyncIterator[bytes]:
    yield b"half"
    raise ConnectionError


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    with open_blobs(tmp_path) as blobs:
        yield blobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bodies"


def body(blob: str) -> Body:
    return Body(blob, "text/plain", 1, NOW_MS)


def upload(blob: str, source_key: int, *, expires_ms: int = NOW_MS + 1) -> Upload:
    return Upload(
        f"upload of {blob}",
        nouns.APP_ID,
        "user:u",
        source_key,
        OBJECT_ID,
        blob,
        "text/plain",
        1,
        1,
        expires_ms,
    )


def make_object(tx: Transaction) -> int:
    """An app, a bucket and an object; the bucket's key."""
    tx.apps.insert(nouns.app())
    bucket = tx.sources.insert(SourceKind.BUCKET, SCOPE, "bucket", "user:u", NOW_MS)
    tx.objects.insert(bucket.key, nouns.json_object(OBJECT_ID))
    return bucket.key


def keeper_of(stage: Opened, blobs: Blobs) -> BlobKeeper:
    return BlobKeeper(store=stage.store, blobs=blobs, now_ms=lambda: NOW_MS)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def read(blobs: Blobs, blob: str) -> bytes:
    file = await blobs.open(blob)
    assert file is not None
    with file:
        return file.read()


# --- files --------------------------------------------------------------------------------------


@in_loop
@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])
@pytest.mark.parametrize("chunk_size", [1000, BLOCK_BYTES])
async def test_what_is_written_is_read(blobs: Blobs, size: int, chunk_size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    parts = [data[start : start + chunk_size] for start in range(0, size, chunk_size)]
    assert await blobs.write(FIRST, chunks_of(*parts)) == size
    assert await read(blobs, FIRST) == data


@in_loop
async def test_files_and_their_folder_are_the_owners_alone(blobs: Blobs, folder: Path) -> None:
    await blobs.write(FIRST, chunks_of(b"secret"))
    assert (mode_of(folder), mode_of(folder / FIRST)) == (0o700, 0o600)


@in_loop
async def test_a_write_goes_on_where_it_is_told_and_cuts_off_what_was_behind(blobs: Blobs) -> None:
    await blobs.write(FIRST, chunks_of(b"good", b"left over from a part that broke off"))
    assert await blobs.write(FIRST, chunks_of(b" end"), offset=4) == 8
    assert await read(blobs, FIRST) == b"good end"


@in_loop
async def test_a_write_never_fills_a_gap_with_zeros(blobs: Blobs) -> None:
    await blobs.write(FIRST, chunks_of(b"short"))
    with pytest.raises(StoreUnavailable):
        await blobs.write(FIRST, chunks_of(b"x"), offset=6)
    assert await read(blobs, FIRST) == b"short"


@in_loop
async def test_cutting_takes_only_what_is_behind(blobs: Blobs) -> None:
    await blobs.write(FIRST, chunks_of(b"12345"))
    await blobs.cut(FIRST, 5)
    assert await read(blobs, FIRST) == b"12345"
    await blobs.cut(FIRST, 2)
    assert await read(blobs, FIRST) == b"12"
    with pytest.raises(StoreUnavailable):
        await blobs.cut(FIRST, 3)


@in_loop
async def test_a_missing_file_is_none(blobs: Blobs) -> None:
    assert await blobs.open(FIRST) is None


@in_loop
async def test_an_open_file_is_read_to_its_end_after_its_removal(blobs: Blobs) -> None:
    await blobs.write(FIRST, chunks_of(b"still here"))
    file = await blobs.open(FIRST)
    assert file is not None
    await blobs.remove([FIRST, SECOND])
    assert await blobs.names() == []
    with file:
        assert file.read() == b"still here"


@in_loop
async def test_a_disk_that_fails_is_a_store_that_is_away(blobs: Blobs, folder: Path) -> None:
    (folder / FIRST).mkdir()
    with pytest.raises(StoreUnavailable) as refused:
        await blobs.write(FIRST, chunks_of(b"x"))
    assert refused.value.retryable


def test_a_folder_that_cannot_be_made_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"store\.dsn"), open_blobs(tmp_path / "file"):
        pass


@in_loop
async def test_blobs_of_a_store_in_memory_end_with_it() -> None:
    with open_blobs(None) as blobs:
        await blobs.write(FIRST, chunks_of(b"x"))
        folder = blobs.folder
        assert (folder / FIRST).exists()
    assert not folder.parent.exists()


# --- what is removed ----------------------------------------------------------------------------


def drop_body(tx: Transaction, key: int) -> None:
    tx.bodies.delete(key, OBJECT_ID)


def replace_body(tx: Transaction, key: int) -> None:
    tx.bodies.put(key, OBJECT_ID, body(SECOND))


def drop_object(tx: Transaction, key: int) -> None:
    tx.objects.delete(key, OBJECT_ID)


def drop_bucket(tx: Transaction, key: int) -> None:
    tx.sources.delete(key)


def drop_scope(tx: Transaction, _: int) -> None:
    tx.sources.delete_scope(SCOPE)


def drop_app(tx: Transaction, _: int) -> None:
    tx.apps.delete(nouns.APP_ID)


@in_loop
@pytest.mark.parametrize(
    "drop", [drop_body, replace_body, drop_object, drop_bucket, drop_scope, drop_app]
)
async def test_a_body_that_goes_takes_its_file_along(
    dsn: str, blobs: Blobs, drop: Callable[[Transaction, int], None]
) -> None:
    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        for blob in (FIRST, SECOND):
            await blobs.write(blob, chunks_of(b"x"))
        await stage.store.write(lambda tx: tx.bodies.put(key, OBJECT_ID, body(FIRST)))
        await keeper_of(stage, blobs).tidy()
        assert len(await blobs.names()) == 2
        await stage.store.write(lambda tx: drop(tx, key))
        await keeper_of(stage, blobs).tidy()
        assert await blobs.names() == [SECOND]
        assert await stage.store.read(lambda tx: tx.bodies.garbage(10)) == []


@in_loop
@pytest.mark.parametrize("drop", [drop_object, drop_bucket, drop_scope, drop_app])
async def test_an_upload_goes_with_its_object(
    dsn: str, blobs: Blobs, drop: Callable[[Transaction, int], None]
) -> None:
    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        await blobs.write(FIRST, chunks_of(b"x"))
        await stage.store.write(lambda tx: tx.uploads.insert(upload(FIRST, key)))
        await stage.store.write(lambda tx: drop(tx, key))
        await keeper_of(stage, blobs).tidy()
        assert await blobs.names() == []


@in_loop
async def test_only_expired_uploads_are_removed(dsn: str, blobs: Blobs) -> None:
    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        for blob, expires_ms in ((FIRST, NOW_MS), (SECOND, NOW_MS + 1)):
            await blobs.write(blob, chunks_of(b"x"))
            row = upload(blob, key, expires_ms=expires_ms)
            await stage.store.write(lambda tx, row=row: tx.uploads.insert(row))  # type: ignore[misc]
        await keeper_of(stage, blobs).tidy()
        assert await blobs.names() == [SECOND]
        left = await stage.store.read(lambda tx: tx.uploads.count_of(nouns.APP_ID, "user:u"))
        assert left == 1


@in_loop
async def test_the_file_of_a_committed_upload_stays(dsn: str, blobs: Blobs) -> None:
    def commit(tx: Transaction) -> None:
        tx.bodies.put(key, OBJECT_ID, body(FIRST))
        tx.uploads.delete(upload(FIRST, key).upload_id)

    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        await blobs.write(FIRST, chunks_of(b"x"))
        await stage.store.write(lambda tx: tx.uploads.insert(upload(FIRST, key)))
        await stage.store.write(commit)
        await keeper_of(stage, blobs).tidy()
        assert await blobs.names() == [FIRST]


@in_loop
async def test_a_write_that_breaks_off_leaves_nothing(dsn: str, blobs: Blobs) -> None:
    async with opened(dsn) as stage:
        with pytest.raises(ConnectionError), blobs.naming(FIRST):
            await blobs.write(FIRST, broken_chunks())
        assert blobs.has_garbage.is_set()
        await keeper_of(stage, blobs).tidy()
        assert await blobs.names() == []


@in_loop
async def test_a_caller_who_gives_up_a_commit_loses_no_file_that_was_committed(
    dsn: str, blobs: Blobs
) -> None:
    """Whatever became of the commit, row and file agree about it."""

    async def name_it(key: int) -> None:
        with blobs.naming(FIRST):
            await stage.store.write(lambda tx: tx.bodies.put(key, OBJECT_ID, body(FIRST)))

    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        await blobs.write(FIRST, chunks_of(b"x"))
        async with one_batch(stage.store):
            naming = asyncio.ensure_future(name_it(key))
            await asyncio.sleep(0)
            naming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await naming
        await keeper_of(stage, blobs).tidy()
        row = await stage.store.read(lambda tx: tx.bodies.get(key, OBJECT_ID))
        assert await blobs.names() == ([FIRST] if row else [])


@in_loop
async def test_orphans_are_removed_at_the_start_and_strangers_files_are_not(
    dsn: str, blobs: Blobs, folder: Path
) -> None:
    async with opened(dsn) as stage:
        key = await stage.store.write(make_object)
        for number in range(1, 5):
            await blobs.write(blob_name(number), chunks_of(b"x"))
        (folder / "README").write_text("not ours")
        await stage.store.write(lambda tx: tx.bodies.put(key, OBJECT_ID, body(FIRST)))
        await stage.store.write(lambda tx: tx.uploads.insert(upload(SECOND, key)))
        await keeper_of(stage, blobs).remove_orphans()
        assert names_in(folder) == [FIRST, SECOND, "README"]


@in_loop
async def test_the_keeper_wakes_up_and_goes_on_after_a_failure(dsn: str, blobs: Blobs) -> None:
    removed = asyncio.Event()

    def now_ms() -> int:
        if not calls:
            calls.append(1)
            blobs.has_garbage.set()
            raise StoreUnavailable("test", "is away for a moment")
        removed.set()
        return NOW_MS

    calls: list[int] = []
    async with opened(dsn) as stage:
        keeper = BlobKeeper(store=stage.store, blobs=blobs, now_ms=now_ms)
        running = asyncio.ensure_future(keeper.run())
        blobs.has_garbage.set()
        await removed.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
