"""The cases of hooks: what code before a write adds to it, and what endless code takes from others.

Owns apps whose collections differ only in the code before a save, and requests to them. The one
idea: what is compared is measured in turns, so that what a machine does meanwhile is done to all of
it; what is told is the difference to a collection without code, or the ratio to a quiet server.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import httpx
import orjson

from . import measure
from .servers import MqttPush, ServerError, check_delivery

PLAIN = "plain"
ENDLESS = "endless"
# As many as there are workers: an app alone cannot have them all.
APPS = 2
EVENTS_PER_S = 20
MODULE = "bench_hooks"
CODE = """
def check(request, response, modules):
    request.body["checked"] = True


async def check_async(request, response, modules):
    request.body["checked"] = True
"""
SCRIPT = """
function onPreSave(request, response, modules) {
  request.body.checked = true;
  response.continue();
}
"""
HOOKS = {
    "python": {"type": "python", "entryPoint": f"{MODULE}:check"},
    "async": {"type": "python", "entryPoint": f"{MODULE}:check_async"},
    "script": {"type": "internal", "code": SCRIPT},
}
ENDLESS_HOOK = {"type": "internal", "code": "function onPreSave() { for (;;); }"}


class HookPush(MqttPush):
    """The product with apps that have code before their saves."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "MQTTPUSH_HOOKS__PYTHON_MODULES": f'["{MODULE}"]',
            "PYTHONPATH": os.pathsep.join([str(self.folder.absolute()), str(measure.ROOT)]),
        }

    def start(self) -> None:
        (self.folder / f"{MODULE}.py").write_text(CODE)
        super().start()
        file = self.folder.absolute() / "environment.json"
        hooks = {**HOOKS, ENDLESS: ENDLESS_HOOK}
        collection_hooks = {name: {"onPreSave": hook} for name, hook in hooks.items()}
        file.write_text(json.dumps({"collectionHooks": collection_hooks}))
        self._apps = [self._run("app", "create", f"hooks{n}", "--json") for n in range(APPS)]
        for names in self._apps:
            self._run("kinvey", "apply", str(file), "--app-id", names["appID"], "--json")

    def saves(self, collection: str, count: int) -> list[bytes]:
        """Requests that save an entity of about 200 bytes each."""
        names = self._apps[0]
        content = orjson.dumps({"kind": "reading", "pad": "x" * 160})
        credentials = base64.b64encode(
            f"{names['appID']}:{names['clientSecret']}".encode()
        ).decode()
        head = (
            f"POST /appdata/{names['appID']}/{collection} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self.http_port}\r\n"
            f"Authorization: Basic {credentials}\r\nX-Kinvey-API-Version: 3\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return [head.encode() + content] * count

    def answer_ms(self, collection: str, count: int) -> float:
        """Median from a request sent to its answer received, one at a time."""
        answer = self.loadgen.http(self.http_port, self.saves(collection, count), connections=1)
        return float(answer["answer_ms"]["p50"])

    @contextmanager
    def endless_code(self) -> Iterator[None]:
        """Code of every app runs, over and over, until its time is up."""
        is_over = threading.Event()
        posts = [threading.Thread(target=self._post, args=(app, is_over)) for app in self._apps]
        for thread in posts:
            thread.start()
        try:
            yield
        finally:
            is_over.set()
            for thread in posts:
                thread.join()

    def _post(self, names: dict[str, str], is_over: threading.Event) -> None:
        base = f"http://127.0.0.1:{self.http_port}/appdata/{names['appID']}"
        secret = (names["appID"], names["clientSecret"])
        headers = {"X-Kinvey-API-Version": "3"}
        with httpx.Client(auth=secret, headers=headers, timeout=60) as client:
            while not is_over.is_set():
                answer = client.post(f"{base}/{ENDLESS}", json={})
                if answer.json().get("error") != "BLTimeoutError":
                    raise ServerError(f"endless code was answered {answer.text}")

    def _run(self, *arguments: str) -> dict[str, str]:
        command = [sys.executable, "-m", "mqttpush", *arguments]
        made = subprocess.run(
            command, cwd=measure.ROOT, env=self.environment, capture_output=True, check=False
        )
        if made.returncode != 0:
            raise ServerError(made.stderr.decode(errors="replace"))
        names: dict[str, str] = orjson.loads(made.stdout)
        return names


def added_ms(server: HookPush, rounds: int, count: int) -> dict[str, tuple[float, ...]]:
    """What each kind of code adds, round by round; `PLAIN`: what a save takes without."""
    for collection in (PLAIN, *HOOKS):
        server.answer_ms(collection, count)  # warms up
    found: dict[str, list[float]] = {name: [] for name in (PLAIN, *HOOKS)}
    for _ in range(rounds):
        # Without code before and after: a drift of the machine falls out of the difference.
        before = server.answer_ms(PLAIN, count)
        times = {name: server.answer_ms(name, count) for name in HOOKS}
        plain = median((before, server.answer_ms(PLAIN, count)))
        found[PLAIN].append(plain)
        for name, time_ms in times.items():
            found[name].append(time_ms - plain)
    return {name: tuple(values) for name, values in found.items()}


def p99_beside_endless_code(
    server: HookPush, devices: int, events: int, rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """p99 of MQTT pushes on a quiet server and beside endless code, ms, round by round."""
    server.push(events, devices, rate=EVENTS_PER_S)
    with server.endless_code():  # starts the workers
        server.push(events, devices, rate=EVENTS_PER_S)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(rounds):
        answers = [server.push(events, devices, rate=EVENTS_PER_S)]
        with server.endless_code():
            answers.append(server.push(events, devices, rate=EVENTS_PER_S))
        for answer, p99s in zip(answers, (alone, beside), strict=True):
            check_delivery(server, answer, events)
            p99s.append(float(answer["sent_to_received_ms"]["p99"]))
    return tuple(alone), tuple(beside)
