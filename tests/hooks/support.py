"""Calls and hosts for runners alone."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mqttpush.hooks import Call, HostRefused

MODULE = "tests.hooks.sample_hooks"
Served = TypeVar("Served", bound=socketserver.BaseServer)


@contextmanager
def in_thread(server: Served) -> Iterator[Served]:
    """The server while a thread serves."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RecordingHost:
    """Answers every question with its number, and refuses `refused`."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, str, list[Any]]] = []

    async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
        self.questions.append((module, function, arguments))
        if arguments[:1] == ["refused"]:
            raise HostRefused("BadRequest", "refused")
        return {"answer": len(self.questions)}


def call_of(hook_type: str = "pre", *, wall_limit_s: float = 5.0, **request: Any) -> Call:
    """A call of a hook on the collection `scores`."""
    fields = {"method": "POST", "headers": {}, "body": {}, "params": {}, **request}
    return Call(
        app_id="app",
        request_id="r1",
        hook_type=hook_type,
        object_name="scores",
        request=fields,
        response={"status": 201, "headers": {}, "body": {"stored": True}}
        if hook_type == "post"
        else {},
        wall_limit_s=wall_limit_s,
        app={"appKey": "app", "appSecret": "s", "masterSecret": "m", "baasUrl": "http://x"},
    )
