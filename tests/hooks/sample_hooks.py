"""Hooks in Python for the tests; servers of the tests are started with this module allowed."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from mqttpush.hooks.surface import Modules, Request, Response

path_join = os.path.join  # imported, so not this module's to offer


def change_body(request: Request, response: Response, modules: Modules) -> None:
    request.body["changed"] = True
    modules.temp["seen"] = request.body.get("name")


async def change_body_async(request: Request, response: Response, modules: Modules) -> None:
    request.body["changed"] = "async"


def keep_out(request: Request, response: Response, modules: Modules) -> None:
    response.body = {"message": "kept out"}
    response.complete(202)


def refuse(request: Request, response: Response, modules: Modules) -> None:
    modules.logger.warn("about to refuse")
    response.error("x")


def keep_much(request: Request, response: Response, modules: Modules) -> None:
    modules.request_context.custom_properties["much"] = "x" * 10_000


def fail(request: Request, response: Response, modules: Modules) -> None:
    raise ValueError("broken")


def leave(request: Request, response: Response, modules: Modules) -> None:
    raise SystemExit(3)


def sleep(request: Request, response: Response, modules: Modules) -> None:
    threading.Event().wait(0.5)  # longer than the run may take


def not_json(request: Request, response: Response, modules: Modules) -> None:
    request.body = {"file": object()}


def add_seen(request: Request, response: Response, modules: Modules) -> None:
    response.body["seen"] = modules.temp.get("seen")


def ask(request: Request, response: Response, modules: Modules) -> None:
    response.body = modules.push.send_message({"_id": "u"}, "hello")
    response.complete()


async def ask_async(request: Request, response: Response, modules: Modules) -> None:
    response.body = await modules.push.send_message({"_id": "u"}, "hello")
    response.complete()


def ask_without_end(request: Request, response: Response, modules: Modules) -> None:
    while True:
        modules.collection_access.collection("c").count()


def announce(request: Request, response: Response, modules: Modules) -> Any:
    modules.logger.info(f"announcing to {request.body.get('to')}")
    return {"asked by": modules.request_context.security_context, "body": request.body}


def who(request: Request, response: Response, modules: Modules) -> Any:
    return {
        "userId": request.user_id,
        "username": request.username,
        "context": modules.request_context.security_context,
        "appKey": modules.backend_context.app_key,
        "custom": modules.request_context.custom_properties,
    }


def on_object(params: dict[str, Any], modules: Modules) -> Any:
    """Tell the topic `news` of the object that was written."""
    modules.api.send_to_topic("news", {"told": params["objectID"], "type": params["type"]})
    return params["objectID"]


def on_user(params: dict[str, Any], modules: Modules) -> None:
    modules.api.put_object("users-seen", params["userID"], {"type": params["type"]})


def note(params: dict[str, Any], modules: Modules) -> None:
    """Keep what happened."""
    modules.api.create_object("noted", params)


def write_again(params: dict[str, Any], modules: Modules) -> None:
    """Write where it is triggered: a loop the server must stop."""
    modules.api.create_object(params["bucketID"], {"again": True})


def add(params: dict[str, Any], modules: Modules) -> Any:
    return params["a"] + params["b"]


def who_runs(params: dict[str, Any], modules: Modules) -> Any:
    asker = modules.request_context
    return {"userId": asker.user_id, "context": asker.security_context}


def call_server_code(params: dict[str, Any], modules: Modules) -> Any:
    return modules.api.request("POST", "/server-code/versions/current/add", {"a": 1, "b": 2})


def sleep_long(request: Request, response: Response, modules: Modules) -> None:
    threading.Event().wait(4)


def note_pre_save(request: Request, response: Response, modules: Modules) -> None:
    request.body["notes"] = ["pre save"]


def note_pre_insert(request: Request, response: Response, modules: Modules) -> None:
    request.body["notes"].append("pre insert")


def note_post_insert(request: Request, response: Response, modules: Modules) -> None:
    response.body["notes"].append("post insert")


def note_post_save(request: Request, response: Response, modules: Modules) -> None:
    response.body["notes"].append("post save")


def slowly_copy(params: dict[str, Any], modules: Modules) -> None:
    threading.Event().wait(0.1)
    modules.api.put_object("copies", params["objectID"], {"of": params["objectID"]})


def began(name: str) -> None:
    Path(f"began-{name}").touch()


def hang(request: Request, response: Response, modules: Modules) -> None:
    modules.logger.info("hangs now")
    began("hang")
    threading.Event().wait(50)


async def hang_async(request: Request, response: Response, modules: Modules) -> None:
    modules.logger.info("hangs now")
    began("async")
    await asyncio.Event().wait()


def hang_on_object(params: dict[str, Any], modules: Modules) -> None:
    began("job")
    threading.Event().wait(50)


def send_mail(request: Request, response: Response, modules: Modules) -> None:
    began("mail")
    modules.email.send("a@example.com", "b@example.com", "Hi", "Hello")
