"""Requests and responses of the API, whatever carried them (HTTP, or an MQTT request topic).

Owns reading a JSON body within its bounds and writing one as clients of the dialects expect it.
Knows no socket, no route and no verb.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from mqttpush.errors import InvalidRequest
from mqttpush.models import Credentials, Json

Model = TypeVar("Model", bound=BaseModel)

# A line of orjson's indented output that starts with a key: strings hold no raw newline.
_KEY_LINE: Final = re.compile(rb'^( *"(?:[^"\\]|\\.)*"): ', re.MULTILINE)


@dataclass(slots=True)
class ApiRequest:
    """One call. Header names are lower case; `parameters` are the path's, percent-decoded.

    stream: the body as it comes, for a route that reads it so; then `body` is empty. address: the
    peer's. connection_app_id: the app that an MQTT connection has proved, empty over HTTP. acting:
    those of running server code, in place of any header.
    request_id, version: where the dialect names its requests, and has versions.
    """

    method: str
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str  # scheme and authority, without a slash at the end
    max_json_depth: int = 64
    stream: AsyncIterator[bytes] | None = None
    address: str = ""
    connection_app_id: str = ""
    acting: Credentials | None = None
    request_id: str = ""
    version: int | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, streamed or not; can be read once."""
        if self.stream is None:
            yield self.body
            return
        async for chunk in self.stream:
            yield chunk

    @property
    def content_type(self) -> str:
        """Media type in lower case, without parameters; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Json:
        """The body as a JSON object; raises InvalidRequest with the spec's code."""
        value = self.json_value()
        if not isinstance(value, dict):
            raise InvalidRequest("the body must be a JSON object", code="INVALID_JSON")
        return value

    def json_value(self) -> Any:
        """The body as any JSON value; raises InvalidRequest with the spec's code."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as exc:
            raise InvalidRequest(f"the body is not JSON: {exc}", code="INVALID_JSON") from exc
        openings = self.body.count(b"{") + self.body.count(b"[")
        if openings > self.max_json_depth and depth_of(value) > self.max_json_depth:
            raise InvalidRequest(
                f"the body is nested deeper than {self.max_json_depth}", code="INVALID_JSON"
            )
        return value

    def parse(self, model: type[Model]) -> Model:
        """The body as `model`; an absent body counts as `{}`."""
        return parse(model, self.json() if self.body else {})


@dataclass(slots=True)
class ApiResponse:
    """One answer. `body` None: no body at all. file: its bytes are the body; closed when sent.

    stream: the body as it comes, to its end or until the client is gone.
    """

    status: int
    body: object = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    file: BinaryIO | None = None
    stream: AsyncIterator[bytes] | None = None


def parse(model: type[Model], value: object) -> Model:
    """Validate `value`; raises InvalidRequest that names the first wrong field."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidRequest(first["msg"], field=_place(first["loc"], value)) from exc


def _place(location: Iterable[int | str], value: object) -> str:
    """Where an error is, without the names of alternatives that a field has in its model."""
    names: list[str] = []
    for part in location:
        if isinstance(value, dict):
            names.append(str(part))
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            names.append(str(part))
            value = value[part]
    return ".".join(names)


def pretty_json(value: object) -> bytes:
    """JSON as the service wrote it: two blanks of indent, ` : ` after keys, `%` escaped.

    Web clients over MQTT look for a line `{`, and one SDK percent-decodes bodies before it parses
    them (spec kii 0.4, 10.4).
    """
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    return _KEY_LINE.sub(rb"\1 : ", data).replace(b"%", b"\\u0025")


def depth_of(value: Any) -> int:
    """Nesting of a decoded value; iterative, because the value is a stranger's."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return depth
