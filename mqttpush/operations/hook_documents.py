"""Hook documents and schedules: what they may say, and when something is due (spec kii 11, 8.9).

Knows no store and no runner. croniter reads cron expressions: it knows names, steps, ranges and the
last day of a month, and is what most Python schedulers use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from croniter import CroniterError, croniter

from mqttpush.config import HookSettings
from mqttpush.errors import InvalidRequest
from mqttpush.models import NEVER_MS, Json
from mqttpush.operations.triggers import BUCKET_EVENTS, GROUPS, INSTALLATIONS, THINGS, USERS
from mqttpush.server_code import Trigger

SCHEME: Final = "kiicloud://"
SCHEDULER: Final = "scheduler"
ENTRIES_LIMIT: Final = 500
PARAMETERS_LIMIT: Final = 100
# Finding the next 29 February takes 5 ms: 100 of them half a second, in a thread.
SCHEDULES_LIMIT: Final = 100
CRON_LIMIT_CHARACTERS: Final = 200
_BUCKET: Final = re.compile(r"((users|groups|things)/\*/)?buckets/[A-Za-z0-9_-]{2,64}")
# Accepted for old files: this server has no such event, so nothing comes of them.
_PUBLISHED: Final = "DATA_OBJECT_BODY_PUBLISHED"
_BUCKET_EVENTS: Final = frozenset({*(each.value for each in BUCKET_EVENTS), _PUBLISHED})
_EVENTS: Final[Mapping[str, frozenset[str]]] = {
    USERS: frozenset(
        {
            "USER_CREATED",
            "USER_EMAIL_VERIFIED",
            "USER_PHONE_VERIFIED",
            "USER_PASSWORD_RESET_COMPLETED",
            "USER_PASSWORD_CHANGED",
            "USER_DELETED",
            "USER_UPDATED",
        }
    ),
    GROUPS: frozenset(
        {"GROUP_CREATED", "GROUP_DELETED", "GROUP_MEMBERS_ADDED", "GROUP_MEMBERS_REMOVED"}
    ),
    THINGS: frozenset({"THING_CREATED", "THING_UPDATED", "THING_DELETED"}),
    INSTALLATIONS: frozenset({"INSTALLATION_CREATED", "INSTALLATION_DELETED"}),
}
_WHAT: Final = "EXECUTE_SERVER_CODE"
PYTHON_NAME: Final = re.compile(r"[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,100}")
_URL: Final = re.compile(r"https?://[!-~]{1,2000}")
_ENDPOINT_NAME: Final = re.compile(r"[A-Za-z_][\w.-]{0,127}")
# Spec kinvey 8.9; a minute has 60,000 ms.
INTERVALS_MS: Final = {
    "weekly": 7 * 24 * 60 * 60_000,
    "daily": 24 * 60 * 60_000,
    "hourly": 60 * 60_000,
    "30-minutes": 30 * 60_000,
    "10-minutes": 10 * 60_000,
    "5-minutes": 5 * 60_000,
    "1-minute": 60_000,
}


@dataclass(frozen=True, slots=True)
class CronEntry:
    """One line of the scheduler: what runs when, in UTC."""

    name: str
    cron: str
    endpoint: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class HookDocument:
    """A hook document, read."""

    triggers: tuple[Trigger, ...]
    schedules: tuple[CronEntry, ...]

    @property
    def endpoints(self) -> frozenset[str]:
        triggers, schedules = self.triggers, self.schedules
        return frozenset(e.endpoint for e in triggers) | {e.endpoint for e in schedules}


def read_document(document: Mapping[str, Any]) -> HookDocument:
    """Raises InvalidRequest that names the place and what is wrong with it."""
    triggers: list[Trigger] = []
    schedules: list[CronEntry] = []
    for uri, entries in document.items():
        place = uri.removeprefix(SCHEME)
        if place == uri:
            raise InvalidRequest(f"does not begin with {SCHEME}", field=uri)
        if place == SCHEDULER:
            schedules.extend(_schedules(uri, entries))
        else:
            triggers.extend(_triggers(uri, place, entries))
    if len(triggers) + len(schedules) > ENTRIES_LIMIT:
        raise InvalidRequest(f"a hook document has at most {ENTRIES_LIMIT} entries")
    if len(schedules) > SCHEDULES_LIMIT:
        raise InvalidRequest(f"a hook document has at most {SCHEDULES_LIMIT} schedules")
    return HookDocument(tuple(triggers), tuple(schedules))


def names_endpoint(document: Mapping[str, Any], endpoint: str) -> bool:
    """Does a document that has been read before name it? On the path of clients: no parsing."""
    entries = [
        entry
        for place in document.values()
        for entry in (place.values() if isinstance(place, dict) else place)
    ]
    return any(entry.get("endpoint") == endpoint for entry in entries)


def require_allowed(endpoint: str, settings: HookSettings) -> None:
    """Raises InvalidRequest for what the operator has not opened to apps."""
    if is_url(endpoint) and not _is_below(endpoint, settings.endpoint_urls):
        raise InvalidRequest(f"{endpoint}: hooks.endpoint_urls does not allow it", field="endpoint")
    module = endpoint.partition(":")[0]
    if is_python(endpoint) and not any(
        module == each or module.startswith(f"{each}.") for each in settings.python_modules
    ):
        raise InvalidRequest(
            f"{endpoint}: hooks.python_modules does not allow it", field="endpoint"
        )


def _is_below(url: str, starts: Sequence[str]) -> bool:
    """Does it lead below one of the starts, and not up again?"""
    path = unquote(url.partition("?")[0].partition("#")[0]).replace("\\", "/")
    if any(part in (".", "..") for part in path.split("/")):
        return False
    return any(url.startswith(f"{start.rstrip('/')}/") for start in starts)


def is_url(endpoint: str) -> bool:
    """Is the endpoint an HTTP service?"""
    return endpoint.startswith(("http://", "https://"))


def is_python(endpoint: str) -> bool:
    """Is it a Python callable, `package.module:function`?"""
    return ":" in endpoint and not is_url(endpoint)


def next_cron_ms(cron: str, after_ms: int) -> int:
    """When it is due next; NEVER_MS for 30 February. Raises InvalidRequest."""
    after = datetime.fromtimestamp(after_ms / 1000, UTC)
    try:
        _check_cron(cron)
        moment = croniter(cron, after, max_years_between_matches=10).get_next(datetime)
    except CroniterError as exc:
        if "failed to find next date" in str(exc):
            return NEVER_MS
        raise InvalidRequest(f"{cron!r} is no cron expression: {exc}", field="cron") from exc
    return round(moment.timestamp() * 1000)


def next_interval_ms(start_ms: int, interval: str | None, after_ms: int) -> int:
    """When an endpoint's schedule is due next; what was missed is not caught up (8.9)."""
    if start_ms > after_ms:
        return start_ms
    if interval is None:
        return NEVER_MS
    step_ms = INTERVALS_MS[interval]
    return start_ms + ((after_ms - start_ms) // step_ms + 1) * step_ms


def _triggers(uri: str, place: str, entries: object) -> Iterator[Trigger]:
    events = _BUCKET_EVENTS if _BUCKET.fullmatch(place) else _EVENTS.get(place)
    if events is None:
        raise InvalidRequest("is no place hooks can wait at", field=uri)
    if not isinstance(entries, list):
        raise InvalidRequest("must be a list of triggers", field=uri)
    for entry in entries:
        fields = _entry(uri, entry)
        if fields.get("when") not in events:
            raise InvalidRequest(f"when must be one of {', '.join(sorted(events))}", field=uri)
        yield Trigger(place, fields["when"], _endpoint(uri, fields))


def _schedules(uri: str, entries: object) -> Iterator[CronEntry]:
    if not isinstance(entries, dict):
        raise InvalidRequest("must be an object of schedules by name", field=uri)
    for name, entry in entries.items():
        fields = _entry(uri, entry)
        cron, parameters = fields.get("cron"), fields.get("parameters") or {}
        if not isinstance(cron, str):
            raise InvalidRequest(f"{name} needs cron", field=uri)
        _check_cron(cron)
        if not isinstance(parameters, dict) or len(parameters) > PARAMETERS_LIMIT:
            raise InvalidRequest(f"parameters of {name} must be an object", field=uri)
        yield CronEntry(name, cron, _endpoint(uri, fields), parameters)


def _check_cron(cron: str) -> None:
    """Raises InvalidRequest for what is no cron expression; cheap."""
    if len(cron) > CRON_LIMIT_CHARACTERS:
        raise InvalidRequest(f"has more than {CRON_LIMIT_CHARACTERS} characters", field="cron")
    # Seconds and the non-standard sixth field are left out: spec kii 11 has five.
    if len(cron.split()) != 5:
        raise InvalidRequest(f"{cron!r} has not five fields", field="cron")
    try:
        croniter.expand(cron)
    except CroniterError as exc:
        raise InvalidRequest(f"{cron!r} is no cron expression: {exc}", field="cron") from exc


def _entry(uri: str, entry: object) -> Json:
    if not isinstance(entry, dict):
        raise InvalidRequest("an entry must be an object", field=uri)
    if entry.get("what", _WHAT) != _WHAT:
        raise InvalidRequest(f"what must be {_WHAT}", field=uri)
    return entry


def _endpoint(uri: str, fields: Json) -> str:
    endpoint = fields.get("endpoint")
    if isinstance(endpoint, str):
        pattern = _URL if is_url(endpoint) else PYTHON_NAME if ":" in endpoint else _ENDPOINT_NAME
        if pattern.fullmatch(endpoint):
            return endpoint
    raise InvalidRequest(
        "endpoint must be a function's name, package.module:function, or a URL", field=uri
    )
