"""The real server as a process of its own, with free ports and a folder of its own."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner

from mqttpush.cli.main import main
from tests.support.operating import operate

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

# Free ports everywhere; cheap password hashes, because no test measures their strength.
TEST_SETTINGS = {
    "HTTP__PORT": "0",
    "MQTT__TCP_PORT": "0",
    "MQTT__TLS_PORT": "",
    "MQTT__WS_PORT": "",
    "MQTT__WSS_PORT": "",
    "LOG__FORMAT": "json",
    "SECURITY__ARGON2_TIME_COST": "1",
    "SECURITY__ARGON2_MEMORY_KIB": "1024",
}


def environment(folder: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a server, or of a command line that should find it, in `folder`."""
    environ = {name: value for name, value in os.environ.items() if "MQTTPUSH" not in name.upper()}
    dsn = {"STORE__DSN": f"sqlite:///{folder}/data/mqttpush.db"}
    # Hundreds of processes start in a run: compiling the package anew costs each of them 0.2 s.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name, value in {**TEST_SETTINGS, **dsn, **(settings or {})}.items():
        environ[f"MQTTPUSH_{name}"] = value
    return environ


class Server:
    """A running server; `ready` is its announcement. As a context it must end well, too."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = environment(folder, settings)
        self.stderr_file = folder / f"stderr-{time.monotonic_ns()}.log"
        with self.stderr_file.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mqttpush", "serve"],
                cwd=folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            self.ready: dict[str, Any] = json.loads(self._first_line())
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()

    @property
    def url(self) -> str:
        return str(self.ready["http"])

    @property
    def mqtt_address(self) -> tuple[str, int]:
        host, _, port = str(self.ready["mqtt_tcp"]).rpartition(":")
        return host, int(port)

    @property
    def demo(self) -> dict[str, Any]:
        """What the first start made."""
        demo: dict[str, Any] = self.ready["demo"]
        return demo

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(encoding="utf-8")

    def wait_for_log(self, text: str) -> None:
        """Until a line of the log has `text`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.stderr_file.open(encoding="utf-8") as lines:
            while time.monotonic() < deadline:
                line = lines.readline()
                if text in line:
                    return
                if not line:
                    select.select([], [], [], 0.02)  # a file cannot be waited for
        raise AssertionError(f"{text!r} is not in the log\n{self.stderr}")

    def create_app(self, name: str) -> dict[str, str]:
        """An app, made in the store as the command line makes it: its credentials."""
        created = operate(self, lambda operations: operations.apps.create(name))
        app = created.app
        return {
            "appID": app.app_id,
            "appKey": app.app_key,
            "clientID": app.client_id,
            "clientSecret": created.client_secret,
        }

    def stop(self) -> None:
        """End it as an operator does; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()
        assert status == 0, f"exit code {status}\n{self.stderr}"
        assert "Traceback" not in self.stderr, self.stderr

    def kill(self) -> None:
        """kill -9; nothing to do if it has ended."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        if self.process.stdout:
            self.process.stdout.close()

    def _first_line(self) -> str:
        assert self.process.stdout
        deadline = time.monotonic() + START_TIMEOUT_S
        text = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in text:
                remaining_s = deadline - time.monotonic()
                assert remaining_s > 0, f"not ready in time\n{self.stderr}"
                if selector.select(remaining_s):
                    chunk = os.read(self.process.stdout.fileno(), 65536)
                    assert chunk, f"ended before it was ready\n{self.stderr}"
                    text += chunk
        return text.partition(b"\n")[0].decode()


def run_cli(
    *arguments: str, environ: Mapping[str, str], cwd: Path, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """The command line as a process; the caller looks at its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "mqttpush", *arguments],
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def call_cli(
    *arguments: str, environ: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, whose start would take most of the time."""
    absent = dict.fromkeys(os.environ.keys() - environ.keys())
    with chdir(cwd):
        result = CliRunner().invoke(main, arguments, env={**absent, **environ})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)
