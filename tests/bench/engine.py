"""The MQTT server of the package alone, as a process: what the fan-out cases measure.

Owns the wiring of broker and TCP listener with an authenticator that admits everybody. Knows no
store, router or REST. Prints its port; reads `events bytes` a line and fans that many payloads of
that size out to every connection, in one tick of the loop, as a burst of committed writes would be.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence

import uvloop

from mqttpush.config import MqttSettings
from mqttpush.metrics import Metrics
from mqttpush.mqtt.broker import Admitted, Broker, ConnectAttempt, Refused
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.listeners import Listeners

from . import measure

READ_BYTES = 4096


class Devices:
    """Everybody who has connected; what the router is in the product."""

    def __init__(self) -> None:
        self.handles: dict[Handle, None] = {}

    async def authenticate(
        self, attempts: Sequence[ConnectAttempt]
    ) -> Sequence[Admitted | Refused]:
        """Admit all; the client ID is the private topic."""
        for attempt in attempts:
            self.handles[attempt.handle] = None
        return [Admitted(mqtt_topic=attempt.client_id, app_id="bench") for attempt in attempts]

    def forget(self, handle: Handle) -> None:
        """The connection is over."""
        self.handles.pop(handle, None)


async def serve() -> None:
    """Run until standard input ends."""
    settings = MqttSettings(tcp_port=0, tls_port=None, ws_port=None, wss_port=None)
    devices = Devices()
    broker = Broker(
        settings=settings,
        metrics=Metrics(),
        clock=time.monotonic,
        random=random.Random(),
        authenticate=devices.authenticate,
        on_closed=devices.forget,
        on_request=lambda handle, mqtt_topic, payload: None,
    )
    listeners = Listeners(settings=settings, broker=broker, data_folder=None)
    await listeners.start()
    print(listeners.addresses["tcp"][1], flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def on_line() -> None:
        line = os.read(sys.stdin.fileno(), READ_BYTES)
        if not line:
            ended.set()
            return
        events, payload_bytes = map(int, line.split())
        for number in range(events):
            broker.fan_out(devices.handles, f'{{"n":{number:08d}}}'.ljust(payload_bytes).encode())

    loop.add_reader(sys.stdin.fileno(), on_line)
    await ended.wait()
    await listeners.stop()


if __name__ == "__main__":
    measure.raise_file_limit()
    uvloop.run(serve())
