"""The control interface: what `Providers` offers, as JSON over HTTP on its own port.

Owns its routes. Knows no network's rules. For teams whose tests are not in Python, and for the
simulator as a process of its own. There is no login: it listens where the providers listen, which
is this machine unless somebody says otherwise. The one idea: a body's names are the arguments of a
method of the provider's, so the two interfaces cannot differ.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson
from pydantic import TypeAdapter, ValidationError

from mqttpush.provider_simulator.faults import Fault
from mqttpush.provider_simulator.ledger import Arrival
from mqttpush.provider_simulator.provider import Outcome, Provider, Reply, Request

if TYPE_CHECKING:
    from mqttpush.provider_simulator.providers import Providers

JSON_TYPE = (("content-type", "application/json"),)
WAIT_LIMIT_S = 60.0
_FAULTS = TypeAdapter(list[Fault])
_FAULT_NAMES = frozenset(field.name for field in fields(Fault))


class Control:
    """Routes of the control interface, by method and path."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        self._waits: set[asyncio.Task[None]] = set()
        every = providers.by_network()
        fcm, apns = providers.fcm, providers.apns
        self.routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "/"): providers.overview,
            ("GET", "/totals"): lambda: {
                name: each.ledger.report() for name, each in every.items()
            },
            ("POST", "/reset"): providers.reset,
            ("GET", "/faults"): providers.fault_report,
            ("DELETE", "/faults"): providers.clear_faults,
            ("POST", "/service-accounts"): fcm.make_service_account,
            ("POST", "/service-accounts/delete"): fcm.delete_service_account,
            ("POST", "/apns-keys"): apns.make_key,
            ("POST", "/apns-certificates"): apns.make_certificate,
            ("POST", "/jpush-pairs"): providers.jpush.make_pair,
            ("POST", "/vapid-keys"): providers.webpush.make_vapid,
            ("POST", "/expire/fcm"): fcm.expire_access_tokens,
            ("POST", "/expire/apns"): apns.expire_provider_tokens,
            ("POST", "/bind/fcm"): fcm.bind,
            ("POST", "/bind/apns"): apns.bind,
            ("POST", "/bind/jpush"): providers.jpush.bind,
            ("POST", "/forget/webpush"): providers.webpush.forget,
        }
        for name, provider in every.items():
            self.routes |= {
                ("POST", f"/tokens/{name}"): provider.make_tokens,
                ("POST", f"/dead/{name}"): provider.kill,
                ("POST", f"/alive/{name}"): provider.revive,
                ("GET", f"/counts/{name}"): lambda ledger=provider.ledger: ledger.count_by_token,
            }

    def receive(self, request: Request) -> Outcome:
        """Answer one request."""
        parts = urlsplit(request.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            body = orjson.loads(request.body) if request.body else {}
            if (request.method, parts.path) == ("POST", "/faults"):
                return _done(self._add_faults(body))
            if request.method == "GET" and parts.path.startswith(("/pushes/", "/wait/")):
                _, verb, network = parts.path.split("/", 2)
                provider = self._providers.provider(network)
                if verb == "pushes":
                    return _done(_pushes(provider, query))
                return self._wait(provider, query)
            route = self.routes.get((request.method, parts.path))
            if route is None:
                return _failed(404, f"no route {request.method} {parts.path}")
            return _done(route(**body))
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, error["loc"]))
            return _failed(400, f"{place}: {error['msg']}")
        except (TypeError, ValueError, KeyError) as exc:
            return _failed(400, f"{type(exc).__name__}: {exc}")

    def _add_faults(self, body: Any) -> list[dict[str, Any]]:
        documents = body if isinstance(body, list) else [body]
        for document in documents:
            if isinstance(document, dict) and (unknown := document.keys() - _FAULT_NAMES):
                raise ValueError(
                    f"a fault has no {min(unknown)}: {', '.join(sorted(_FAULT_NAMES))}"
                )
        self._providers.add_faults(*_FAULTS.validate_python(documents))
        return self._providers.fault_report()

    def _wait(self, provider: Provider, query: Mapping[str, str]) -> Outcome:
        """Hold the answer back until so many pushes were taken, or the time is up."""
        wanted_count = int(query["accepted"])
        limit_s = min(float(query.get("timeout_s", WAIT_LIMIT_S)), WAIT_LIMIT_S)
        found: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            status = 200
            try:
                async with asyncio.timeout(limit_s):
                    await provider.ledger.wait_for(wanted_count)
            except TimeoutError:
                status = 408
            found.set_result(_reply(status, provider.ledger.report()))

        task = asyncio.get_running_loop().create_task(wait())
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)
        return Outcome(Reply(200), later=found)


def _pushes(provider: Provider, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """The last push of one device, or the most recent ones of all, oldest first."""
    if token := query.get("token"):
        last = provider.last(token)
        return [] if last is None else [_shown(last, provider.count(token))]
    limit = int(query.get("limit", 100))
    recent = list(provider.ledger.recent)[-limit:]
    counts = provider.ledger.count_by_token
    return [_shown(arrival, counts.get(arrival.token, 0)) for arrival in recent]


def _shown(arrival: Arrival, count: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "token": arrival.token,
        "count": count,
        "at_ms": arrival.at_ms,
        "headers": dict(arrival.headers),
    }
    try:
        document["payload"] = orjson.loads(arrival.payload)
    except orjson.JSONDecodeError:
        document["payload_base64"] = base64.b64encode(arrival.payload).decode()
    return document


def _done(result: Any) -> Outcome:
    if result is None:
        result = {}
    elif isinstance(result, list) and all(type(each) is str for each in result):
        result = {"tokens": result}
    elif is_dataclass(result) and not isinstance(result, type):
        result = asdict(result)
    return Outcome(_reply(200, result))


def _failed(status: int, problem: str) -> Outcome:
    return Outcome(_reply(status, {"error": problem}))


def _reply(status: int, document: Any) -> Reply:
    def encode(value: Any) -> str:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        raise TypeError(type(value).__name__)

    return Reply(status, orjson.dumps(document, default=encode), JSON_TYPE)
