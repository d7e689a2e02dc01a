"""The seam where server code joins a request: before its verb and after it (spec kinvey 8.1).

Every hooked route goes through `Pipeline.run_hooked`. Knows no resource and no runner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mqttpush.operations import Operations
from mqttpush.rest.kinvey.wire import Visit
from mqttpush.rest.messages import ApiResponse

USER_COLLECTION = "user"


class Operation(StrEnum):
    """What a request does to a collection, as the names of hooks tell it."""

    FETCH = "Fetch"
    INSERT = "Insert"  # onPreSave, onPreInsert, …
    UPDATE = "Update"  # onPreSave, onPreUpdate, …
    DELETE = "Delete"
    LOGIN = "Login"  # onPreLogin, onLoginSuccess, onLoginFailure


@dataclass(frozen=True, slots=True)
class Hooked:
    """A request as code before its verb may change it. body: parsed JSON, None if there is none."""

    visit: Visit
    body: Any
    query: Mapping[str, str]
    entity_id: str | None = None


HookedVerb = Callable[[Hooked], Awaitable[ApiResponse]]


class Pipeline:
    """Runs what an app has put around its requests."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def run_hooked(
        self, hooked: Hooked, collection: str, operation: Operation, verb: HookedVerb
    ) -> ApiResponse:
        """The verb's answer, or what server code made of it."""
        return await verb(hooked)
