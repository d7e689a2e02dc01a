"""Bodies that stop half-way or are too large, the files they leave, and the memory they take."""

from __future__ import annotations

import hashlib
import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import StartServer
from tests.rest.body_support import Item, files_of, new_item, until
from tests.rest.support import TIMEOUT_S, assert_refused, chunked, read_response
from tests.support.rest import Account, Api
from tests.support.server import Server

TEXT = b"0123456789"
MEGABYTE = 1_000_000
MEMORY_LIMIT_BYTES = 20 * MEGABYTE


@pytest.fixture
def item(api: Api, user: Account) -> Item:
    return new_item(api, user)


# --- what stops half-way, limits ----------------------------------------------------------------


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_client_that_goes_away_leaves_nothing(
    item: Item, server: Server, is_chunked: bool
) -> None:
    before = files_of(server.folder)
    headers = {"Content_Length": "", "Transfer_Encoding": "chunked"} if is_chunked else {}
    with item.begun("/body", 100, **headers) as link:
        link.sendall(b"5\r\n01234\r\n")
        until(lambda: bool(files_of(server.folder) - before), item.api)
    until(lambda: files_of(server.folder) <= before, item.api)
    assert item.read() is None


def test_the_old_body_stays_until_the_new_one_is_whole(item: Item, server: Server) -> None:
    item.put(TEXT)
    before = files_of(server.folder)
    with item.begun("/body", 100) as link:
        link.sendall(b"new")
        until(lambda: bool(files_of(server.folder) - before), item.api)
        assert item.read() == TEXT
    until(lambda: files_of(server.folder) <= before, item.api)
    assert item.read() == TEXT


@pytest.fixture
def strict(start_server: StartServer) -> Iterator[tuple[Server, Item]]:
    """A server with small limits, and an object of it."""
    server = start_server(LIMITS__MAX_BODY_BYTES="1000", HTTP__BODY_TIMEOUT_S="0.2")
    api = Api(server.url, server.create_app("strict"))
    yield server, new_item(api, api.pseudo_user())
    api.close()


def test_a_body_over_the_limit_is_refused_and_counted(strict: tuple[Server, Item]) -> None:
    server, item = strict
    item.put(b"x" * 1000)
    assert_refused(item.call("PUT", content=b"y" * 1001), 413, "OBJECT_BODY_TOO_LARGE")
    headers = {"Content_Length": "", "Transfer_Encoding": "chunked"}
    with item.begun("/body", 0, **headers) as link:
        link.sendall(chunked(b"y" * 1001, 500))
        assert read_response(link).status == 413
    part = item.send(item.start_upload(), b"y", 0, 1001)
    assert_refused(part, 413, "OBJECT_BODY_TOO_LARGE")
    metrics = item.api.http.get(f"{server.url}/metrics").text
    assert 'mqttpush_limits_reached_total{limit="limits.max_body_bytes"} 3.0' in metrics
    assert item.read() == b"x" * 1000
    until(lambda: len(files_of(server.folder)) == 1, item.api)


def test_a_client_that_falls_silent_is_told_and_closed(strict: tuple[Server, Item]) -> None:
    server, item = strict
    with item.begun("/body", 100) as link:
        link.sendall(b"and then")
        answer = read_response(link)
        assert (answer.status, answer.json()["errorCode"]) == (408, "REQUEST_TIMEOUT")
        assert answer.is_closed
    assert item.read() is None
    until(lambda: not files_of(server.folder), item.api)


# --- files --------------------------------------------------------------------------------------


def test_a_download_is_not_disturbed_by_a_new_body(item: Item) -> None:
    old = b"old " * MEGABYTE
    item.put(old)
    api, token = item.api, item.account.token
    headers = {"Authorization": f"Bearer {token}"}
    with api.http.stream("GET", f"{api.base}{item.path}/body", headers=headers) as answer:
        chunks = answer.iter_raw(65_536)
        first = next(chunks)
        item.put(b"new")
        item.call("DELETE")
        item.put(b"newer")
        assert first + b"".join(chunks) == old
    assert item.read() == b"newer"


def test_a_body_survives_a_restart_and_a_torn_one_does_not(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    app = server.create_app("restarted")
    api = Api(server.url, app)
    item = new_item(api, api.pseudo_user())
    item.put(TEXT)
    before = files_of(tmp_path)
    with item.begun("/body", 100) as link:
        link.sendall(b"half")
        until(lambda: bool(files_of(tmp_path) - before), api)
        server.kill()
    api.close()
    assert files_of(tmp_path) - before
    server = start_server()
    assert files_of(tmp_path) == before
    again = Api(server.url, app)
    assert Item(again, item.account, item.bucket).read() == TEXT
    again.close()


def drop_object(item: Item) -> None:
    assert item.call("DELETE", "").status_code == 204


def drop_bucket(item: Item) -> None:
    item.api.ok("DELETE", item.bucket, token=item.account.token)


def drop_user(item: Item) -> None:
    item.api.ok("DELETE", "/users/me", token=item.account.token)


def drop_app(item: Item) -> None:
    item.api.ok("DELETE", "", token=item.api.admin_token())


@pytest.mark.parametrize("drop", [drop_object, drop_bucket, drop_user])
def test_whoever_takes_the_object_along_removes_its_files(
    item: Item, server: Server, drop: Callable[[Item], None]
) -> None:
    check_drop(item, server, drop)


def test_an_app_takes_its_files_along(server: Server) -> None:
    api = Api(server.url, server.create_app("dropped"))
    check_drop(new_item(api, api.pseudo_user()), server, drop_app)
    api.close()


def check_drop(item: Item, server: Server, drop: Callable[[Item], None]) -> None:
    before = files_of(server.folder)
    item.put(TEXT)
    item.send(item.start_upload(), TEXT, 0, 20)
    assert len(files_of(server.folder) - before) == 2
    drop(item)
    until(lambda: files_of(server.folder) <= before, item.api)


def memory_bytes(server: Server, name: str) -> int:
    """VmRSS: what the process has now; VmHWM: the most since the last reset."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_a_body_of_100_mb_takes_less_than_20_mb_of_memory(start_server: StartServer) -> None:
    server = start_server()
    api = Api(server.url, server.create_app("memory"))
    item = new_item(api, api.pseudo_user())
    chunk = bytes(range(250)) * 400
    item.put(chunk)
    item.read()
    headers = {"Authorization": f"Bearer {item.account.token}"}
    url = f"{api.base}{item.path}/body"
    before = memory_bytes(server, "VmRSS")
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    size_bytes = 1000 * len(chunk)
    sent_headers = {**headers, "Content-Length": str(size_bytes)}
    content = (chunk for _ in range(1000))
    assert api.http.put(url, content=content, headers=sent_headers).status_code == 200
    uploaded = memory_bytes(server, "VmHWM") - before
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    digest = hashlib.sha256()
    with api.http.stream("GET", url, headers=headers) as answer:
        for data in answer.iter_raw():
            digest.update(data)
    downloaded = memory_bytes(server, "VmHWM") - before
    assert digest.digest() == hashlib.sha256(chunk * 1000).digest()
    print(f"more memory: {uploaded} bytes at the upload, {downloaded} at the download")
    assert max(uploaded, downloaded) < MEMORY_LIMIT_BYTES
    api.close()


# --- the other way to the routes ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_bodies_come_and_go_over_http_only(item: Item, method: str) -> None:
    item.put(TEXT)
    answers: queue.Queue[bytes] = queue.Queue()
    endpoint = item.api.mqtt_endpoint(item.account)
    topic = endpoint["mqttTopic"]
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=topic)
    client.username_pw_set(endpoint["username"], endpoint["password"])
    request = f"{method}\r\nAuthorization: Bearer {item.account.token}\r\n\r\nnew"
    path = f"p/{topic}/api/apps/{item.api.app_id}{item.path}/body"

    def on_connect(client: paho.Client, *_: object) -> None:
        client.subscribe(topic)

    def on_subscribe(client: paho.Client, *_: object) -> None:
        client.publish(path, request)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _data, message: answers.put(bytes(message.payload))
    client.connect(endpoint["host"], endpoint["portTCP"])
    client.loop_start()
    answer = answers.get(timeout=TIMEOUT_S)
    client.disconnect()
    client.loop_stop()
    assert answer.startswith(b"501\r\n")
    assert b"OPERATION_NOT_IMPLEMENTED" in answer
    assert item.read() == TEXT
