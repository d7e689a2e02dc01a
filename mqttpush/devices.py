"""Devices: real MQTT clients (paho-mqtt), many of them on one event loop.

Owns the link of one device: connect, subscribe to the private topic, hand over pushes, keep alive.
Knows no REST and nothing of the server's inside. The one idea: paho's `loop_read`, `loop_write` and
`loop_misc` hang on the event loop's selector, so that 2,000 devices need no thread of their own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any, Literal, get_args

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mqttpush.client import MqttEndpoint
from mqttpush.errors import RequestRefused, ServerUnreachable

Transport = Literal["tcp", "tls", "ws", "wss"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
# Paho itself decides whether a PINGREQ is due; looking more often than this costs for nothing.
TEND_INTERVAL_S = 5.0


class Device:
    """One device. `on_push` is called on the event loop with the payload of every push.

    on_answer: likewise for what comes on other topics than the private one, the answers to requests
    over MQTT. subscribes: False for a connection that may only onboard.
    """

    def __init__(
        self,
        mqtt_endpoint: MqttEndpoint,
        *,
        on_push: Callable[[bytes], None],
        transport: Transport = "tcp",
        keep_alive_s: int = 60,
        on_answer: Callable[[bytes], None] = lambda _: None,
        subscribes: bool = True,
    ) -> None:
        self.mqtt_endpoint = mqtt_endpoint
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_push = on_push
        self._on_answer = on_answer
        self._subscribes = subscribes
        self._transport = transport
        self._keep_alive_s = keep_alive_s
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=mqtt_endpoint.mqtt_topic,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            transport="websockets" if transport in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(mqtt_endpoint.username, mqtt_endpoint.password)
        if transport in ("tls", "wss"):
            # The server may carry a certificate it signed itself, and a simulated device has no
            # secret worth more than its own credentials.
            self._client.tls_set(cert_reqs=ssl.CERT_NONE)
            self._client.tls_insecure_set(True)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_message = self._received
        self._client.on_disconnect = self._disconnected

    async def connect(self, timeout_s: float = 10.0) -> None:
        """Connect and subscribe; returns when SUBACK, or else CONNACK, stands.

        Raises ServerUnreachable or RequestRefused.
        """
        port = self._port()
        url = f"mqtt://{self.mqtt_endpoint.host}:{port}"
        if not port:
            raise ServerUnreachable(url, f"the server has no {self._transport} listener")
        try:
            async with asyncio.timeout(timeout_s):
                # Paho connects with a blocking socket; from then on it never blocks.
                await asyncio.to_thread(
                    self._client.connect, self.mqtt_endpoint.host, port, self._keep_alive_s
                )
                self._watch_socket()
                await self._subscribed
        except TimeoutError as exc:
            self.close()
            raise ServerUnreachable(url, f"no answer within {timeout_s:g} s") from exc
        except (OSError, ValueError) as exc:
            raise ServerUnreachable(url, str(exc) or repr(exc)) from exc

    def close(self) -> None:
        """Say goodbye (DISCONNECT) and close the socket."""
        if not self.lost.done():
            self.lost.cancel()
        self._client.disconnect()
        self._client.loop_write()

    def abort(self) -> None:
        """Break the link as a lost network does: no DISCONNECT."""
        if not self.lost.done():
            self.lost.cancel()
        sock = self._client.socket()
        if sock is not None:
            # Through a twin, because paho's WebSocket wrapper cannot shut down. Paho meets the end
            # of the stream at its next read, and closes its socket.
            with socket.socket(fileno=os.dup(sock.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)

    def publish(self, mqtt_topic: str, payload: bytes) -> None:
        """Send a request (QoS 0)."""
        self._client.publish(mqtt_topic, payload)

    def tend(self) -> None:
        """Keep-alive; call every few seconds."""
        self._client.loop_misc()

    def _port(self) -> int:
        ports: dict[Transport, int] = {
            "tcp": self.mqtt_endpoint.tcp_port,
            "tls": self.mqtt_endpoint.tls_port,
            "ws": self.mqtt_endpoint.ws_port,
            "wss": self.mqtt_endpoint.wss_port,
        }
        return ports[self._transport]

    def _watch_socket(self) -> None:
        loop = asyncio.get_running_loop()
        sock = self._client.socket()
        if sock is None:
            raise ConnectionAbortedError("closed at once")
        # The number, not the object: a WebSocket wrapper forgets it when it closes.
        number = sock.fileno()

        def unwatch(*_: object) -> None:
            loop.remove_reader(number)
            loop.remove_writer(number)

        def watch_write(*_: object) -> None:
            loop.add_writer(number, self._client.loop_write)

        def unwatch_write(*_: object) -> None:
            loop.remove_writer(number)

        self._client.on_socket_register_write = watch_write
        self._client.on_socket_unregister_write = unwatch_write
        self._client.on_socket_close = unwatch
        loop.add_reader(number, self._read)
        if self._client.want_write():
            loop.add_writer(number, self._client.loop_write)

    def _read(self) -> None:
        self._client.loop_read()
        # TLS decrypts more than one packet at a time; the selector does not see the rest.
        while (pending := getattr(self._client.socket(), "pending", None)) and pending():
            self._client.loop_read()

    def _connected(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason_code.is_failure:
            self._fail(RequestRefused("CONNECT", reason_code.value, "", str(reason_code)))
            return
        if self._subscribes:
            client.subscribe(self.mqtt_endpoint.mqtt_topic, qos=0)
        elif not self._subscribed.done():
            self._subscribed.set_result(None)

    def _granted(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if any(code.is_failure for code in reason_codes):
            self._fail(RequestRefused("SUBSCRIBE", reason_codes[0].value, "", str(reason_codes[0])))
        elif not self._subscribed.done():
            self._subscribed.set_result(None)

    def _received(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        is_push = message.topic == self.mqtt_endpoint.mqtt_topic
        (self._on_push if is_push else self._on_answer)(bytes(message.payload))

    def _disconnected(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        host = self.mqtt_endpoint.host
        self._fail(ServerUnreachable(f"mqtt://{host}", f"the link was closed: {reason_code}"))
        if not self.lost.done():
            self.lost.set_result(str(reason_code))

    def _fail(self, error: Exception) -> None:
        if not self._subscribed.done():
            self._subscribed.set_exception(error)
            self._subscribed.exception()  # seen, even if nobody waits any more


async def tend(devices: Collection[Device]) -> None:
    """Keep every device alive; runs until cancelled."""
    while True:
        await asyncio.sleep(TEND_INTERVAL_S)
        for device in list(devices):
            device.tend()
