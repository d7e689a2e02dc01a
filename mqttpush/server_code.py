"""Nouns of server code: hooks, services, versions, triggers, schedules, due runs, log lines.

Knows no runner, SQL or HTTP. The one idea: code that answers a request (a hook, an endpoint) is
looked up and run at once; code that reacts to what happened is a `Job`, written in the unit of what
happened, so that no crash can lose it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from mqttpush.models import Json


class HookKind(StrEnum):
    """What a piece of code is to its app."""

    HOOK = "hook"  # of a collection
    ENDPOINT = "endpoint"
    COMMON = "common"  # put in front of every script


class JobKind(StrEnum):
    """What is to be run."""

    SERVER_CODE = "serverCode"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Hook:
    """One piece of code of an app.

    name: the collection's, the endpoint's, or that of the common code. function: `onPreSave`, ….
    language: a value of `hooks.Language`. code: `source`, `entryPoint`, or `service` and `handler`.
    """

    app_id: str
    kind: HookKind
    name: str
    function: str
    language: str
    code: Json
    modified_ms: int = 0


class HookService(NamedTuple):
    """An HTTP service that hooks of an app may name. sealed: the secret sent to it, or nothing."""

    app_id: str
    name: str
    url: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """A deployed file of server code. hooks: its hook document, None while it has none."""

    app_id: str
    version_id: str
    source: str
    hooks: Json | None
    is_current: bool
    created_ms: int


class Trigger(NamedTuple):
    """The current version wants `endpoint` run at this event. place: `users/*/buckets/inbox`."""

    place: str
    event: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something runs by itself. plan: a cron expression, or start and interval as JSON."""

    app_id: str
    kind: JobKind
    name: str
    plan: str
    endpoint: str
    parameters: Json
    next_ms: int


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is due. place: what caused it. depth: how many runs led to it."""

    app_id: str
    kind: JobKind
    endpoint: str
    place: str
    parameters: Json = field(default_factory=dict)
    depth: int = 0
    attempts: int = 0
    ready_ms: int = 0
    created_ms: int = 0
    job_id: int = 0


class LogLine(NamedTuple):
    """Something running code said, or how a run failed. level: `info warn error fatal`."""

    app_id: str
    request_id: str
    at_ms: int
    place: str
    function: str
    level: str
    message: str
