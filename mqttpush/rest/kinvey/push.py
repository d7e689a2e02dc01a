"""Push: register devices, send to users or to everybody (spec kinvey 4 and 5)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mqttpush.errors import InvalidRequest, MqttPushError
from mqttpush.operations.broadcasts import MISSING, Broadcasts, message_of, recipients_of
from mqttpush.operations.devices import DeviceDraft, Devices
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.devices import device_draft
from mqttpush.rest.kinvey.wire import (
    MASTER_ONLY,
    USER_OR_MASTER,
    Gate,
    Kind,
    Visit,
    text_of,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

_log = logging.getLogger(__name__)


class PushRoutes:
    """/push."""

    def __init__(self, gate: Gate, devices: Devices, broadcasts: Broadcasts) -> None:
        self._gate = gate
        self._devices = devices
        self._broadcasts = broadcasts

    def table(self) -> Iterator[Route]:
        push, taken = "/push/{appKey}", Content(dict[str, Any])
        sent = Content(answers.KinveySent)
        for name, handler, summary in (
            ("register-device", self.register, "Register a device"),
            ("unregister-device", self.unregister, "Forget a device"),
        ):
            yield Route("POST", f"{push}/{name}", handler, summary, (204,), taken)
        for name, handler, summary in (
            ("sendMessage", self.send_message, "Send to users"),
            ("sendBroadcast", self.send_broadcast, "Send to everybody"),
        ):
            yield Route("POST", f"{push}/{name}", handler, summary, (200,), taken, sent)

    async def register(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        try:
            draft, user_id = _device(visit)
            await self._devices.register(visit.credentials, draft, user_id)
        except MqttPushError as exc:
            _log.info("device not registered: %s %s %s", visit.app_id, request.request_id, exc)
            raise
        return ApiResponse(204)

    async def unregister(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        draft, user_id = _device(visit)
        await self._devices.unregister(visit.credentials, draft, user_id)
        return ApiResponse(204)

    async def send_message(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, MASTER_ONLY)
        body = visit.object()
        recipients = body.get("recipients")
        if recipients is None:
            recipients = body.get("destination")  # what Flex SDK 3.0 called them
        if recipients is None:
            raise InvalidRequest("is required", field="recipients", code=MISSING)
        message = message_of(body.get("messageContent"))
        sent = await self._broadcasts.send_message(
            visit.credentials, recipients_of(recipients), message
        )
        return ApiResponse(200, sent.answer())

    async def send_broadcast(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, MASTER_ONLY)
        message = message_of(visit.object().get("messageContent"))
        sent = await self._broadcasts.send_broadcast(visit.credentials, message)
        return ApiResponse(200, sent.answer())


def _device(visit: Visit) -> tuple[DeviceDraft, str | None]:
    """The device, and whose it is if the administrator says so."""
    body = visit.object()
    user_id = None
    if visit.kind is Kind.MASTER and body.get("platform") and body.get("deviceId"):
        user_id = text_of(body, "userId", 64, is_required=True)
    return device_draft(body, "deviceId"), user_id
