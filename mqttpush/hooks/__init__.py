"""Hooks: server code that reacts to requests and to data.

Owns the interface of the runners and what a run is: a call in, a result or a failure out. Knows no
REST, MQTT or store: what code asks of the server (send a push, read a collection) it asks of a
`Host`, handed in. The one idea: a run is a value (`Call` -> `Result`), whatever language the code
is in and whatever process it runs in, so the pipeline is the same for all runners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from mqttpush.errors import CodeFailed, MqttPushError
from mqttpush.models import Json

# What code says of its failure goes to the client and into the log.
DEBUG_LIMIT_CHARACTERS: Final = 8192


class Language(StrEnum):
    """The runners; the values are those of configuration files (spec kinvey 9)."""

    PYTHON = "python"  # a callable of an installed package: trusted
    FLEX = "external"  # an HTTP service that speaks the Flex task protocol (spec kinvey 8.8)
    JAVASCRIPT = "internal"  # a script, in a killable worker process


class FailureKind(StrEnum):
    """How a run can fail; the values are the names on Kinvey's wire (spec kinvey 8.5)."""

    SYNTAX = "BLSyntaxError"
    RUNTIME = "BLRuntimeError"
    TIMEOUT = "BLTimeoutError"
    VIOLATION = "BLViolationError"
    INTERNAL = "BLInternalError"
    REMOTE = "FlexRuntimeError"


class HookFailed(CodeFailed):
    """A run did not end well. debug: for the developer of the hook; holds no path of this machine.

    status: other than the kind's own, where a remote handler chose one. log: what the code wrote
    before it failed, as in `Result`.
    """

    def __init__(
        self,
        kind: FailureKind,
        debug: str,
        *,
        status: int | None = None,
        log: tuple[tuple[str, str], ...] = (),
        retryable: bool = False,
    ) -> None:
        self.kind = kind
        self.retryable = retryable
        self.log = log
        super().__init__(kind.value, debug[:DEBUG_LIMIT_CHARACTERS], status=status)


class FunctionMissing(HookFailed):
    """The script has no function of this name, or could not have one."""


@dataclass(frozen=True, slots=True)
class Code:
    """What runs. language decides which of the rest counts.

    function: its name (`onPreSave`, `onRequest`, a server-code endpoint). source: of a script, with
    common code put in front. entry_point: `package.module:function`. service_url, handler, secret:
    of a remote service. digest: of the source, the key of what a runner keeps warm.
    """

    language: Language
    function: str
    source: str = ""
    entry_point: str = ""
    service_url: str = ""
    handler: str = ""
    secret: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One run. hook_type: `pre`, `post`, `customEndpoint` or `serverCode` (spec kii 11).

    Of server code `request["body"]` is the parameters, and the result's `response["body"]` what the
    function returned or handed to `done`.

    request: `method headers body params entityId username userId collectionName appKey
    tempObjectStore` (spec kinvey 8.3), and for requestContext `securityContext clientAppVersion
    customRequestProperties`. response: `status headers body`. object_name: collection or endpoint.
    depth: 0 for a hook of a client's request, one more for each hook inside a hook. wall_limit_s:
    the runner ends it then.
    """

    app_id: str
    request_id: str
    hook_type: str
    object_name: str
    request: Json
    response: Json = field(default_factory=dict)
    depth: int = 0
    wall_limit_s: float = 20.0
    app: Mapping[str, Any] = field(default_factory=dict)  # backendContext: appKey, appSecret, ...


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. is_final: the code completed the request itself (`complete`, `done`).

    request, response: as the code left them; the same fields as in the call.
    """

    is_final: bool
    request: Json
    response: Json
    log: tuple[tuple[str, str], ...] = ()  # (level, message), in order


class Host(Protocol):
    """What running code may ask of the server; every question names its module and function."""

    async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
        """Answers JSON; raises HostRefused for what the code's callback gets as its error.

        | module | functions and their arguments |
        | --- | --- |
        | `push` | `sendMessage(users, message)`, `sendPayload(users, aps, extras, android)`,
          `broadcastMessage(message)`, `broadcastPayload(aps, extras, android)` |
        | `collectionAccess` | `find findOne insert save update remove findAndModify findAndRemove
          distinct count collectionExists`, the collection's name before the arguments of spec
          kinvey 8.7 |
        | `email` | `send(from, to, subject, text, replyTo, html, cc, bcc)` |
        | `api` | `request(method, path, body, content_type)`: the REST API below the app
          (`/topics/news/push/messages`) as its administrator; answers `status headers body` |
        """


class HostRefused(MqttPushError):
    """The answer to a question is an error the code can handle."""

    def __init__(self, error: str, description: str, debug: str = "") -> None:
        self.error = error
        self.description = description
        self.debug = debug
        super().__init__(f"{error}: {description}")


class Runner(Protocol):
    """One language."""

    async def check(self, code: Code) -> None:
        """Raises HookFailed (SYNTAX) for code that could never run."""

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        """Raises HookFailed. Ends within `call.wall_limit_s` and a second."""

    async def close(self) -> None: ...
