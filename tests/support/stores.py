"""Stores for tests: opened on a DSN, with everything they hand on kept in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mqttpush.config import StoreSettings
from mqttpush.events import Committed
from mqttpush.metrics import Metrics
from mqttpush.store import OnCommit, Store, Transaction
from mqttpush.store.migrations import Migration
from mqttpush.store.sqlite import open_sqlite

MEMORY_DSN = "sqlite:///:memory:"


@dataclass(slots=True)
class Opened:
    """An open store. batches: what each commit emitted, in order."""

    store: Store
    metrics: Metrics
    batches: list[list[Committed]] = field(default_factory=list)

    @property
    def committed(self) -> list[Committed]:
        return [committed for batch in self.batches for committed in batch]


@asynccontextmanager
async def opened(
    dsn: str = MEMORY_DSN,
    *,
    on_commit: OnCommit = lambda _: None,
    migrations: list[Migration] | None = None,
    **settings: Any,
) -> AsyncIterator[Opened]:
    """Open and close a store. on_commit: called besides; settings: of section `store`."""
    batches: list[list[Committed]] = []

    def keep(committed: Sequence[Committed]) -> None:
        batches.append(list(committed))
        on_commit(committed)

    metrics = Metrics()
    async with open_sqlite(
        StoreSettings(dsn=dsn, **settings), metrics=metrics, on_commit=keep, migrations=migrations
    ) as store:
        yield Opened(store, metrics, batches)


class Gate:
    """A unit of work that holds the store's thread until `open` is called."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._released = threading.Event()

    def __call__(self, tx: Transaction) -> None:
        self._loop.call_soon_threadsafe(self._entered.set)
        self._released.wait()

    async def entered(self) -> None:
        """Wait until the thread stands in the gate."""
        await self._entered.wait()

    def open(self) -> None:
        self._released.set()


@asynccontextmanager
async def one_batch(store: Store) -> AsyncIterator[None]:
    """What is submitted inside, as tasks that had a turn, commits together afterwards."""
    gate = Gate()
    holding = asyncio.create_task(store.write(gate))
    await gate.entered()
    try:
        yield
        await asyncio.sleep(0)  # one turn of the loop, in which the tasks submit their units
    finally:
        gate.open()
        await holding
