"""The case of hooks: what code before a write adds to it, over HTTP.

Owns an app whose collections differ only in the code before a save, and requests to them. The one
idea: one request at a time, the collections in turns, so that what a machine does meanwhile is done
to all of them; what is told is the difference to the collection without code.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from statistics import median

import orjson

from . import measure
from .servers import MqttPush, ServerError

PLAIN = "plain"
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


class HookPush(MqttPush):
    """The product with an app that has code before its saves."""

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
        self._names = self._run("app", "create", "hooks", "--json")
        file = self.folder.absolute() / "environment.json"
        collection_hooks = {name: {"onPreSave": hook} for name, hook in HOOKS.items()}
        file.write_text(json.dumps({"collectionHooks": collection_hooks}))
        self._run("kinvey", "apply", str(file), "--app-id", self._names["appID"], "--json")

    def saves(self, collection: str, count: int) -> list[bytes]:
        """Requests that save an entity of about 200 bytes each."""
        app_id, secret = self._names["appID"], self._names["clientSecret"]
        credentials = base64.b64encode(f"{app_id}:{secret}".encode()).decode()
        content = orjson.dumps({"kind": "reading", "pad": "x" * 160})
        head = (
            f"POST /appdata/{app_id}/{collection} HTTP/1.1\r\nHost: 127.0.0.1:{self.http_port}\r\n"
            f"Authorization: Basic {credentials}\r\nX-Kinvey-API-Version: 3\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return [head.encode() + content] * count

    def answer_ms(self, collection: str, count: int) -> float:
        """Median from a request sent to its answer received, one at a time."""
        answer = self.loadgen.http(self.http_port, self.saves(collection, count), connections=1)
        return float(answer["answer_ms"]["p50"])

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
