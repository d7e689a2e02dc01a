"""Programs of other hands: stock npm libraries, and MQTT clients as devices.

`run_library` runs a script on libraries of the service, `flex_service` a service on its SDK. A
device is mosquitto_sub or MQTT.js in Node.js or in Chromium: it connects and subscribes to its own
topic on entry; `next_push` is what it received.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import MQTTProtocolVersion

from tests.support.device import PORT_NAMES, TIMEOUT_S
from tests.support.server import Server

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ROOT / "tests" / "system" / "clients"
NODE_MODULES = ROOT / ".cache" / "npm" / "node_modules"
STOP_TIMEOUT_S = 10.0
LIBRARY_TIMEOUT_S = 60.0
SCHEMES = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}
CHROMIUM_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
)

Event = dict[str, Any]


class Receiver(Protocol):
    """A device, whoever made it."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def next_push(self) -> dict[str, Any]: ...


def program(*names: str) -> str:
    """The first of these that is installed; else the test is skipped, but never in CI."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing(" or ".join(names))
    return found


def npm_file(package: str, file: str = "package.json") -> Path:
    """A file of an npm package, which `scripts/test` installs."""
    path = NODE_MODULES / package / file
    if not path.exists():
        missing(f"the npm package {package}")
    return path


def missing(what: str) -> NoReturn:
    assert not os.environ.get("CI"), f"{what} is missing: scripts/test should have installed it"
    pytest.skip(f"{what} is missing: scripts/test installs it where it can")


def run_library(
    script: str, *packages: str, server: Server, app: dict[str, str], folder: Path
) -> list[str]:
    """Run a script of `clients` on stock npm packages: the titles of its steps, each of them well.

    It finds the server's address and the app in the file it is given, and prints a line
    `{"step": ..., "ok": ...}` a step.
    """
    for package in packages:
        npm_file(package)
    ready = folder / "ready.json"
    ready.write_text(json.dumps({"http": server.url, "app": app}))
    ran = subprocess.run(
        [program("node", "nodejs"), str(SCRIPTS / script), str(ready)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIBRARY_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    steps = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"step"')]
    assert all(step["ok"] is True for step in steps), ran.stdout
    return [step["step"] for step in steps]


@contextmanager
def flex_service(script: Path, secret: str, folder: Path) -> Iterator[str]:
    """The URL of a service on the stock kinvey-flex-sdk; its script prints a line `ready`."""
    npm_file("kinvey-flex-sdk")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [program("node", "nodejs"), "--no-deprecation", str(script), str(port), secret],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        cwd=folder,  # the SDK writes output.log where it runs
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert any("ready" in line for line in process.stdout), "the service ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


class Events:
    """What a client tells, in order."""

    def __init__(self, mqtt_endpoint: dict[str, Any]) -> None:
        self._queue: queue.Queue[Event] = queue.Queue()
        self.endpoint = mqtt_endpoint
        self.tell = self._queue.put

    def next(self, kind: str) -> Event:
        """The next event, which must be of this kind."""
        event = self._queue.get(timeout=TIMEOUT_S)
        assert event["event"] == kind, event
        return event

    def next_push(self) -> dict[str, Any]:
        event = self.next("message")
        assert event["topic"] == self.endpoint["mqttTopic"]
        push: dict[str, Any] = json.loads(event["payload"])
        return push


class ProcessClient(Events):
    """A client that is a program and tells its events on standard output."""

    def __init__(
        self, mqtt_endpoint: dict[str, Any], command: list[str], environ: dict[str, str]
    ) -> None:
        super().__init__(mqtt_endpoint)
        self._command = command
        self._environ = environ

    def __enter__(self) -> ProcessClient:
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            assert self.next("subscribed")["qos"] == 0
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = self.parse(line.rstrip())
            if event is not None:
                self.tell(event)
        self.tell({"event": "ended"})

    def parse(self, line: str) -> Event | None:
        """An event; None: nothing worth telling."""
        raise NotImplementedError


class MosquittoSub(ProcessClient):
    """mosquitto_sub of Debian's mosquitto-clients; it speaks TCP and TLS."""

    VERSIONS = ("mqttv31", "mqttv311", "mqttv5")

    def __init__(
        self, mqtt_endpoint: dict[str, Any], kind: str, version: str, certificate: Path
    ) -> None:
        options = {
            "-h": mqtt_endpoint["host"],
            "-p": mqtt_endpoint[PORT_NAMES[kind]],
            "-i": mqtt_endpoint["mqttTopic"],
            "-t": mqtt_endpoint["mqttTopic"],
            "-u": mqtt_endpoint["username"],
            "-P": mqtt_endpoint["password"],
            "-V": version,
        }
        if kind == "tls":
            options["--cafile"] = certificate
        # It tells of its subscription only with -d, and line by line only if it is made to.
        command = [program("stdbuf"), "-oL", program("mosquitto_sub"), "-d"]
        command += [str(part) for option in options.items() for part in option]
        super().__init__(mqtt_endpoint, command, {})

    def parse(self, line: str) -> Event | None:
        if line.startswith("Subscribed "):
            return {"event": "subscribed", "qos": int(line.rpartition(" ")[2])}
        if line.startswith("{"):
            return {"event": "message", "topic": self.endpoint["mqttTopic"], "payload": line}
        return None if line.startswith("Client ") else {"event": "error", "text": line}


def mqtt_js_order(
    mqtt_endpoint: dict[str, Any], kind: str, version: MQTTProtocolVersion
) -> dict[str, Any]:
    """What MQTT.js must be told to connect."""
    address = f"{mqtt_endpoint['host']}:{mqtt_endpoint[PORT_NAMES[kind]]}"
    options = {
        "clientId": mqtt_endpoint["mqttTopic"],
        "username": mqtt_endpoint["username"],
        "password": mqtt_endpoint["password"],
        "protocolId": "MQIsdp" if version is MQTTProtocolVersion.MQTTv31 else "MQTT",
        "protocolVersion": version.value,
        "reconnectPeriod": 0,
    }
    url = f"{SCHEMES[kind]}://{address}/mqtt"
    return {"url": url, "options": options, "topic": mqtt_endpoint["mqttTopic"]}


class NodeClient(ProcessClient):
    """MQTT.js in Node.js."""

    def __init__(
        self,
        mqtt_endpoint: dict[str, Any],
        kind: str,
        version: MQTTProtocolVersion,
        certificate: Path,
    ) -> None:
        npm_file("mqtt")
        order = mqtt_js_order(mqtt_endpoint, kind, version)
        if kind in ("tls", "wss"):
            order["caFile"] = str(certificate)
        command = [program("node", "nodejs"), str(SCRIPTS / "node.cjs"), json.dumps(order)]
        super().__init__(mqtt_endpoint, command, {"NODE_PATH": str(NODE_MODULES)})

    def parse(self, line: str) -> Event | None:
        if not line.startswith("{"):
            return {"event": "error", "text": line}
        event: Event = json.loads(line)
        return event


class Browser:
    """Headless Chromium with one page, which runs as many devices as it is ordered to."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        self._chromium = program("chromium", "chromium-browser", "google-chrome")
        self._folder = folder
        # This one certificate is trusted, as one of a known authority would be; no other is.
        key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
        self.files = {
            "/": ("text/html", (SCRIPTS / "browser.html").read_bytes()),
            "/mqtt.min.js": ("text/javascript", npm_file("mqtt", "dist/mqtt.min.js").read_bytes()),
        }
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.devices: dict[str, Events] = {}
        self.numbers = itertools.count(1)

    def __enter__(self) -> Browser:
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), partial(_PageHandler, self))
        self._thread = threading.Thread(target=self._web.serve_forever, daemon=True)
        self._thread.start()
        with (self._folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._chromium,
                    *CHROMIUM_OPTIONS,
                    f"--user-data-dir={self._folder / 'profile'}",
                    f"--ignore-certificate-errors-spki-list={self._pin}",
                    f"http://127.0.0.1:{self._web.server_port}/",
                ],
                env={**os.environ, "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # its own session, so its children too
        self._process.wait(STOP_TIMEOUT_S)
        self._web.shutdown()
        self._web.server_close()
        self._thread.join(STOP_TIMEOUT_S)

    def tell(self, event: Event) -> None:
        """From the page."""
        device = self.devices.get(event.pop("id"))
        for hearer in [device] if device else list(self.devices.values()):
            hearer.tell(event)


class _PageHandler(BaseHTTPRequestHandler):
    """Serves the page, hands it orders and takes its events."""

    def __init__(self, browser: Browser, *args: Any) -> None:
        self._browser = browser
        super().__init__(*args)

    def do_GET(self) -> None:
        if self.path in self._browser.files:
            self._answer(200, *self._browser.files[self.path])
        else:
            self._answer(404, "text/plain", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/events":
            self._browser.tell(json.loads(body))
            self._answer(200, "text/plain", b"")
            return
        try:
            order = self._browser.orders.get(timeout=1.0)
        except queue.Empty:
            order = {}
        self._answer(200, "application/json", json.dumps(order).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class BrowserClient(Events):
    """MQTT.js in a page of Chromium; a browser has WebSockets only."""

    def __init__(
        self,
        mqtt_endpoint: dict[str, Any],
        kind: str,
        version: MQTTProtocolVersion,
        browser: Browser,
    ) -> None:
        super().__init__(mqtt_endpoint)
        self._id = str(next(browser.numbers))
        self._order = {"id": self._id, **mqtt_js_order(mqtt_endpoint, kind, version)}
        self._browser = browser

    def __enter__(self) -> BrowserClient:
        self._browser.devices[self._id] = self
        self._browser.orders.put(self._order)
        assert self.next("subscribed")["qos"] == 0
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.orders.put({"id": self._id})
