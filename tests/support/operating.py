"""What an operator does to a running server's store, as the command line does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mqttpush.config import load_settings
from mqttpush.operations import Operations
from mqttpush.server import open_operations

if TYPE_CHECKING:
    from tests.support.server import Server

Result = TypeVar("Result")


def operate(server: Server, verb: Callable[[Operations], Awaitable[Result]]) -> Result:
    """Run a verb on the server's store from outside of it."""

    async def run() -> Result:
        async with open_operations(load_settings(None, server.environ)) as operations:
            return await verb(operations)

    return asyncio.run(run())


def choose(server: Server, app_id: str, **settings: object) -> None:
    """Change settings of an app, by the names of mqttpush.kinvey.KinveySettings."""
    operate(server, lambda operations: operations.environments.change_settings(app_id, settings))
