"""Business logic: what an app has put before and after its requests, and its own endpoints.

Spec kinvey 8.1 to 8.4. Owns which code runs in which order and what its outcome means for the
request. Knows no status of errors and no language. The one idea: an `Exchange` is the request as
code may change it; no unit of work is open while code runs, the verb comes before or after.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson

from mqttpush.errors import NotFound, SealBroken
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Language, Result
from mqttpush.hooks.engine import Engine
from mqttpush.models import App, Json, PrincipalKind
from mqttpush.operations.context import Context
from mqttpush.operations.server_code import place_of_service
from mqttpush.server_code import Hook, HookKind, HookService
from mqttpush.store import Transaction

PRE: Final[Mapping[str, tuple[str, ...]]] = {
    "Fetch": ("onPreFetch",),
    "Insert": ("onPreSave", "onPreInsert"),
    "Update": ("onPreSave", "onPreUpdate"),
    "Delete": ("onPreDelete",),
    "Login": ("onPreLogin",),
}
POST: Final[Mapping[str, tuple[str, ...]]] = {
    "Fetch": ("onPostFetch",),
    "Insert": ("onPostInsert", "onPostSave"),
    "Update": ("onPostUpdate", "onPostSave"),
    "Delete": ("onPostDelete",),
    "Login": ("onLoginSuccess",),
}
LOGIN_FAILURE: Final = "onLoginFailure"
ON_REQUEST: Final = "onRequest"
# The names of files and of `hooks`, in the order the reference has them.
_USUAL: Final = [name for row in (PRE, POST) for names in row.values() for name in names]
LOGIN_FUNCTIONS: Final = frozenset({*PRE["Login"], *POST["Login"], LOGIN_FAILURE})
FUNCTIONS: Final = tuple(dict.fromkeys([*_USUAL, LOGIN_FAILURE]))
USER_COLLECTION: Final = "user"
PROPERTIES_LIMIT_BYTES: Final = 8192
_APPS_LIMIT: Final = 1000
_MASTER: Final = "master"
_NO_CONTENT: Final = 204

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and what holds for his request.

    stamp: of the app's hooks, as of entering. security_context: `user`, `app` or `master`. depth:
    how many runs led to the request.
    """

    app_id: str
    stamp: int
    request_id: str
    user_id: str
    username: str
    security_context: str
    headers: Mapping[str, str]
    depth: int = 0
    escapes_templates: bool = True
    shows_master_secret: bool = True


@dataclass(slots=True)
class Exchange:
    """A request as code may change it. temp, properties: handed on from one hook to the next."""

    method: str
    collection: str
    body: Any
    params: dict[str, str]
    entity_id: str | None = None
    temp: Json = field(default_factory=dict)
    properties: Json = field(default_factory=dict)
    client_app_version: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets. body: any JSON; None is null, or with status 204 nothing."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The code of one app. codes: by kind, name and function."""

    app: App
    codes: Mapping[tuple[HookKind, str, str], Code]

    def of(self, collection: str, functions: Sequence[str]) -> list[Code]:
        """Those there are, in this order."""
        codes = self.codes
        found = (codes.get((HookKind.HOOK, collection, each)) for each in functions)
        return [code for code in found if code is not None]


class BusinessLogic:
    """Hooks and endpoints of the second dialect.

    host: what running code may ask. base_url: where services call back with a master secret; never
    what a client says (its Host header).
    """

    def __init__(
        self, context: Context, *, engine: Engine, host: Host, base_url: Callable[[], str]
    ) -> None:
        self._context = context
        self._engine = engine
        self._host = host
        self._base_url = base_url
        self._catalogues: OrderedDict[str, tuple[int, Catalogue]] = OrderedDict()

    async def before(self, asker: Asker, exchange: Exchange, operation: str) -> Answer | None:
        """Run the pre-hooks, which may change the exchange; an answer ends the request.

        Raises HookFailed, LimitReached.
        """
        catalogue = await self._catalogue(asker)
        for code in catalogue.of(exchange.collection, PRE[operation]):
            result = await self._run(code, asker, catalogue, exchange, "pre", {})
            if result.is_final:
                return _answer(result, default_status=200)
        return None

    async def after(
        self, asker: Asker, exchange: Exchange, operation: str, answer: Answer
    ) -> Answer:
        """Run the post-hooks on what the request came to; what it wrote stays whatever they do.

        Raises HookFailed, LimitReached.
        """
        functions = POST[operation]
        if operation == "Login" and answer.status >= 400:
            functions = (LOGIN_FAILURE,)
        catalogue = await self._catalogue(asker)
        for code in catalogue.of(exchange.collection, functions):
            response = {
                "status": answer.status,
                "headers": dict(answer.headers),
                "body": answer.body,
            }
            result = await self._run(code, asker, catalogue, exchange, "post", response)
            left = _answer(result, default_status=answer.status)
            if answer.status == _NO_CONTENT != left.status and left.body is None:
                left = replace(left, body={})  # there was none: its code has not chosen null
            answer = replace(left, headers=answer.headers)
            if result.is_final:
                break
        return answer

    async def has_hooks(self, asker: Asker, collection: str) -> bool:
        """Is there any code for the collection? No system call once it is known."""
        if not asker.stamp:
            return False
        codes = (await self._catalogue(asker)).codes
        return any(name == collection for kind, name, _ in codes if kind is HookKind.HOOK)

    async def endpoint(self, asker: Asker, exchange: Exchange) -> Answer:
        """Run a custom endpoint, `exchange.collection` its name (spec kinvey 8.2).

        Raises NotFound, HookFailed, LimitReached.
        """
        catalogue = await self._catalogue(asker)
        code = catalogue.codes.get((HookKind.ENDPOINT, exchange.collection, ON_REQUEST))
        if code is None:
            raise NotFound("endpoint", exchange.collection, app_id=asker.app_id)
        result = await self._run(code, asker, catalogue, exchange, "customEndpoint", {})
        return _answer(result, default_status=200)

    async def code_of(self, hook: Hook, others: Sequence[Hook]) -> Code:
        """The code of a hook that may not be stored yet, to be checked or tried.

        others: that will be stored with it; their common code counts before what is stored.
        """

        def unit(tx: Transaction) -> tuple[list[Hook], list[HookService]]:
            table = tx.server_code
            return table.hooks(hook.app_id), table.services(hook.app_id)

        hooks, services = await self._context.store.read(unit)
        by_name = {(each.kind, each.name): each for each in (*hooks, *others)}
        common = "" if hook.kind is HookKind.COMMON else _common_source(list(by_name.values()))
        return _code(hook, common, self._services(services))

    async def _catalogue(self, asker: Asker) -> Catalogue:
        app_id = asker.app_id
        known = self._catalogues.get(app_id)
        if known is not None and known[0] == asker.stamp:
            return known[1]

        def unit(tx: Transaction) -> tuple[int, Catalogue]:
            app, table = tx.apps.get(app_id), tx.server_code
            if app is None:
                raise NotFound("app", app_id)
            hooks, services = table.hooks(app_id), table.services(app_id)
            return table.hooks_stamp(app_id), _catalogue_of(app, hooks, self._services(services))

        loaded = await self._context.store.read(unit)
        self._catalogues[app_id] = loaded
        self._catalogues.move_to_end(app_id)
        if len(self._catalogues) > _APPS_LIMIT:
            self._catalogues.popitem(last=False)
        return loaded[1]

    async def _run(
        self,
        code: Code,
        asker: Asker,
        catalogue: Catalogue,
        exchange: Exchange,
        hook_type: str,
        response: Json,
    ) -> Result:
        call = Call(
            app_id=asker.app_id,
            request_id=asker.request_id,
            hook_type=hook_type,
            object_name=exchange.collection,
            request=self._request(asker, exchange),
            response=response,
            depth=asker.depth,
            wall_limit_s=self._engine.wall_limit_s(code.language),
            app=self._app(asker, catalogue.app),
        )
        result = await self._engine.run(code, call, self._host)
        left = result.request
        if hook_type == "pre":
            exchange.body = left.get("body")
            params = left.get("params")
            exchange.params = params if isinstance(params, dict) else {}
        exchange.temp = left.get("tempObjectStore") or {}
        properties = left.get("customRequestProperties") or {}
        # They travel to services in a header.
        if properties and len(orjson.dumps(properties)) > PROPERTIES_LIMIT_BYTES:
            problem = f"custom request properties have at most {PROPERTIES_LIMIT_BYTES} bytes"
            raise HookFailed(FailureKind.VIOLATION, problem)
        exchange.properties = properties
        return result

    def _request(self, asker: Asker, exchange: Exchange) -> Json:
        return {
            "method": exchange.method,
            "headers": self._headers(asker),
            "body": {} if exchange.body is None else exchange.body,
            "params": dict(exchange.params),
            "entityId": exchange.entity_id,
            "username": asker.username,
            "userId": asker.user_id,
            "collectionName": exchange.collection,
            "appKey": asker.app_id,
            "tempObjectStore": exchange.temp,
            "securityContext": asker.security_context,
            "clientAppVersion": exchange.client_app_version,
            "customRequestProperties": exchange.properties,
        }

    def _headers(self, asker: Asker) -> dict[str, str]:
        """As they came, but for the app's master secret: code has one of its own, or none."""
        headers = dict(asker.headers)
        if asker.security_context == _MASTER:
            headers.pop("authorization", None)
            if asker.shows_master_secret:
                pair = f"{asker.app_id}:{self._secret(asker)}"
                headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return headers

    def _secret(self, asker: Asker) -> str:
        """It tells a request made with it that a run came before (spec kinvey 8.8)."""
        return self._context.secrets.service_secret(asker.app_id, asker.depth + 1)

    def _app(self, asker: Asker, app: App) -> Json:
        return {
            "appKey": app.app_id,
            "appSecret": app.app_key,
            "masterSecret": self._secret(asker) if asker.shows_master_secret else None,
            "baasUrl": self._base_url(),
            "templateEscape": asker.escapes_templates,
        }

    def _services(self, services: Sequence[HookService]) -> dict[str, _Service]:
        """By name; one whose secret cannot be opened counts as not there."""
        found = {}
        for each in services:
            place = place_of_service(each.app_id, each.name)
            try:
                secret = self._context.sealer.open(place, each.sealed) if each.sealed else b""
            except SealBroken as exc:
                _log.warning("%s", exc)
                continue
            found[each.name] = _Service(each.url.rstrip("/"), secret.decode())
        return found


class _Service(NamedTuple):
    url: str
    secret: str


def security_context(kind: PrincipalKind) -> str:
    """`user`, `app` or `master`, as `requestContext.getSecurityContext` tells it."""
    names = {PrincipalKind.ADMIN: _MASTER, PrincipalKind.ANONYMOUS: "app"}
    return names.get(kind, "user")


def _catalogue_of(app: App, hooks: list[Hook], services: Mapping[str, _Service]) -> Catalogue:
    common = _common_source(hooks)
    return Catalogue(
        app,
        {
            (hook.kind, hook.name, hook.function): _code(hook, common, services)
            for hook in hooks
            if hook.kind is not HookKind.COMMON
        },
    )


def _common_source(hooks: list[Hook]) -> str:
    common = sorted((each for each in hooks if each.kind is HookKind.COMMON), key=_name)
    return "".join(f"{each.code['source']}\n" for each in common)


def _name(hook: Hook) -> str:
    return hook.name


def _code(hook: Hook, common: str, services: Mapping[str, _Service]) -> Code:
    language = Language(hook.language)
    if language is Language.PYTHON:
        return Code(language, hook.function, entry_point=hook.code["entryPoint"])
    if language is Language.JAVASCRIPT:
        source = common + hook.code["source"]
        digest = hashlib.sha256(source.encode()).hexdigest()
        return Code(language, hook.function, source=source, digest=digest)
    # `service/environment` where only the service is known means that one.
    name = hook.code["service"]
    service = services.get(name) or services.get(name.partition("/")[0])
    return Code(
        language,
        hook.function,
        # Without an address every call fails as one to a service that is down.
        service_url=service.url if service else "",
        handler=hook.code["handler"],
        secret=service.secret if service else "",
    )


def _answer(result: Result, *, default_status: int) -> Answer:
    """The answer as scripts leave it: their bodies may be JSON in a string (spec kinvey 8.4)."""
    response = result.response
    status, body = response.get("status"), response.get("body", {})
    if not status and not isinstance(status, bool):
        status = default_status
    if not isinstance(status, int) or not 200 <= status <= 599:
        status = 200  # 1xx is no answer yet: a client would wait for one
    if isinstance(body, str) and body[:1] in ("{", "["):
        with suppress(orjson.JSONDecodeError):  # else a string it is
            body = orjson.loads(body)
    try:
        orjson.dumps(body)
    except (orjson.JSONEncodeError, TypeError) as exc:
        raise HookFailed(FailureKind.RUNTIME, f"the answer is not JSON: {exc}") from exc
    return Answer(status, body)
