"""The provider simulator beside a test: in a thread of its own, for tests without an event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mqttpush.provider_simulator import Providers, open_providers
from mqttpush.provider_simulator.kit import settings_for

LIMIT_S = 30.0


class RunningProviders:
    """`providers` may be read and told things from the test's thread: it holds plain values."""

    def __init__(self, providers: Providers, loop: asyncio.AbstractEventLoop) -> None:
        self.providers = providers
        self._loop = loop

    def wait_for(self, network: str, accepted_count: int, *, timeout_s: float = LIMIT_S) -> None:
        """Until the network has taken so many pushes; TimeoutError says what it had."""
        ledger = self.providers.provider(network).ledger
        waiting = asyncio.run_coroutine_threadsafe(ledger.wait_for(accepted_count), self._loop)
        try:
            waiting.result(timeout_s)
        except TimeoutError:
            waiting.cancel()
            raise TimeoutError(f"{network}: {ledger.report()}") from None


@contextmanager
def running_providers(*, clock: Callable[[], float] = time.time) -> Iterator[RunningProviders]:
    """Start all providers on free ports of 127.0.0.1; they end with the block."""
    started: list[RunningProviders] = []
    is_ready, end = threading.Event(), threading.Event()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        async with open_providers(clock=clock) as providers:
            started.append(RunningProviders(providers, loop))
            is_ready.set()
            await loop.run_in_executor(None, end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="providers")
    thread.start()
    try:
        assert is_ready.wait(LIMIT_S), "the providers did not start"
        yield started[0]
    finally:
        end.set()
        thread.join(LIMIT_S)


def server_settings(providers: Providers) -> dict[str, str]:
    """Settings of a `Server` whose push networks are these."""
    return {
        name.replace(".", "__").upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in settings_for(providers).items()
    }
