"""Starting, being watched and stopping: the operator's contract."""

from __future__ import annotations

import json
import queue
import signal
import socket
import sqlite3
import time
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from mqttpush.metrics import Metrics
from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.rest import Api
from tests.support.server import Server, environment, run_cli


def refused_start(folder: Path, **settings: str) -> str:
    """The one line of a start that must fail with exit code 2 and leave nothing running."""
    result = run_cli("serve", environ=environment(folder, settings), cwd=folder)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (folder / "data" / "server.json").exists()
    lines = [line for line in result.stderr.splitlines() if line.startswith("mqttpush: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_the_ready_line_names_the_open_listeners_and_no_other(server: Server) -> None:
    assert set(server.ready) == {"event", "http", "mqtt_tcp", "demo"}
    assert server.ready["event"] == "ready"
    assert server.url.startswith("http://127.0.0.1:")


def test_a_file_beside_the_store_says_where_the_server_listens(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    ready_file = tmp_path / "data" / "server.json"
    told = json.loads(ready_file.read_text(encoding="utf-8"))
    assert told == {name: value for name, value in server.ready.items() if name != "demo"}
    server.stop()
    assert not ready_file.exists()


def test_the_demo_app_is_made_on_the_first_start_only(start_server: StartServer) -> None:
    first = start_server()
    assert first.demo["appID"]
    first.stop()
    second = start_server()
    assert "demo" not in second.ready
    second.stop()


def test_the_demos_device_hears_what_its_user_writes(start_server: StartServer) -> None:
    server = start_server()
    demo = server.demo
    host, port = server.mqtt_address
    with Device({**demo, "host": host, "portTCP": port}) as device:
        api = Api(server.url, demo)
        path = f"/buckets/{demo['bucketID']}/objects"
        written = api.ok("POST", path, token=demo["accessToken"], json={"text": "hello"})
        assert device.next_push()["objectID"] == written["objectID"]
        api.close()
    server.stop()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_a_running_server_is_live_and_ready(server: Server, path: str) -> None:
    assert httpx.get(f"{server.url}{path}", trust_env=False).status_code == 200


def test_every_metric_of_the_catalogue_can_be_scraped(server: Server) -> None:
    response = httpx.get(f"{server.url}/metrics", trust_env=False)
    assert response.headers["content-type"].startswith("text/plain")
    for name, _ in Metrics().catalogue():
        assert f"# HELP {name}" in response.text


def test_metrics_count_connections_and_pushes(server: Server, api: Api, admin_token: str) -> None:
    def read(name: str) -> float:
        text = httpx.get(f"{server.url}/metrics", trust_env=False).text
        lines = (line for line in text.splitlines() if line.startswith(name))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    user = api.pseudo_user()
    before = read("mqttpush_pushes_sent_total")
    with Device(api.mqtt_endpoint(user)) as device:
        assert read("mqttpush_mqtt_connections ") >= 1
        api.push_to_user(admin_token, user.id, text="hello")
        device.next_push()
    assert read("mqttpush_pushes_sent_total") == before + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_connections_and_the_server_with_exit_code_0(
    start_server: StartServer, number: signal.Signals
) -> None:
    server = start_server()
    host, port = server.mqtt_address
    demo = server.demo
    ended: queue.Queue[str] = queue.Queue()
    granted: queue.Queue[str] = queue.Queue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=demo["mqttTopic"],
        protocol=paho.MQTTv5,
        reconnect_on_failure=False,
    )
    client.username_pw_set(demo["username"], demo["password"])
    client.on_connect = lambda client, *_: client.subscribe(demo["mqttTopic"])
    client.on_subscribe = lambda *_: granted.put("granted")
    client.on_disconnect = lambda _c, _u, _flags, reason, _p: ended.put(str(reason))
    client.connect(host, port)
    client.loop_start()
    granted.get(timeout=20)
    server.process.send_signal(number)
    assert server.process.wait(20) == 0
    assert ended.get(timeout=20) == "Server shutting down"  # MQTT 5 reason code 0x8B
    client.loop_stop()
    assert "Traceback" not in server.stderr


def test_a_server_that_is_stopping_finishes_requests_and_accepts_no_mqtt_client(
    start_server: StartServer,
) -> None:
    server = start_server(SHUTDOWN__TIMEOUT_S="20")
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        head = "POST /api/apps/nobody/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("nothing new is accepted")
        with pytest.raises(OSError, match=r"refused|reset"):
            _connect_for_ever(server.mqtt_address)
        assert server.process.poll() is None
        slow.sendall(b"{}")
        assert slow.recv(1000).startswith(b"HTTP/1.1 404 ")
    server.stop()


@pytest.mark.parametrize("timeout_s", [0.5, 3])
def test_a_body_that_never_comes_holds_up_no_stop_and_leaves_no_traceback(
    start_server: StartServer, timeout_s: float
) -> None:
    server = start_server(SHUTDOWN__TIMEOUT_S=str(timeout_s))
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        head = "POST /api/apps/nobody/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        began = time.monotonic()
        server.stop()  # which looks for tracebacks
        assert time.monotonic() - began < timeout_s + 2
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


def _connect_for_ever(address: tuple[str, int]) -> None:
    """A moment may pass between the server's word and its deed."""
    while True:
        socket.create_connection(address, timeout=20).close()


def test_what_was_written_is_there_after_a_restart(start_server: StartServer) -> None:
    first = start_server()
    demo = first.demo
    api = Api(first.url, demo)
    path = f"/buckets/{demo['bucketID']}/objects/kept"
    api.ok("PUT", path, token=demo["accessToken"], json={"text": "hello"})
    api.close()
    first.stop()
    second = start_server()
    api = Api(second.url, demo)
    assert api.ok("GET", path, token=demo["accessToken"])["text"] == "hello"
    api.close()
    second.stop()


@pytest.mark.parametrize(
    ("setting", "variable"), [("http.port", "HTTP__PORT"), ("mqtt.tcp_port", "MQTT__TCP_PORT")]
)
def test_a_port_in_use_is_one_line_and_exit_code_2(
    tmp_path: Path, setting: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused_start(tmp_path, **{variable: str(port)})
    assert setting in line
    assert str(port) in line


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused_start(tmp_path, STORE__DSN=f"sqlite:///{tmp_path}/file/below/mqttpush.db")
    assert "store.dsn" in line


def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    line = refused_start(tmp_path, HTTP__PORT="70000")
    assert "http.port" in line
    assert "MQTTPUSH_HTTP__PORT" in line
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mqttpush.db").write_bytes(b"something else " * 1000)
    assert "store.dsn" in refused_start(tmp_path)


def test_a_store_of_a_newer_version_is_refused_and_left_alone(
    start_server: StartServer, tmp_path: Path
) -> None:
    start_server().stop()
    path = tmp_path / "data" / "mqttpush.db"
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO schema_versions (version, name) VALUES (9999, 'future')")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "9999" in refused_start(tmp_path)
    assert path.read_bytes() == before


def test_a_second_server_on_the_same_store_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    result = run_cli("serve", environ=environment(tmp_path), cwd=tmp_path)
    assert result.returncode == 2
    assert "store.dsn" in result.stderr
    assert httpx.get(f"{server.url}/health/ready", trust_env=False).status_code == 200
    server.stop()
