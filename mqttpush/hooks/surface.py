"""What a hook in Python is given: request, response and modules (spec kinvey 8.3, 8.4, 8.7).

Knows no runner's inside and no server: what must be asked of the server goes through `Ask`. The one
idea: the same objects serve plain and `async` functions; for a plain one a question is answered
before it returns, for an `async` one it is to be awaited.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mqttpush.models import Json

# (module, function, arguments) -> the answer, or something to await.
Ask = Callable[[str, str, list[Any]], Any]


class Request:
    """What the client asked for. In a pre-hook `body` and `params` may be changed."""

    def __init__(self, fields: Json) -> None:
        self.method: str = fields.get("method", "")
        self.headers: dict[str, str] = fields.get("headers", {})
        self.body: Any = fields.get("body")
        self.params: dict[str, str] = fields.get("params", {})
        self.entity_id: str | None = fields.get("entityId")
        self.username: str = fields.get("username", "")
        self.user_id: str = fields.get("userId", "")
        self.collection_name: str = fields.get("collectionName", "")
        self.app_key: str = fields.get("appKey", "")


class Response:
    """What the client gets. In a post-hook it starts as what the request came to."""

    def __init__(self, fields: Json) -> None:
        self.status: int = fields.get("status") or 0
        self.headers: dict[str, str] = fields.get("headers") or {}
        self.body: Any = fields.get("body", {})
        self.is_complete = False
        self.problem: str | None = None

    def complete(self, status: int | None = None) -> None:
        """The answer is `body`, with this status; before the verb this means without it.

        The first of `complete` and `error` counts; the function goes on until it returns.
        """
        if not self.is_complete and self.problem is None:
            self.is_complete = True
            self.status = self.status if status is None else status

    def error(self, problem: object) -> None:
        """The answer is 400 BLRuntimeError with this text."""
        if not self.is_complete and self.problem is None:
            self.problem = str(problem)


class Logger:
    """Lines for `mqttpush hooks log`, at most so many bytes a run."""

    def __init__(self, limit_bytes: int) -> None:
        self.lines: list[tuple[str, str]] = []
        self._left_bytes = limit_bytes

    def info(self, message: object) -> None:
        self._add("info", message)

    def warn(self, message: object) -> None:
        self._add("warn", message)

    def error(self, message: object) -> None:
        self._add("error", message)

    def fatal(self, message: object) -> None:
        self._add("fatal", message)

    def _add(self, level: str, message: object) -> None:
        whole, left_bytes = str(message), self._left_bytes
        text = whole[: max(left_bytes, 0)]
        self._left_bytes -= max(len(text.encode(errors="replace")), 1)
        if text:
            self.lines.append((level, text))
        if left_bytes > 0 and (len(text) < len(whole) or self._left_bytes <= 0):
            self.lines.append(("warn", "the rest is left out (hooks.max_log_bytes)"))


class Push:
    """Pushes to devices of users (spec kinvey 5)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def send_message(self, users: Any, message: str) -> Any:
        """users: a user document, its ID, or a list of either."""
        return self._ask("push", "sendMessage", [users, message])

    def send_payload(
        self, users: Any, aps: Any = None, extras: Any = None, android: Any = None
    ) -> Any:
        return self._ask("push", "sendPayload", [users, aps, extras, android])

    def broadcast_message(self, message: str) -> Any:
        return self._ask("push", "broadcastMessage", [message])

    def broadcast_payload(self, aps: Any = None, extras: Any = None, android: Any = None) -> Any:
        return self._ask("push", "broadcastPayload", [aps, extras, android])


class Collection:
    """Direct access to one collection: no hooks, no rights, no live events."""

    def __init__(self, ask: Ask, name: str) -> None:
        self._ask = ask
        self._name = name

    def find(self, query: Any = None, **options: Any) -> Any:
        return self._call("find", query or {}, options)

    def find_one(self, query: Any = None, **options: Any) -> Any:
        return self._call("findOne", query or {}, options)

    def insert(self, documents: Any) -> Any:
        return self._call("insert", documents)

    def save(self, document: Json) -> Any:
        return self._call("save", document)

    def update(self, query: Any, change: Json, **options: Any) -> Any:
        return self._call("update", query, change, options)

    def remove(self, query: Any, **options: Any) -> Any:
        return self._call("remove", query, options)

    def find_and_modify(self, query: Any, sort: Any, change: Json, **options: Any) -> Any:
        return self._call("findAndModify", query, sort, change, options)

    def find_and_remove(self, query: Any, sort: Any = None, **options: Any) -> Any:
        return self._call("findAndRemove", query, sort, options)

    def distinct(self, field: str, query: Any = None) -> Any:
        return self._call("distinct", field, query or {})

    def count(self, query: Any = None) -> Any:
        return self._call("count", query or {})

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._ask("collectionAccess", function, [self._name, *arguments])


class CollectionAccess:
    """Collections by name; `user` is the users."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def collection(self, name: str) -> Collection:
        return Collection(self._ask, name)

    def collection_exists(self, name: str) -> Any:
        return self._ask("collectionAccess", "collectionExists", [name])


class Email:
    """Mail, where the operator has configured a server."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def send(
        self,
        sender: str,
        to: str,
        subject: str,
        text: str,
        *,
        reply_to: str | None = None,
        html: str | None = None,
        cc: str | None = None,
        bcc: str | None = None,
    ) -> Any:
        return self._ask("email", "send", [sender, to, subject, text, reply_to, html, cc, bcc])


class Api:
    """The REST API below the app, as its administrator."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def request(self, method: str, path: str, body: Any = None, content_type: str = "") -> Any:
        """path: `/topics/news/push/messages`. Answers `status`, `headers` and `body`."""
        return self._ask("api", "request", [method, path, body, content_type])

    def send_to_topic(self, topic_id: str, data: Json, scope: str = "") -> Any:
        """scope: empty for the app's topics, or `/users/{userID}` and the like."""
        return self._send(_path(scope, "topics", topic_id), data)

    def send_to_user(self, user_id: str, data: Json) -> Any:
        return self._send(_path("", "users", user_id), data)

    def send_to_thing(self, thing_id: str, data: Json) -> Any:
        return self._send(_path("", "things", thing_id), data)

    def create_object(self, bucket_id: str, document: Json, scope: str = "") -> Any:
        return self.request("POST", _path(scope, "buckets", bucket_id, "objects"), document)

    def put_object(self, bucket_id: str, object_id: str, document: Json, scope: str = "") -> Any:
        path = _path(scope, "buckets", bucket_id, "objects", object_id)
        return self.request("PUT", path, document)

    def get_object(self, bucket_id: str, object_id: str, scope: str = "") -> Any:
        return self.request("GET", _path(scope, "buckets", bucket_id, "objects", object_id))

    def delete_object(self, bucket_id: str, object_id: str, scope: str = "") -> Any:
        return self.request("DELETE", _path(scope, "buckets", bucket_id, "objects", object_id))

    def _send(self, place: str, data: Json) -> Any:
        networks = {key: {"enabled": True} for key in ("mqtt", "fcm", "apns", "jpush")}
        return self.request("POST", f"{place}/push/messages", {"data": data, **networks})


def _path(scope: str, *parts: str) -> str:
    """A part may be what a client sent: it must not lead anywhere else."""
    return "/".join((scope, *(quote(str(part), safe="") for part in parts)))


class BackendContext:
    """The app and its secrets; the master secret is None where the app withholds it."""

    def __init__(self, app: Json) -> None:
        self.app_key: str = app.get("appKey", "")
        self.app_secret: str | None = app.get("appSecret")
        self.master_secret: str | None = app.get("masterSecret")


class RequestContext:
    """Who asks. custom_properties: those of the request, handed on to its post-hook."""

    def __init__(self, fields: Json) -> None:
        self.user_id: str = fields.get("userId", "")
        self.username: str = fields.get("username", "")
        self.security_context: str = fields.get("securityContext", "unknown")
        self.client_app_version: str | None = fields.get("clientAppVersion")
        self.custom_properties: Json = fields.get("customRequestProperties") or {}


class Modules:
    """Everything a hook may use. temp: lives from the pre-hook to the post-hook of a request."""

    def __init__(self, request: Json, app: Json, ask: Ask, logger: Logger) -> None:
        self.push = Push(ask)
        self.collection_access = CollectionAccess(ask)
        self.email = Email(ask)
        self.api = Api(ask)
        self.backend_context = BackendContext(app)
        self.request_context = RequestContext(request)
        self.logger = logger
        self.temp: Json = request.get("tempObjectStore") or {}
        self._app_key = self.backend_context.app_key

    def kinvey_entity(self, document: Json | None = None) -> Json:
        """The document with `_acl` and `_kmd` where it has none; an `_id` is given when stored."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        own = {"_acl": {"creator": self._app_key}, "_kmd": {"ect": now, "lmt": now}}
        return {**own, **(document or {})}
