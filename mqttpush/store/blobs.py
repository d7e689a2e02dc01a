"""Blobs: the bytes of object bodies, one file each in a folder beside the database.

Owns the files, the threads that touch them, and the removal of those that no row names. Knows no
object and no right. The one idea: a file counts only while a committed row names it, so it is
written and synced first and named afterwards, and a row that goes leaves the file's name as garbage
in the same commit. Whatever crashes or is given up between the two is only a file to remove.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

from mqttpush.errors import ConfigError, MqttPushError, StoreUnavailable
from mqttpush.store import Store, Transaction

FOLDER: Final = "bodies"
# Small chunks are joined to this before a trip to a thread: 400 trips for 100 MB.
BLOCK_BYTES: Final = 262_144
# Disks do little in parallel; the loop's own threads stay free for others.
THREADS: Final = 4
# Most removals follow a verb of bodies, which asks for one; those of others may wait so long.
TIDY_EVERY_S: Final = 1.0
TIDY_BATCH: Final = 1000
# How the store names a blob; files of other names are not ours to remove.
_BLOB: Final = re.compile(r"[0-9a-z]{25}")

_log = logging.getLogger(__name__)

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


@contextmanager
def open_blobs(data_folder: Path | None) -> Iterator[Blobs]:
    """The blobs below the folder of the database; None: in one that is removed at the end.

    Raises ConfigError for a folder that cannot be made.
    """
    if data_folder is None:
        with (
            tempfile.TemporaryDirectory(prefix="mqttpush-") as name,
            open_blobs(Path(name)) as blobs,
        ):
            yield blobs
        return
    folder = data_folder / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        problem = f"cannot make the folder {folder}: {exc.strerror}"
        raise ConfigError("store.dsn", str(data_folder), problem) from exc
    blobs = Blobs(folder)
    try:
        yield blobs
    finally:
        blobs.close()


class Blobs:
    """Files by name. All methods run their system calls in threads and raise StoreUnavailable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._threads = ThreadPoolExecutor(THREADS, "blobs")
        self.unsettled: set[str] = set()
        self.has_garbage = asyncio.Event()

    def close(self) -> None:
        self._threads.shutdown()

    @contextmanager
    def naming(self, blob: str) -> Iterator[None]:
        """Stand around writing a blob and committing what names it.

        When that fails nobody here knows if it was committed all the same: the keeper finds out.
        """
        try:
            yield
        except BaseException:
            self.unsettled.add(blob)
            self.has_garbage.set()
            raise

    async def write(self, blob: str, chunks: AsyncIterator[bytes], *, offset: int = 0) -> int:
        """Put `chunks` behind the first `offset` bytes and return the size, all on disk by then.

        Takes one chunk after the other, so that a slow disk slows the sender down.
        """
        file = await self._in_thread(_open_to_write, self.folder / blob, offset)
        try:
            size = offset
            async for block in _blocks(chunks):
                await self._in_thread(_write_all, file, block)
                size += len(block)
            await self._in_thread(os.fsync, file.fileno())
        finally:
            await self._in_thread(file.close)
        await self._in_thread(_sync, self.folder)
        return size

    async def cut(self, blob: str, size_bytes: int) -> None:
        """Take away what an unfinished write left behind the first `size_bytes`."""
        await self._in_thread(_cut, self.folder / blob, size_bytes)

    async def open(self, blob: str) -> BinaryIO | None:
        """To read; None if there is no such file. The caller closes it."""
        return await self._in_thread(_open_to_read, self.folder / blob)

    async def remove(self, blobs: Iterable[str]) -> None:
        """Those that are there; an open one can be read to its end."""
        await self._in_thread(_remove, [self.folder / blob for blob in blobs])

    async def names(self) -> list[str]:
        """Of all files."""
        return await self._in_thread(lambda: list(filter(_BLOB.fullmatch, _names(self.folder))))

    async def _in_thread(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **_: Parameters.kwargs
    ) -> Result:
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])  # until then the thread uses the file
            raise
        except OSError as exc:
            raise StoreUnavailable("bodies", str(exc.strerror)) from exc


class BlobKeeper:
    """Removes the files of expired uploads, of replaced and deleted bodies, of failed writes."""

    def __init__(self, *, store: Store, blobs: Blobs, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._blobs = blobs
        self._now_ms = now_ms

    async def remove_orphans(self) -> None:
        """Files that a crash left between their writing and their commit.

        Only while nobody writes bodies: at the start, by the only server of the store.
        """
        names = await self._blobs.names()
        for start in range(0, len(names), TIDY_BATCH):
            await self._remove_unnamed(names[start : start + TIDY_BATCH])

    async def run(self) -> None:
        """Tidy when there is something to do; until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIDY_EVERY_S):
                    await self._blobs.has_garbage.wait()
            self._blobs.has_garbage.clear()
            try:
                await self.tidy()
            except MqttPushError as exc:
                _log.warning("files of old bodies could not be removed: %s", exc)

    async def tidy(self) -> None:
        """Remove what no row names any more."""
        now_ms = self._now_ms()
        if unsettled := list(self._blobs.unsettled):
            await self._remove_unnamed(unsettled)
            self._blobs.unsettled.difference_update(unsettled)
        while True:
            expired, garbage = await self._store.read(
                lambda tx: (tx.uploads.expired(now_ms, TIDY_BATCH), tx.bodies.garbage(TIDY_BATCH))
            )
            if expired:
                await self._store.write(_deletion(expired))
            if garbage:
                await self._blobs.remove(garbage)
                await self._store.write(_forgetting(garbage))
            if not (expired or garbage):
                return

    async def _remove_unnamed(self, blobs: list[str]) -> None:
        # A write though it only reads: it waits for the writes before it, whose callers have gone.
        await self._blobs.remove(await self._store.write(lambda tx: tx.bodies.unnamed(blobs)))


def _deletion(upload_ids: list[str]) -> Callable[[Transaction], None]:
    def unit(tx: Transaction) -> None:
        for upload_id in upload_ids:
            tx.uploads.delete(upload_id)

    return unit


def _forgetting(garbage: list[str]) -> Callable[[Transaction], None]:
    return lambda tx: tx.bodies.forget_garbage(garbage)


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about `BLOCK_BYTES`."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if size:
        yield b"".join(waiting)


# --- in a thread --------------------------------------------------------------------------------


def _open_to_write(path: Path, size_bytes: int) -> FileIO:
    """Made if it is not there; its first `size_bytes` must be."""
    file = FileIO(path, "ab", opener=_open_private)
    try:
        found_bytes = file.tell()
        if found_bytes < size_bytes:
            raise OSError(errno.EIO, f"{path} has {found_bytes} bytes, not {size_bytes}")
        file.truncate(size_bytes)
    except BaseException:
        file.close()
        raise
    return file


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _write_all(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _cut(path: Path, size_bytes: int) -> None:
    with _open_to_write(path, size_bytes) as file:
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names of new files durable too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_to_read(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    return os.listdir(folder)
