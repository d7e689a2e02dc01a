"""The seam where server code joins a request: before its verb and after it (spec kinvey 8.1).

Every hooked route goes through `Pipeline.run_hooked`. Knows no resource and no runner. An app that
never had a hook pays one comparison: its visit says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from mqttpush.errors import MqttPushError
from mqttpush.operations.business_logic import (
    Answer,
    Asker,
    BusinessLogic,
    Exchange,
    security_context,
)
from mqttpush.rest.kinvey.errors import render_error
from mqttpush.rest.kinvey.wire import Kind, Visit
from mqttpush.rest.messages import ApiResponse

USER_COLLECTION = "user"
_NULL = b"null"  # a response's body None is none at all


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

    def __init__(self, business_logic: BusinessLogic) -> None:
        self._business_logic = business_logic

    async def run_hooked(
        self, hooked: Hooked, collection: str, operation: Operation, verb: HookedVerb
    ) -> ApiResponse:
        """The verb's answer, or what server code made of it."""
        visit = hooked.visit
        if not visit.hooks_stamp or _skips(visit):
            return await verb(hooked)
        asker, logic = asker_of(visit), self._business_logic
        if not await logic.has_hooks(asker, collection):
            return await verb(hooked)
        request = visit.request
        exchange = Exchange(
            request.method,
            collection,
            hooked.body,
            dict(hooked.query),
            hooked.entity_id,
            properties=visit.custom_properties,
            client_app_version=request.headers.get("x-kinvey-client-app-version"),
        )
        final = await logic.before(asker, exchange, operation.value)
        if final is not None:
            return response_of(final)
        try:
            query = _query_of(exchange.params)
            response = await verb(replace(hooked, body=exchange.body, query=query))
        except MqttPushError as exc:
            if operation is not Operation.LOGIN:
                raise  # what the database refuses has no post-hook (8.1)
            response = render_error(exc)
        before = Answer(response.status, response.body, response.headers)
        after = await logic.after(asker, exchange, operation.value, before)
        if after is before:
            return response
        return response_of(after, response.headers)


def response_of(answer: Answer, headers: Mapping[str, str] | None = None) -> ApiResponse:
    """What code left, null too. headers: of the verb's response, which code cannot change."""
    response = ApiResponse(answer.status, headers=dict(headers or {}))
    if answer.status != 204:
        response.body = _NULL if answer.body is None else answer.body
    return response


def asker_of(visit: Visit) -> Asker:
    """Who asks, as code is told."""
    request, principal, settings = visit.request, visit.principal, visit.settings
    is_user = visit.kind is Kind.USER
    return Asker(
        app_id=visit.app_id,
        stamp=visit.hooks_stamp,
        request_id=request.request_id,
        user_id=principal.id if is_user else "",
        username=visit.username if is_user else visit.app_id,
        security_context=security_context(principal.kind),
        headers=request.headers,
        depth=principal.depth,
        escapes_templates=settings.escapes_templates,
        shows_master_secret=settings.shows_master_secret,
    )


def _query_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as a query string has them: code may leave JSON of any kind, null for none."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in params.items()
        if value is not None
    }


def _skips(visit: Visit) -> bool:
    """Does the request ask for no hooks, and may it (spec kinvey 1.1)?"""
    value = visit.request.headers.get("x-kinvey-skip-business-logic", "")
    return visit.kind is Kind.MASTER and value.strip().lower() == "true"
