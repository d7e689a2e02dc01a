"""What the REST tests share: how a refusal must look, and HTTP as raw bytes."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from tests.support.rest import Api

TIMEOUT_S = 20.0
# Of a traceback, or of a place in a source; an ID may begin with "py" and stand behind "th.".
TRACE = re.compile(r"""Traceback|\.py\\?["':]|\.py, line""")
EXCEPTION_TYPE = re.compile(r"application/vnd\.kii\.\w+Exception\+json;charset=UTF-8")

REGISTRATION = "application/vnd.kii.RegistrationRequest+json"
AUTHORIZATION = "application/vnd.kii.RegistrationAndAuthorizationRequest+json"
THING_REGISTRATION = "application/vnd.kii.ThingRegistrationRequest+json"
THING_AUTHORIZATION = "application/vnd.kii.ThingRegistrationAndAuthorizationRequest+json"
MQTT = {"enabled": True}
SEND = "application/vnd.kii.SendPushMessageRequest+json"


def assert_refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """An error of spec kii 0.5; returns its body, whose further fields are Appendix A's."""
    assert (response.status_code, response.json().get("errorCode")) == (status, code), response.text
    body: dict[str, Any] = response.json()
    assert isinstance(body["message"], str)
    assert EXCEPTION_TYPE.fullmatch(response.headers["content-type"])
    assert response.headers["x-http-status-code"] == str(status)
    assert not TRACE.search(response.text), response.text
    return body


def send(api: Api, path: str, token: str | None, body: Any) -> httpx.Response:
    """path: of the topic, user or thing it goes to."""
    headers = {
        "Content-Type": SEND,
        "Accept": "application/vnd.kii.SendPushMessageResponse+json",
    }
    return api.call("POST", f"{path}/push/messages", token=token, json=body, headers=headers)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response as it came over the wire. Header names are lower case."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes
    is_closed: bool  # the server ended the connection after it

    def json(self) -> Any:
        return orjson.loads(self.body)


def exchange(url: str, request: bytes) -> RawResponse:
    """Send these bytes to the server of `url` and read one response to its end."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    with socket.create_connection((parts.hostname, parts.port), TIMEOUT_S) as link:
        link.sendall(request)
        return read_response(link)


def read_response(link: socket.socket) -> RawResponse:
    """The next response on a connection, by its length or to the connection's end."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = link.recv(65536)
        assert chunk, f"closed without an answer after {data!r}"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status = status_line.split(" ")[:2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    length = int(headers["content-length"]) if "content-length" in headers else None
    if int(status) in (204, 304):
        length = 0
    while length is None or len(body) < length:
        chunk = link.recv(65536)
        if not chunk:
            break
        body += chunk
    is_closed = headers.get("connection", "").lower() == "close" or version == "HTTP/1.0"
    return RawResponse(version, int(status), headers, body, is_closed)


def chunked(body: bytes, size: int = 7) -> bytes:
    """The body in chunks of this size, as embedded clients send it."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
