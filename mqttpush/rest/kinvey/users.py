"""Users: sign up, log in and out, look at, find, change, suspend (spec kinvey 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.kinvey import kinvey_time
from mqttpush.models import Json
from mqttpush.operations.accounts import Account, AccountDraft, Accounts
from mqttpush.operations.entity_documents import project
from mqttpush.operations.user_documents import OWN_FIELDS, user_document
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.devices import device_draft
from mqttpush.rest.kinvey.pipeline import USER_COLLECTION, Hooked, Operation, Pipeline
from mqttpush.rest.kinvey.queries import PARAMETERS, fields_of, query_of
from mqttpush.rest.kinvey.wire import (
    ANY_KIND,
    APP_OR_MASTER,
    MASTER_ONLY,
    USER_ONLY,
    USER_OR_MASTER,
    Gate,
    Visit,
    as_object,
    out_of_range,
    text_of,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

FIELDS_LIMIT_BYTES: Final = 63 * 1024
NAME_LIMIT: Final = 200
PASSWORD_LIMIT: Final = 200
DEVICES_LIMIT: Final = 1000
_ID_LIMIT: Final = 64
_LOOKED_UP: Final = ("_id", "username", "first_name", "last_name", "email", "_socialIdentity")
_LOOK_UP_LIMIT: Final = 1000
_CRITERIA_LIMIT: Final = 20
# Up to this version of the API deleting is for good unless the client asks otherwise.
_HARD_BY_DEFAULT: Final = 1


class UserRoutes:
    """/user and what it has in common with a collection."""

    def __init__(self, gate: Gate, pipeline: Pipeline, accounts: Accounts) -> None:
        self._gate = gate
        self._pipeline = pipeline
        self._accounts = accounts

    def table(self) -> Iterator[Route]:
        users, one = "/user/{appKey}", "/user/{appKey}/{id}"
        shown, several = Content(answers.KinveyUser), Content(list[answers.KinveyUser])
        taken, hooked = Content(dict[str, Any]), (550,)
        count = Content(answers.KinveyCount)
        yield Route(
            "POST", users, self.sign_up, "Sign up a user", (201, 409, *hooked), taken, shown
        )
        yield Route("POST", f"{users}/login", self.log_in, "Log in", (200, *hooked), taken, shown)
        yield Route("POST", f"{users}/_logout", self.log_out, "Log out", (204,))
        yield Route("GET", f"{users}/_me", self.me, "Get oneself", (200, *hooked), answer=shown)
        yield Route(
            "GET",
            users,
            self.find,
            "Find users",
            (200, *hooked),
            answer=several,
            parameters=PARAMETERS,
        )
        yield Route(
            "GET",
            f"{users}/_count",
            self.count,
            "Count users",
            (200, *hooked),
            answer=count,
            parameters=("query",),
        )
        yield Route(
            "POST", f"{users}/_lookup", self.look_up, "Look users up", (200,), taken, several
        )
        yield Route("GET", one, self.get, "Get a user", (200, *hooked), answer=shown)
        yield Route("PUT", one, self.change, "Change a user", (200, 409, *hooked), taken, shown)
        yield Route(
            "DELETE",
            one,
            self.delete,
            "Delete or suspend a user",
            (204, *hooked),
            parameters=("hard", "soft"),
        )
        yield Route("DELETE", f"{one}/tokens", self.end_sessions, "End all sessions", (204,))
        yield Route("POST", f"{one}/_restore", self.restore, "Undo suspending a user", (204,))

    async def sign_up(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, APP_OR_MASTER)
        body = visit.object() if request.body else {}

        async def verb(hooked: Hooked) -> ApiResponse:
            draft = _draft(hooked.body, is_new=True)
            session = await self._accounts.sign_up(visit.credentials, draft)
            user = session.account.user
            location = f"{request.base_url}/user/{user.app_id}/{quote(user.user_id)}"
            # Shipped libraries log in again with the password they find here.
            document = _in_session(session.account, session.token)
            document["password"] = session.password or draft.password
            return ApiResponse(201, document, headers={"location": location})

        return await self._run(Hooked(visit, body, request.query), Operation.INSERT, verb)

    async def log_in(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, APP_OR_MASTER)
        body = visit.object()
        if "_socialIdentity" in body:
            raise InvalidRequest("identities of other services", code="FeatureUnavailable")

        async def verb(hooked: Hooked) -> ApiResponse:
            pair = as_object(hooked.body)
            username, password = _needed(pair, "username"), _needed(pair, "password")
            session = await self._accounts.log_in(visit.credentials, username, password)
            return ApiResponse(200, _in_session(session.account, session.token))

        return await self._run(Hooked(visit, body, request.query), Operation.LOGIN, verb)

    async def log_out(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_ONLY)
        await self._accounts.log_out(visit.credentials)
        return ApiResponse(204)

    async def me(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_ONLY)
        return await self._fetch_one(visit, visit.principal.id)

    async def get(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        return await self._fetch_one(visit, request.parameters["id"])

    async def _fetch_one(self, visit: Visit, user_id: str) -> ApiResponse:
        async def verb(hooked: Hooked) -> ApiResponse:
            account = await self._accounts.get(visit.credentials, user_id)
            return ApiResponse(200, _shown(visit, account))

        return await self._run(Hooked(visit, None, visit.query, user_id), Operation.FETCH, verb)

    async def find(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)

        async def verb(hooked: Hooked) -> ApiResponse:
            query, fields = query_of(hooked.query), fields_of(hooked.query)
            found = await self._accounts.find(visit.credentials, query)
            documents = [project(user_document(each), fields) for each in found]
            return ApiResponse(200, documents)

        return await self._run(Hooked(visit, None, request.query), Operation.FETCH, verb)

    async def count(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)

        async def verb(hooked: Hooked) -> ApiResponse:
            count = await self._accounts.count(visit.credentials, query_of(hooked.query))
            return ApiResponse(200, {"count": count})

        return await self._run(Hooked(visit, None, request.query), Operation.FETCH, verb)

    async def look_up(self, request: ApiRequest) -> ApiResponse:
        """Public fields only, of those whose public fields are just so."""
        visit = await self._gate.enter(request, USER_OR_MASTER)
        body = visit.object()
        if not body:
            raise InvalidRequest("name a field to look for", code="MissingRequestParameter")
        if len(body) > _CRITERIA_LIMIT:
            raise out_of_range(f"name at most {_CRITERIA_LIMIT} fields")
        for name in body:
            if name.partition(".")[0] not in _LOOKED_UP:
                raise out_of_range(f"one looks for {', '.join(_LOOKED_UP)}", field=name)
        found = await self._accounts.look_up(visit.credentials, body, _LOOK_UP_LIMIT)
        documents = (user_document(account) for account in found)
        public = [
            {name: document[name] for name in _LOOKED_UP if name in document}
            for document in documents
        ]
        return ApiResponse(200, public)

    async def change(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        user_id = request.parameters["id"]

        async def verb(hooked: Hooked) -> ApiResponse:
            draft = _draft(hooked.body, is_new=False)
            account = await self._accounts.change(visit.credentials, user_id, draft)
            return ApiResponse(200, _shown(visit, account))

        hooked = Hooked(visit, visit.object(), request.query, user_id)
        return await self._run(hooked, Operation.UPDATE, verb)

    async def delete(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        user_id = request.parameters["id"]

        async def verb(hooked: Hooked) -> ApiResponse:
            if visit.version <= _HARD_BY_DEFAULT:
                is_hard = hooked.query.get("soft") != "true"
            else:
                is_hard = hooked.query.get("hard") == "true"
            end = self._accounts.delete if is_hard else self._accounts.suspend
            await end(visit.credentials, user_id)
            return ApiResponse(204)

        return await self._run(Hooked(visit, None, request.query, user_id), Operation.DELETE, verb)

    async def end_sessions(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        await self._accounts.end_sessions(visit.credentials, request.parameters["id"])
        return ApiResponse(204)

    async def restore(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, MASTER_ONLY)
        await self._accounts.restore(visit.credentials, request.parameters["id"])
        return ApiResponse(204)

    async def check_username(self, request: ApiRequest) -> ApiResponse:
        """POST /rpc/:appKey/check-username-exists."""
        visit = await self._gate.enter(request, ANY_KIND)
        username = text_of(visit.object(), "username", NAME_LIMIT, is_required=True)
        exists = await self._accounts.exists(visit.credentials, username or "")
        return ApiResponse(200, {"usernameExists": exists})

    async def _run(self, hooked: Hooked, operation: Operation, verb: Any) -> ApiResponse:
        return await self._pipeline.run_hooked(hooked, USER_COLLECTION, operation, verb)


def _shown(visit: Visit, account: Account) -> Json:
    return _in_session(account, visit.credentials.token)


def _in_session(account: Account, token: str | None) -> Json:
    """The document; with his session's token and beginning for the user himself.

    Shipped libraries keep every such document in place of the one of the log-in.
    """
    document = user_document(account)
    if account.session_ms is not None:
        document["_kmd"] |= {"llt": kinvey_time(account.session_ms), "authtoken": token}
    return document


def _draft(body: Any, *, is_new: bool) -> AccountDraft:
    """The user a body describes; raises InvalidRequest that names the field."""
    body = as_object(body)
    fields = {name: value for name, value in body.items() if name not in OWN_FIELDS}
    if fields and len(orjson.dumps(fields)) > FIELDS_LIMIT_BYTES:
        raise out_of_range(f"all fields together may have {FIELDS_LIMIT_BYTES} bytes")
    return AccountDraft(
        username=text_of(body, "username", NAME_LIMIT),
        password=text_of(body, "password", PASSWORD_LIMIT),
        fields=fields,
        user_id=_chosen_id(body) if is_new else None,
        devices=_devices(body.get("_messaging")),
        seen_ms=_seen_ms(body.get("_kmd")),
    )


def _chosen_id(body: Json) -> str | None:
    """The `_id` asked for. One with a slash would be the path of something else."""
    user_id = text_of(body, "_id", _ID_LIMIT)
    if user_id is not None and "/" in user_id:
        raise out_of_range("must have no slash", "_id")
    return user_id


def _devices(messaging: Any) -> list[Any] | None:
    """What `_messaging` says of devices; None if it says nothing (spec kinvey 3)."""
    if messaging is None:
        return None
    tokens = messaging.get("pushTokens") if isinstance(messaging, dict) else messaging
    if tokens is None:
        return None
    if not isinstance(tokens, list) or len(tokens) > DEVICES_LIMIT:
        raise out_of_range(f"a list of at most {DEVICES_LIMIT}", field="_messaging.pushTokens")
    drafts = [device_draft(item, "token", "_messaging.pushTokens") for item in tokens]
    return list({(draft.platform, draft.token): draft for draft in drafts}.values())


def _seen_ms(metadata: Any) -> int | None:
    """When the writer read the document that he now writes back."""
    text = metadata.get("lmt") if isinstance(metadata, Mapping) else None
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1000) if text else None
    except (ValueError, OverflowError):
        return None


def _needed(body: Mapping[str, Any], name: str) -> str:
    """A part of a log-in; what is not there or no text is an incomplete body."""
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidRequest("is required", field=name, code="IncompleteRequestBody")
    return value
