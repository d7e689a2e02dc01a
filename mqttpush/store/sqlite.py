"""The embedded store: SQLite in WAL mode with `synchronous=FULL`, written by group commit.

Owns the connections (one writes, one reads beside it, one searches), the lanes that batch units
onto their threads, and what happens when the disk is slow or gone. Knows no table and no rule. The
one idea: a lane takes everything that waits, runs it in one hop to its thread inside one
transaction, and answers each caller when that transaction has ended.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec

import aiosqlite

from mqttpush.config import StoreSettings
from mqttpush.errors import ConfigError, LimitReached, StoreUnavailable
from mqttpush.events import Committed
from mqttpush.metrics import Metrics
from mqttpush.store import OnCommit, Result, Transaction
from mqttpush.store.migrations import Migration, known_migrations, migrate
from mqttpush.store.query_sql import QueryFunction
from mqttpush.store.tables.bodies import SqliteBodies, SqliteUploads
from mqttpush.store.tables.collections import SqliteEntities, SqliteLive
from mqttpush.store.tables.commands import SqliteCommands
from mqttpush.store.tables.installations import SqliteInstallations
from mqttpush.store.tables.kinvey import SqliteKinvey
from mqttpush.store.tables.messages import SqliteMessages
from mqttpush.store.tables.network_keys import SqliteNetworkKeys
from mqttpush.store.tables.objects import SqliteObjects
from mqttpush.store.tables.principals import (
    SqliteApps,
    SqliteGroups,
    SqliteThings,
    SqliteTokens,
    SqliteUsers,
)
from mqttpush.store.tables.pushes import SqlitePushes
from mqttpush.store.tables.server_code import SqliteServerCode
from mqttpush.store.tables.sources import SqliteAcl, SqliteSources, SqliteSubscriptions

DSN_PREFIX: Final = "sqlite:///"
MEMORY: Final = ":memory:"
# Two connections and the command line share the file; a writer waits this long for the lock.
BUSY_TIMEOUT_S: Final = 5.0
# 16 MiB of log between checkpoints: a page written often is copied back once, not each time.
CHECKPOINT_PAGES: Final = 4096
CACHE_KIB: Final = 16_384
# No unit begins later in a batch: one of slow units must not last until the store counts as away,
# and what waits behind a slow read must not wait for all that came with it.
WRITER_BATCH_S: Final = 0.25
READER_BATCH_S: Final = 0.05
# About 1 ms of work between two looks at the clock.
PROGRESS_EVERY_INSTRUCTIONS: Final = 50_000
# Of a query in the writer's thread, where everybody waits; a reader has `store.query_timeout_s`.
WRITER_TESTS_LIMIT_S: Final = 1.0
# More than the distinct statements of `tables/`, so each is parsed once.
CACHED_STATEMENTS: Final = 256

_log = logging.getLogger(__name__)

Unit = Callable[[Transaction], Any]
Parameters = ParamSpec("Parameters")


class SqliteTransaction:
    """The tables on one connection, and what the running unit has emitted."""

    def __init__(self, connection: sqlite3.Connection, tests_limit_s: float) -> None:
        query_function = QueryFunction(connection, tests_limit_s)
        self.apps = SqliteApps(connection)
        self.network_keys = SqliteNetworkKeys(connection)
        self.users = SqliteUsers(connection)
        self.things = SqliteThings(connection)
        self.groups = SqliteGroups(connection)
        self.acl = SqliteAcl(connection)
        self.tokens = SqliteTokens(connection)
        self.installations = SqliteInstallations(connection)
        self.sources = SqliteSources(connection)
        self.subscriptions = SqliteSubscriptions(connection)
        self.objects = SqliteObjects(connection)
        self.entities = SqliteEntities(connection, query_function)
        self.live = SqliteLive(connection)
        self.bodies = SqliteBodies(connection)
        self.uploads = SqliteUploads(connection)
        self.commands = SqliteCommands(connection)
        self.messages = SqliteMessages(connection)
        self.pushes = SqlitePushes(connection)
        self.server_code = SqliteServerCode(connection)
        self.kinvey = SqliteKinvey(connection)
        self.depth = 0
        self.emitted: list[Committed] = []
        self.emit = self.emitted.append


class _Connection(aiosqlite.Connection):
    """aiosqlite with one more verb: run a function of ours in the connection's thread."""

    async def run(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **_: Parameters.kwargs
    ) -> Result:
        result: Result = await self._execute(function, *args)  # type: ignore[no-untyped-call]
        return result

    async def thread_ended(self) -> None:
        """Wait for the thread of a connection that failed to open: it answers to our loop."""
        await asyncio.to_thread(self._thread.join)

    @property
    def raw(self) -> sqlite3.Connection:
        return self._conn


@dataclass(slots=True)
class _Outcome:
    """What became of one unit."""

    result: object = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    outcomes: list[_Outcome]
    emitted: list[Committed]


class _Waiting(NamedTuple):
    """A unit, who is to be answered, and since when (by the loop's clock)."""

    unit: Unit
    future: asyncio.Future[Any]
    since: float


class _Lane:
    """Units waiting for one connection, and the task that runs them in batches.

    wait_s: no unit of a reader waits longer to begin.
    """

    def __init__(
        self,
        connection: _Connection,
        *,
        begin: str,
        settings: StoreSettings,
        on_batch: Callable[[_Batch], None],
        is_reader: bool = False,
        wait_s: float = inf,
    ) -> None:
        self._connection = connection
        self._is_reader = is_reader
        tests_limit_s = settings.query_timeout_s if is_reader else WRITER_TESTS_LIMIT_S
        self._transaction = SqliteTransaction(connection.raw, tests_limit_s)
        self._begin = begin
        self._settings = settings
        self._on_batch = on_batch
        self._batch_s = READER_BATCH_S if is_reader else WRITER_BATCH_S
        self._wait_s = wait_s
        self._timeout_s = settings.commit_timeout_s
        if is_reader:
            self._timeout_s += settings.query_timeout_s
        self._pending: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._is_stalled = False
        self._is_closing = False
        self._unit_deadline = inf

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def submit(self, unit: Callable[[Transaction], Result]) -> asyncio.Future[Result]:
        """Queue a unit; the future is answered when its batch has ended."""
        if self._is_stalled or self._is_closing:
            problem = "is closing" if self._is_closing else "does not answer in time"
            raise StoreUnavailable("sqlite", problem)
        if len(self._pending) >= self._settings.max_queued_writes:
            raise LimitReached("store.max_queued_writes", retry_after_s=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._pending.append(_Waiting(unit, future, loop.time()))
        self._wake.set()
        return future

    async def run(self) -> None:
        """Serve until `close`; never fails because a unit does."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                count = min(len(self._pending), self._settings.max_batch_writes)
                batch = [self._pending.popleft() for _ in range(count)]
                if self._is_reader:
                    batch = self._still_wanted(batch)
                if batch:
                    await self._run_batch(batch)
            if self._is_closing:
                return

    def close(self) -> None:
        """Take no more units; `run` returns when those that wait are done."""
        self._is_closing = True
        self._wake.set()

    def _still_wanted(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Without those whose caller has gone, or waited too long and is told so."""
        latest = asyncio.get_running_loop().time() - self._wait_s
        for waiting in batch:
            if waiting.since < latest and not waiting.future.done():
                error = LimitReached("store.query_timeout_s", retry_after_s=1)
                waiting.future.set_exception(error)
        return [waiting for waiting in batch if not waiting.future.done()]

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        units = [waiting.unit for waiting in batch]
        running = asyncio.ensure_future(self._connection.run(self._run_in_thread, units))
        done, _ = await asyncio.wait([running], timeout=self._timeout_s)
        if not done:
            self._stall([waiting.future for waiting in batch])
        try:
            outcome = await running
        except sqlite3.Error as exc:
            self._fail([waiting.future for waiting in batch], str(exc))
            return
        finally:
            self._is_stalled = False
        self._on_batch(outcome)
        run_count = len(outcome.outcomes)
        self._pending.extendleft(reversed(batch[run_count:]))
        for waiting, unit_outcome in zip(batch[:run_count], outcome.outcomes, strict=True):
            future = waiting.future
            if future.done():
                continue  # the caller has gone, or was told that the store stalls
            if unit_outcome.error is not None:
                future.set_exception(unit_outcome.error)
            else:
                future.set_result(unit_outcome.result)

    def _stall(self, running: list[asyncio.Future[Any]]) -> None:
        """The thread hangs in a system call: tell everybody now, take no more until it is back."""
        self._is_stalled = True
        others = [waiting.future for waiting in self._pending]
        self._pending.clear()
        self._fail([*running, *others], "does not answer in time")

    def _fail(self, futures: list[asyncio.Future[Any]], problem: str) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(StoreUnavailable("sqlite", problem))

    def _run_in_thread(self, units: Sequence[Unit]) -> _Batch:
        """One transaction for all units there is time for; a unit that raises is undone alone."""
        execute = self._connection.raw.execute
        transaction = self._transaction
        outcomes: list[_Outcome] = []
        transaction.emitted.clear()
        end = time.monotonic() + self._batch_s
        execute(self._begin)
        try:
            for unit in units:
                outcomes.append(self._run_unit(unit))
                if time.monotonic() > end:
                    break
            execute("COMMIT")
        except BaseException:
            if self._connection.raw.in_transaction:
                execute("ROLLBACK")
            raise
        return _Batch(outcomes, transaction.emitted.copy())

    async def interrupt_long_units(self) -> None:
        """A unit that reads for longer than `store.query_timeout_s` is broken off.

        A stranger may query what everybody may read: one slow sort must not hold up the others.
        """

        def is_overdue() -> bool:
            return time.monotonic() > self._unit_deadline

        set_handler = self._connection.raw.set_progress_handler
        await self._connection.run(set_handler, is_overdue, PROGRESS_EVERY_INSTRUCTIONS)

    @staticmethod
    def _explained(error: sqlite3.OperationalError) -> Exception:
        """What a unit's caller is told; raises the error if the whole batch is in doubt.

        A statement SQLite will not run, or was told to stop, is the unit's own affair; a full disk,
        an I/O error or a lock is everybody's.
        """
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_INTERRUPT:
            return LimitReached("store.query_timeout_s", retry_after_s=1)
        if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG):
            _log.warning("a statement failed: %s", error)  # a mistake of ours, or a bound not named
            return StoreUnavailable("sqlite", str(error))
        raise error

    def _run_unit(self, unit: Unit) -> _Outcome:
        connection = self._connection.raw
        self._transaction.depth = 0
        emitted = self._transaction.emitted
        emitted_count = len(emitted)
        connection.execute("SAVEPOINT unit")
        self._unit_deadline = time.monotonic() + self._settings.query_timeout_s
        try:
            result = unit(self._transaction)
        except Exception as exc:  # handed to the unit's caller
            if isinstance(exc, sqlite3.OperationalError):
                exc = self._explained(exc)
            connection.execute("ROLLBACK TO unit")
            connection.execute("RELEASE unit")
            del emitted[emitted_count:]
            return _Outcome(error=exc)
        connection.execute("RELEASE unit")
        return _Outcome(result)


class SqliteStore:
    """`Store` on one SQLite file. Build with `open_sqlite`."""

    def __init__(
        self,
        *,
        writer: _Connection,
        readers: Sequence[_Connection],
        settings: StoreSettings,
        metrics: Metrics,
        on_commit: OnCommit,
    ) -> None:
        self._metrics = metrics
        self._on_commit = on_commit
        self._writes = _Lane(
            writer, begin="BEGIN IMMEDIATE", settings=settings, on_batch=self._committed
        )
        waits_s = (inf, settings.query_timeout_s)
        lanes = [
            _Lane(
                reader,
                begin="BEGIN",
                settings=settings,
                on_batch=lambda _: None,
                is_reader=True,
                wait_s=wait_s,
            )
            for reader, wait_s in zip(readers, waits_s, strict=False)
        ]
        self._reads, self._searches = lanes or (self._writes, self._writes)
        metrics.store_queued_writes.read = lambda: self._writes.pending_count

    async def write(self, unit: Callable[[Transaction], Result]) -> Result:
        return await self._writes.submit(unit)

    async def read(self, unit: Callable[[Transaction], Result]) -> Result:
        return await self._reads.submit(unit)

    async def search(self, unit: Callable[[Transaction], Result]) -> Result:
        return await self._searches.submit(unit)

    async def interrupt_long_reads(self) -> None:
        """To be called before the first read."""
        for lane in self._lanes - {self._writes}:
            await lane.interrupt_long_units()

    async def check(self) -> None:
        await self.write(lambda tx: None)
        await self.read(lambda tx: None)

    async def run(self) -> None:
        """Serve all lanes until `close`."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run(), name="store lane")

    async def close(self) -> None:
        for lane in self._lanes:
            lane.close()

    @property
    def _lanes(self) -> set[_Lane]:
        return {self._writes, self._reads, self._searches}

    def _committed(self, batch: _Batch) -> None:
        self._metrics.store_commits.value += 1
        self._metrics.store_writes.value += len(batch.outcomes)
        if not batch.emitted:
            return
        try:
            self._on_commit(batch.emitted)
        except Exception:  # the commit stands: its callers are answered all the same
            self._metrics.routing_failures.value += 1
            _log.exception("routing of committed events failed")


@asynccontextmanager
async def open_sqlite(
    settings: StoreSettings,
    *,
    metrics: Metrics,
    on_commit: OnCommit,
    migrations: list[Migration] | None = None,
) -> AsyncIterator[SqliteStore]:
    """Open, migrate and serve the file of `settings.dsn`; commits what waits when left.

    Raises ConfigError for a folder or file that cannot be written, SchemaMismatch for a file of a
    newer version. migrations: other than the package's own, for tests.
    """
    path = settings.dsn.removeprefix(DSN_PREFIX)
    _prepare_folder(path)
    writer = await _connect(path, is_reader=False)
    try:
        try:
            await writer.run(migrate, writer.raw, path, migrations or known_migrations())
        except sqlite3.Error as exc:
            raise StoreUnavailable(path, f"its schema cannot be brought up to date: {exc}") from exc
        async with AsyncExitStack() as opened:
            readers = []
            for _ in range(0 if path == MEMORY else 2):
                readers.append(await _connect(path, is_reader=True))
                opened.push_async_callback(readers[-1].close)
            store = SqliteStore(
                writer=writer,
                readers=readers,
                settings=settings,
                metrics=metrics,
                on_commit=on_commit,
            )
            await store.interrupt_long_reads()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(store.run(), name="store")
                try:
                    yield store
                finally:
                    await store.close()
    finally:
        await writer.close()


def _prepare_folder(path: str) -> None:
    if path == MEMORY:
        return
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise _unusable(path, f"cannot make the folder {folder}: {exc.strerror}") from exc


async def _connect(path: str, *, is_reader: bool) -> _Connection:
    def connector() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # transactions are begun and ended by the lane
            cached_statements=CACHED_STATEMENTS,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA query_only = {int(is_reader)}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    opening = _Connection(connector, iter_chunk_size=64)
    try:
        return await opening  # type: ignore[return-value]
    except sqlite3.Error as exc:
        await opening.thread_ended()
        raise _unusable(path, f"cannot open {path}: {exc}") from exc


def _unusable(path: str, problem: str) -> ConfigError:
    return ConfigError(
        "store.dsn", DSN_PREFIX + path, problem, 'dsn = "sqlite:////var/lib/mqttpush/mqttpush.db"'
    )
