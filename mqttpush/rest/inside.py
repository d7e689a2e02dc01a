"""Requests that running server code makes of the REST API, inside this process.

Knows no route and no verb. The one idea: a request of code is one like any other, but its
credentials are those of the run and not a header's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson

from mqttpush.models import Credentials
from mqttpush.rest.app import Application
from mqttpush.rest.messages import ApiRequest


async def call_inside(
    application: Application,
    credentials: Credentials,
    method: str,
    path: str,
    body: bytes,
    content_type: str,
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer. path: below the app."""
    path, _, query = path.partition("?")
    headers = {"content-type": content_type} if body else {}
    request = ApiRequest(method, {}, dict(parse_qsl(query)), headers, body, "", acting=credentials)
    response = await application.answer(request, f"/api/apps/{credentials.app_id}{path}")
    answer = response.body
    if isinstance(answer, bytes):
        try:
            answer = orjson.loads(answer)
        except orjson.JSONDecodeError:
            answer = answer.decode(errors="replace")
    return response.status, response.headers, answer
