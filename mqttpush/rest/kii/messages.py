"""Sending: to a topic, or directly to a user or thing (spec kii 6.4, 7, 8).

Owns the request body of section 8 and its rules 8.5, one entry of a table each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json, Message, PrincipalKind
from mqttpush.operations.deliveries import Deliveries, TracePage
from mqttpush.operations.messages import DELIVERED, Messages
from mqttpush.pushes import Trace
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    scope_of,
    takes,
    thing_reference,
    topic_id_of,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route

_NETWORKS: Final = ("fcm", "gcm", "apns", "jpush", "webpush", "mqtt")
_GCM_RESERVED: Final = frozenset(
    {
        "from",
        "registration_ids",
        "collapse_key",
        "data",
        "delay_while_idle",
        "time_to_live",
        "restricted_package_name",
        "dry_run",
    }
)
_FCM_RESERVED: Final = frozenset(
    {
        "from",
        "message_type",
        "collapse_key",
        "priority",
        "ttl",
        "restricted_package_name",
        "notification",
        "fcm_options",
        "direct_boot_ok",
    }
)

PAGE_SIZE: Final = 200
_PART: Final = "`enabled` chooses the network; `data` goes over the common data"


class SendPushMessage(BaseModel):
    """Top level of the body (spec kii 8.1); unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    data: dict[str, Any] = Field(
        default_factory=dict, description="flat: no objects and no arrays; sent to every network"
    )
    pushMessageType: str | None = None  # noqa: N815
    sendToDevelopment: bool = True  # noqa: N815
    sendToProduction: bool = True  # noqa: N815
    sendAppID: bool = False  # noqa: N815
    sendSender: bool = True  # noqa: N815
    sendWhen: bool = False  # noqa: N815
    sendOrigin: bool = False  # noqa: N815
    sendObjectScope: bool = True  # noqa: N815
    sendTopicID: bool = True  # noqa: N815
    delivery: Literal["everywhere", "once"] | None = Field(
        None,
        description="`once`: phones only of those whom no live connection reached; absent: as the"
        " app has it, at first `everywhere`",
    )
    fcm: dict[str, Any] | None = Field(None, description=_PART)
    gcm: dict[str, Any] | None = Field(None, description=f"{_PART}; `timeToLive`, `collapseKey`")
    apns: dict[str, Any] | None = Field(None, description=f"{_PART}; `alert`, `sound`, `badge`")
    jpush: dict[str, Any] | None = Field(None, description=_PART)
    webpush: dict[str, Any] | None = Field(
        None, description=f"{_PART}; `notification`, `timeToLive`, `urgency`"
    )
    mqtt: dict[str, Any] | None = Field(None, description=_PART)


class MessageRoutes:
    """…/push/messages."""

    def __init__(self, messages: Messages, deliveries: Deliveries) -> None:
        self._messages = messages
        self._deliveries = deliveries

    def table(self) -> Iterator[Route]:
        to_topic = f"{APP}{{scope}}/topics/{{topicID}}/push/messages"
        body = takes(SendPushMessage, "SendPushMessageRequest")
        sent = gives(answers.MessageAccepted, "SendPushMessageResponse")
        told = gives(answers.MessageFate, "PushMessageRetrievalResponse")
        fate, became = f"{to_topic}/{{messageID}}", "What became of a message"
        send = "Send to a topic's subscribers"
        in_scopes = [
            Route("POST", to_topic, self.send_to_topic, send, (201,), body, sent),
            Route("GET", fate, self.fate, became, answer=told),
        ]
        yield from in_every_scope(iter(in_scopes))
        to_user = f"{APP}/users/{{userID}}/push/messages"
        to_thing = f"{APP}/things/{{thingID}}/push/messages"
        yield Route("POST", to_user, self.send_to_user, "Send to one user", (201,), body, sent)
        yield Route("POST", to_thing, self.send_to_thing, "Send to one thing", (201,), body, sent)
        for path in (to_user, to_thing, f"{APP}/push/messages"):
            one = f"{path}/{{messageID}}"
            yield Route("GET", one, self.fate, became, answer=told)
        traced = gives(answers.DeviceTraces, "PushDeliveriesRetrievalResponse")
        yield Route(
            "GET",
            f"{APP}/push/messages/{{messageID}}/deliveries",
            self.deliveries,
            "What became of a message on each phone or browser",
            answer=traced,
            parameters=("paginationKey",),
        )
        yield Route(
            "GET",
            f"{APP}/installations/{{installationID}}/push/deliveries",
            self.deliveries_to_device,
            "What was last sent to a phone or browser",
            answer=traced,
        )

    async def send_to_topic(self, request: ApiRequest) -> ApiResponse:
        message_id = await self._messages.send_to_topic(
            credentials_of(request), scope_of(request), topic_id_of(request), message_of(request)
        )
        return _accepted(message_id)

    async def send_to_user(self, request: ApiRequest) -> ApiResponse:
        target = user_reference(request.parameters["userID"])
        message_id = await self._messages.send_direct(
            credentials_of(request), PrincipalKind.USER, target, message_of(request)
        )
        return _accepted(message_id)

    async def send_to_thing(self, request: ApiRequest) -> ApiResponse:
        target = thing_reference(request.parameters["thingID"])
        message_id = await self._messages.send_direct(
            credentials_of(request), PrincipalKind.THING, target, message_of(request)
        )
        return _accepted(message_id)

    async def fate(self, request: ApiRequest) -> ApiResponse:
        """Counts by network; they come in after the message was accepted."""
        found = await self._messages.fate(credentials_of(request), request.parameters["messageID"])
        networks: dict[str, Json] = {}
        for network, outcome, count in found.outcomes:
            counts = networks.setdefault(network, {"recipients": 0, "delivered": 0, "dropped": {}})
            counts["recipients"] += count
            if outcome == DELIVERED:
                counts["delivered"] += count
            else:
                counts["dropped"][outcome] = count
        for network, (waiting_count, is_complete) in found.waiting.items():
            counts = networks.setdefault(network, {"recipients": 0, "delivered": 0, "dropped": {}})
            counts["recipients"] += waiting_count
            counts["waiting"] = waiting_count
            counts["isComplete"] = is_complete
        fields = {
            "pushMessageID": found.record.message_id,
            "sentTo": found.record.place,
            "sentAt": found.record.sent_ms,
            "networks": networks,
        }
        return ApiResponse(200, fields, kii_type("PushMessageRetrievalResponse"))

    async def deliveries(self, request: ApiRequest) -> ApiResponse:
        """Every device of the message, for the admin."""
        page = await self._deliveries.of_message(
            credentials_of(request),
            request.parameters["messageID"],
            request.query.get("paginationKey", ""),
            PAGE_SIZE,
        )
        return _traced(page)

    async def deliveries_to_device(self, request: ApiRequest) -> ApiResponse:
        """For the admin."""
        page = await self._deliveries.of_installation(
            credentials_of(request), request.parameters["installationID"], PAGE_SIZE
        )
        return _traced(page)


def _traced(page: TracePage) -> ApiResponse:
    fields: Json = {"deliveries": [_trace(each) for each in page.traces]}
    if page.next_after is not None:
        fields["paginationKey"] = page.next_after
    return ApiResponse(200, fields, kii_type("PushDeliveriesRetrievalResponse"))


def _trace(trace: Trace) -> Json:
    kind, _, identifier = trace.subject.partition(":")
    fields: Json = {
        "installationID": trace.installation_id,
        "network": trace.network,
        "sentTo": trace.place,
        f"{kind}ID": identifier,
        "attempts": trace.attempts,
        "pushID": trace.push_id,
    }
    if trace.message_id:
        fields["pushMessageID"] = trace.message_id
    if trace.ending is None:
        fields["nextTryAt"] = trace.ready_ms
    else:
        fields |= {"ending": trace.ending, "endedAt": trace.done_ms}
    if trace.code:
        fields["code"] = trace.code
    return fields


def message_of(request: ApiRequest) -> Message:
    """The message of a request's body; raises InvalidRequest by the rules of spec kii 8.5."""
    body = request.parse(SendPushMessage)
    parts: dict[str, Json] = {
        name: part for name in _NETWORKS if (part := getattr(body, name)) is not None
    }
    if not parts:
        raise InvalidRequest("name at least one of fcm, gcm, apns, jpush, webpush, mqtt")
    _require_flat("data", body.data)
    for name, part in parts.items():
        _check_part(name, part)
    enabled = {name: part for name, part in parts.items() if part.get("enabled")}
    if parts.get("gcm", {}).get("dryRun") is True and "apns" in enabled:
        raise InvalidRequest("not while apns is enabled", field="gcm.dryRun")
    for name, part in enabled.items():
        _check_enabled(name, part, body.data)
    return Message(
        data=body.data,
        networks=enabled,
        message_type=body.pushMessageType,
        to_development=body.sendToDevelopment,
        to_production=body.sendToProduction,
        sends_app_id=body.sendAppID,
        sends_sender=body.sendSender,
        sends_when=body.sendWhen,
        sends_origin=body.sendOrigin,
        sends_object_scope=body.sendObjectScope,
        sends_topic_id=body.sendTopicID,
        is_once=None if body.delivery is None else body.delivery == "once",
    )


def _accepted(message_id: str) -> ApiResponse:
    return ApiResponse(201, {"pushMessageID": message_id}, kii_type("SendPushMessageResponse"))


def _check_part(name: str, part: Json) -> None:
    """What holds for a network's object, enabled or not."""
    enabled = part.get("enabled", False if name == "mqtt" else None)
    if not isinstance(enabled, bool):
        raise InvalidRequest("is required and must be true or false", field=f"{name}.enabled")
    data = part.get("data")
    if data is None:
        return
    if not isinstance(data, dict):
        raise InvalidRequest("must be an object", field=f"{name}.data")
    if name in ("gcm", "fcm"):
        _require_strings(f"{name}.data", data)
    elif name == "mqtt" or enabled:
        _require_flat(f"{name}.data", data)


def _check_enabled(name: str, part: Json, data: Json) -> None:
    """What holds for an enabled network."""
    own_data: Json = part.get("data") or {}
    is_reserved = _RESERVED_KEY.get(name)
    if is_reserved is not None:
        for key in (*data, *own_data):
            if is_reserved(key):
                raise InvalidRequest(f"the key {key} is reserved by {name}", field="data")
    if name == "gcm" and "timeToLive" in part and not part.get("collapseKey"):
        raise InvalidRequest("needs collapseKey", field="gcm.timeToLive")
    shown = part.get("notification") or part.get("alert")
    if not data and not own_data and not shown:
        raise InvalidRequest(f"is required, {name} has no data of its own", field="data")


def _is_gcm_reserved(key: str) -> bool:
    return key.startswith("google.") or key in _GCM_RESERVED


def _is_fcm_reserved(key: str) -> bool:
    return key.startswith(("google.", "gcm.")) or key in _FCM_RESERVED


_RESERVED_KEY: Final[Mapping[str, Callable[[str], bool]]] = {
    "gcm": _is_gcm_reserved,
    "fcm": _is_fcm_reserved,
}


def _require_flat(field: str, data: Json) -> None:
    for key, value in data.items():
        if isinstance(value, dict | list):
            raise InvalidRequest(f"{key} must not be an object or array", field=field)


def _require_strings(field: str, data: Json) -> None:
    for key, value in data.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"{key} must be a string", field=field)
