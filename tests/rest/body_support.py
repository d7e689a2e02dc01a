"""What the tests of bodies share: an object, its body over REST, requests that stop half-way."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.rest.support import TIMEOUT_S
from tests.support.rest import Account, Api, unique

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # sent when the body is read for the first time


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a bucket, as `account` sees it. path: below the app."""

    api: Api
    account: Account
    bucket: str
    object_id: str = "object"

    @property
    def path(self) -> str:
        return f"{self.bucket}/objects/{self.object_id}"

    def call(
        self,
        method: str,
        tail: str = "/body",
        content: bytes | None = None,
        *,
        by: Account | None = None,
        **headers: str,
    ) -> httpx.Response:
        """One request; `Content_Range="…"` becomes that header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        token = (by or self.account).token
        return self.api.call(method, self.path + tail, token=token, content=content, headers=named)

    def make(self) -> Item:
        self.api.ok("PUT", self.path, token=self.account.token, json={})
        return self

    def put(self, content: bytes, content_type: str = "text/plain") -> str:
        """Write the body; its ETag."""
        response = self.call("PUT", content=content, Content_Type=content_type)
        assert response.status_code == 200, response.text
        return response.headers["etag"]

    def read(self) -> bytes | None:
        """The body, or None if there is none."""
        response = self.call("GET")
        if response.status_code == 404:
            assert response.json()["errorCode"] == "OBJECT_BODY_NOT_FOUND"
            return None
        assert response.status_code == 200, response.text
        return response.content

    def start_upload(self, *, by: Account | None = None) -> str:
        """The path of a new upload, below the object."""
        response = self.call("POST", "/body/uploads", b"{}", by=by)
        assert response.status_code == 200, response.text
        return f"/body/uploads/{response.json()['uploadID']}"

    def send(
        self, upload: str, content: bytes, start: int, total: int, *, content_type: str = "a/b"
    ) -> httpx.Response:
        span = f"bytes={start}-{start + len(content) - 1}/{total}"
        return self.call(
            "PUT", f"{upload}/data", content, Content_Range=span, Content_Type=content_type
        )

    def received(self, upload: str) -> int:
        response = self.call("GET", upload)
        assert response.status_code == 200, response.text
        return int(response.json()["receivedBytes"])

    @contextmanager
    def begun(self, tail: str, length: int, **headers: str) -> Iterator[socket.socket]:
        """A PUT whose head has been sent; its body is the caller's to send."""
        parts = urlsplit(self.api.url)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {
            "Host": parts.netloc,
            "Authorization": f"Bearer {self.account.token}",
            "Content-Length": str(length),
            **named,
        }
        lines = [f"PUT {urlsplit(self.api.base).path}{self.path}{tail} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value]
        with socket.create_connection((parts.hostname or "", parts.port or 0), TIMEOUT_S) as link:
            link.sendall("\r\n".join([*lines, "", ""]).encode())
            yield link


def new_item(api: Api, account: Account, scope: str = "/users/me") -> Item:
    """An object in a new bucket."""
    return Item(api, account, f"{scope}/buckets/{unique('bodies')}").make()


def files_of(folder: Path) -> set[str]:
    """Names of the files with bodies of a server in `folder`."""
    return {path.name for path in (folder / "data" / "bodies").iterdir()}


def until(is_true: Callable[[], bool], api: Api) -> None:
    """Ask the server something else until it is so; fails when it takes too long."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < deadline
        api.http.get(f"{api.url}/health/ready")
