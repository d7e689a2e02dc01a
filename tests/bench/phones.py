"""The case of phones: pushes to networks that are simulated beside the server, on the load's core.

Owns the simulator's process and an app for each network, full of devices, written into the store
before the server starts. Knows no packet. The simulator says when it has seen everything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import httpx

from mqttpush.config import load_settings
from mqttpush.networks import Network
from tests.support.phone_apps import PhoneApp, fill_phone_app

from . import measure
from .rest import App
from .servers import MqttPush, ServerError, check_delivery
from .tools import LoadGen

DEVICES = 20_000
MANY_DEVICES = 100_000
MANY = "many"
WAIT_LIMIT_S = 60.0
SAMPLE_EVERY_S = 0.1
EVENTS_PER_S = 20


class PhonePush(MqttPush):
    """The product with four apps of many phones, one for each network, and one with more."""

    def __init__(self, loadgen: LoadGen) -> None:
        super().__init__(loadgen)
        self.device_count, self.many_count = DEVICES, MANY_DEVICES
        self.phone_apps: dict[str, PhoneApp] = {}
        self._kit: dict[str, Any] = {}
        self._simulator: subprocess.Popen[bytes] | None = None
        self._control = httpx.Client()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self._kit.get("environment", {})}

    def start(self) -> None:
        """Start the simulator; the server follows when `fill` has said how many devices."""
        command = [sys.executable, "-m", "mqttpush", "simulate-providers", "--json"]
        with measure.on_core(measure.LOAD_CORE):
            self._simulator = subprocess.Popen(
                [*command, "--folder", str(self.folder / "providers")], stdout=subprocess.PIPE
            )
        assert self._simulator.stdout is not None
        self._kit = json.loads(self._simulator.stdout.readline())
        self._control = httpx.Client(
            base_url=self._kit["urls"]["control"], trust_env=False, timeout=WAIT_LIMIT_S * 2
        )

    def fill(self, device_count: int, many_count: int) -> None:
        """Make the apps and start the server on them."""
        self.device_count, self.many_count = device_count, many_count
        settings = load_settings(None, self.environment)
        for network in Network:
            tokens = self._tokens(network, device_count)
            self.phone_apps[network.value] = fill_phone_app(
                settings, {network: self._fields(network)}, {network: tokens}, name=network.value
            )
        tokens = self._tokens(Network.FCM, many_count)
        fields = {Network.FCM: self._fields(Network.FCM)}
        self.phone_apps[MANY] = fill_phone_app(settings, fields, {Network.FCM: tokens}, name=MANY)
        super().start()

    def stop(self) -> None:
        super().stop()
        self._control.close()
        if self._simulator is not None:
            self._simulator.terminate()
            self._simulator.wait()
            assert self._simulator.stdout is not None
            self._simulator.stdout.close()

    def send(self, app: str, network: str) -> None:
        """Send to the app's topic; the simulator counts anew."""
        made = self.phone_apps[app]
        sender = App(http_port=self.http_port, loadgen=self.loadgen, names=made.app)
        self._control.post("/reset").raise_for_status()
        sender.send_to_topic("news", {"data": {"text": "hello"}, network: {"enabled": True}})

    def wait(self, network: str, count: int) -> None:
        """Until the network has taken so many; raises ServerError if it does not."""
        answer = self._control.get(
            f"/wait/{network}", params={"accepted": count, "timeout_s": WAIT_LIMIT_S}
        )
        report = answer.json()
        if answer.status_code != httpx.codes.OK or report["most_for_one_device"] != 1:
            raise ServerError(f"{network} did not get each push once: {report}")

    def _tokens(self, network: Network, count: int) -> list[str]:
        made = self._control.post(f"/tokens/{network.value}", json={"count": count})
        tokens: list[str] = made.json()["tokens"]
        return tokens

    def _fields(self, network: Network) -> dict[str, Any]:
        fields: dict[str, Any] = self._kit["credentials"][network.value]
        return fields


def send_rate(server: PhonePush, network: str) -> tuple[float, float]:
    """(pushes a second, server CPU per push in µs) of one message to a network's app."""
    began_cpu_s, began_s = measure.cpu_s(server.pid), time.monotonic()
    server.send(network, network)
    server.wait(network, server.device_count)
    seconds, cpu_s = time.monotonic() - began_s, measure.cpu_s(server.pid) - began_cpu_s
    return server.device_count / seconds, cpu_s / server.device_count * 1e6


def fan_out_beside(server: PhonePush, devices: int, events: int) -> tuple[float, float, float]:
    """p99 of MQTT pushes alone and beside a message to very many phones, and the memory that took.

    Milliseconds, milliseconds, MiB. The message outlasts the pushes.
    """
    alone = server.push(events, devices, rate=EVENTS_PER_S)
    before_kib = measure.memory_kib(server.pid)
    with MemoryWatch(server.pid) as memory:
        server.send(MANY, Network.FCM.value)
        beside = server.push(events, devices, rate=EVENTS_PER_S)
        server.wait(Network.FCM.value, server.many_count)
    for answer in (alone, beside):
        check_delivery(server, answer, events)
    p99s = [answer["sent_to_received_ms"]["p99"] for answer in (alone, beside)]
    return p99s[0], p99s[1], (memory.most_kib - before_kib) / 1024


class MemoryWatch:
    """The largest memory of a process, seen from a thread of ours."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most_kib = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            self.most_kib = max(self.most_kib, measure.memory_kib(self._pid))
