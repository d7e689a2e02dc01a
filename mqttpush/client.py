"""Client: what an app, a device or an operator asks of a running server, over REST.

Owns the paths, content types and error bodies of the Kii dialect as its clients see them (spec kii
1 to 8). Knows nothing of the server's inside and keeps no state but the connection pool. The one
idea: one method per request, so that the command line and the simulator read like the guide.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from mqttpush.errors import RequestRefused, ServerUnreachable

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class MqttEndpoint:
    """Where and as whom one installation connects (spec kii 3.1)."""

    installation_id: str
    username: str
    password: str
    mqtt_topic: str
    host: str
    tcp_port: int
    tls_port: int
    ws_port: int
    wss_port: int


@dataclass(frozen=True, slots=True)
class Account:
    """A user or thing that signed on: its ID and its access token."""

    id: str
    token: str


def make_http_client(
    url: str, *, max_connections: int = 32, timeout_s: float = 30.0
) -> httpx.AsyncClient:
    """An HTTP client for one server; a proxy of the environment is not asked for this machine."""
    is_local = (urlsplit(url).hostname or "") in LOOPBACK_HOSTS
    return httpx.AsyncClient(
        base_url=url,
        trust_env=not is_local,
        timeout=timeout_s,
        transport=_Lanes(max_connections),
    )


class _Lanes(httpx.AsyncBaseTransport):
    """At most so many connections, each with one request at a time.

    httpx's own pool polls every idle socket at each request, which costs more than the request
    once there are a dozen; a lane is a pool of one. The lane used last is taken first, so a few
    requests need few connections.
    """

    def __init__(self, count: int) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        tls = httpx.create_ssl_context()
        self._lanes = [httpx.AsyncHTTPTransport(verify=tls, limits=limits) for _ in range(count)]
        self._free: asyncio.LifoQueue[httpx.AsyncHTTPTransport] = asyncio.LifoQueue()
        for lane in self._lanes:
            self._free.put_nowait(lane)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lane = await self._free.get()
        try:
            response = await lane.handle_async_request(request)
            await response.aread()
        finally:
            self._free.put_nowait(lane)
        return response

    async def aclose(self) -> None:
        for lane in self._lanes:
            await lane.aclose()


class AppClient:
    """One app of a running server. Every method raises RequestRefused or ServerUnreachable."""

    def __init__(self, *, http: httpx.AsyncClient, app_id: str, app_key: str) -> None:
        self._http = http
        self.app_id = app_id
        self.app_key = app_key
        self._base = f"/api/apps/{_quote(app_id)}"
        pair = base64.b64encode(f"{app_id}:{app_key}".encode()).decode()
        self._anonymous = f"Basic {pair}"

    async def log_in_admin(self, client_id: str, client_secret: str) -> str:
        """An admin's access token."""
        body = {"client_id": client_id, "client_secret": client_secret}
        answer = await self._call("POST", "/api/oauth2/token", body=body, is_absolute=True)
        return str(answer["access_token"])

    async def delete_app(self, token: str) -> None:
        """Delete the app with everything in it; needs its administrator's token."""
        await self._call("DELETE", "", token=token)

    async def heed(self, token: str) -> None:
        """Have the server heed what was changed in its store; needs an administrator's token."""
        await self._call("POST", "/heed", token=token)

    async def networks(self, token: str) -> list[dict[str, Any]]:
        """The push networks the app has credentials for; this and the next: an admin's token."""
        answer = await self._call("GET", "/networks", token=token)
        return list(answer["networks"])

    async def set_network(
        self, token: str, network: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Give the app's credentials for a push network; returns what may be shown of them."""
        return await self._call("PUT", f"/networks/{network}", token=token, body=fields)

    async def delete_network(self, token: str, network: str) -> None:
        """Take them away."""
        await self._call("DELETE", f"/networks/{network}", token=token)

    async def test_network(
        self, token: str, network: str, device_token: str | None
    ) -> dict[str, Any]:
        """The network's verdict on them."""
        body = {"token": device_token} if device_token else {}
        return await self._call("POST", f"/networks/{network}/test", token=token, body=body)

    async def create_pseudo_user(self) -> Account:
        """A user without name or password, signed on."""
        answer = await self._call(
            "POST", "/users", body={}, kind="RegistrationAndAuthorizationRequest"
        )
        return Account(str(answer["userID"]), str(answer["_accessToken"]))

    async def create_user(self, fields: Mapping[str, Any]) -> Account:
        """A user with the given attributes (`loginName`, `password`, own ones), signed on."""
        answer = await self._call(
            "POST", "/users", body=fields, kind="RegistrationAndAuthorizationRequest"
        )
        return Account(str(answer["userID"]), str(answer["_accessToken"]))

    async def create_thing(self, vendor_thing_id: str, password: str) -> Account:
        """A thing, signed on."""
        answer = await self._call(
            "POST",
            "/things",
            body={"_vendorThingID": vendor_thing_id, "_password": password},
            kind="ThingRegistrationAndAuthorizationRequest",
        )
        return Account(str(answer["_thingID"]), str(answer["_accessToken"]))

    async def delete_user(self, token: str, user_id: str) -> None:
        await self._call("DELETE", f"/users/{_quote(user_id)}", token=token)

    async def delete_thing(self, token: str, thing_id: str) -> None:
        await self._call("DELETE", f"/things/{_quote(thing_id)}", token=token)

    async def command_thing(self, token: str, thing_id: str, command: Mapping[str, Any]) -> str:
        """Send a command to a thing and return its commandID; needs an owner's token."""
        path = self._commands_of(thing_id)
        answer = await self._call("POST", path, token=token, body=command, is_absolute=True)
        return str(answer["commandID"])

    async def command_state(self, token: str, thing_id: str, command_id: str) -> str:
        """SENDING, SEND_FAILED, INCOMPLETE or DONE."""
        path = f"{self._commands_of(thing_id)}/{_quote(command_id)}"
        answer = await self._call("GET", path, token=token, is_absolute=True)
        return str(answer["commandState"])

    async def install_mqtt(self, token: str) -> str:
        """The MQTT installation of the token's user or thing: its ID, old or new."""
        answer = await self._call(
            "POST",
            "/installations",
            token=token,
            body={"deviceType": "MQTT", "development": False},
            kind="InstallationCreationRequest",
        )
        return str(answer["installationID"])

    async def get_mqtt_endpoint(self, token: str, installation_id: str) -> MqttEndpoint:
        path = f"/installations/{_quote(installation_id)}/mqtt-endpoint"
        return read_mqtt_endpoint(await self._call("GET", path, token=token))

    async def subscribe_to_bucket(self, token: str, bucket_id: str, scope: str = "") -> None:
        """Subscribe the token's user; already subscribed is success."""
        path = f"{scope}/buckets/{_quote(bucket_id)}/filters/all/push/subscriptions/users"
        await self._call("POST", path, token=token, accepted=(409,))

    async def subscribe_to_topic(self, token: str, topic_id: str, scope: str = "") -> None:
        """Subscribe the token's user; already subscribed is success."""
        path = f"{scope}/topics/{_quote(topic_id)}/push/subscriptions/users"
        await self._call("POST", path, token=token, accepted=(409,))

    async def create_topic(self, token: str, topic_id: str, scope: str = "") -> None:
        """Make a topic; already there is success."""
        path = f"{scope}/topics/{_quote(topic_id)}"
        await self._call("PUT", path, token=token, accepted=(409,))

    async def put_object(
        self, token: str, bucket_id: str, object_id: str, body: bytes, scope: str = ""
    ) -> None:
        """Create or replace an object; `body` is JSON text."""
        path = f"{scope}/buckets/{_quote(bucket_id)}/objects/{_quote(object_id)}"
        await self._call("PUT", path, token=token, body=body)

    async def delete_bucket(self, token: str, bucket_id: str, scope: str = "") -> None:
        """Delete a bucket with its objects; none there is success."""
        path = f"{scope}/buckets/{_quote(bucket_id)}"
        await self._call("DELETE", path, token=token, accepted=(404,))

    async def send_to_topic(
        self, token: str, topic_id: str, message: Mapping[str, Any], scope: str = ""
    ) -> str:
        """Send a message to a topic's subscribers and return its pushMessageID."""
        return await self._send(token, f"{scope}/topics/{_quote(topic_id)}", message)

    async def send_to_user(self, token: str, user_id: str, message: Mapping[str, Any]) -> str:
        """Send a direct push to a user (ID, or `TYPE:address`) and return its pushMessageID."""
        return await self._send(token, f"/users/{_quote(user_id)}", message)

    async def send_to_thing(self, token: str, thing_id: str, message: Mapping[str, Any]) -> str:
        """Send a direct push to a thing (ID, or `VENDOR_THING_ID:v`)."""
        return await self._send(token, f"/things/{_quote(thing_id)}", message)

    def _commands_of(self, thing_id: str) -> str:
        return f"/thing-if/apps/{_quote(self.app_id)}/targets/thing:{_quote(thing_id)}/commands"

    async def message_fate(self, token: str, message_id: str) -> dict[str, Any]:
        """Counts by network of what became of a message."""
        return await self._call("GET", f"/push/messages/{_quote(message_id)}", token=token)

    async def deliveries(self, token: str, path: str) -> AsyncIterator[dict[str, Any]]:
        """path: `/push/messages/{messageID}` or `/installations/{installationID}/push`."""
        key = ""
        while True:
            query = f"?paginationKey={quote(key, safe='')}" if key else ""
            page = await self._call("GET", f"{path}/deliveries{query}", token=token)
            for each in page["deliveries"]:
                yield each
            key = page.get("paginationKey", "")
            if not key:
                return

    async def _send(self, token: str, path: str, message: Mapping[str, Any]) -> str:
        answer = await self._call(
            "POST",
            f"{path}/push/messages",
            token=token,
            body=message,
            kind="SendPushMessageRequest",
        )
        return str(answer.get("pushMessageID", ""))

    async def _call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        kind: str = "",
        accepted: tuple[int, ...] = (),
        is_absolute: bool = False,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}" if token else self._anonymous}
        if body is not None:
            headers["Content-Type"] = (
                f"application/vnd.kii.{kind}+json" if kind else "application/json"
            )
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        url = path if is_absolute else f"{self._base}{path}"
        try:
            response = await self._http.request(method, url, headers=headers, content=content)
        except httpx.TimeoutException as exc:
            raise ServerUnreachable(str(self._http.base_url), "no answer in time") from exc
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise ServerUnreachable(str(self._http.base_url), str(exc) or repr(exc)) from exc
        answer = _json_object(response)
        if response.is_success or response.status_code in accepted:
            return answer
        raise RequestRefused(
            f"{method} {url}",
            response.status_code,
            str(answer.get("errorCode", "")),
            str(answer.get("message", "")),
        )


def read_mqtt_endpoint(fields: Mapping[str, Any]) -> MqttEndpoint:
    """An endpoint as REST and onboarding tell it."""
    return MqttEndpoint(
        installation_id=str(fields["installationID"]),
        username=str(fields["username"]),
        password=str(fields["password"]),
        mqtt_topic=str(fields["mqttTopic"]),
        host=str(fields["host"]),
        tcp_port=int(fields["portTCP"] or 0),
        tls_port=int(fields["portSSL"] or 0),
        ws_port=int(fields["portWS"] or 0),
        wss_port=int(fields["portWSS"] or 0),
    )


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        document = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _quote(identifier: str) -> str:
    return quote(identifier, safe=":")
