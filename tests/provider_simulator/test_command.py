"""`mqttpush simulate-providers` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mqttpush.config import load_settings
from mqttpush.networks.opening import open_networks
from mqttpush.provider_simulator.providers import LISTENERS
from tests.support.providers import running_providers


class Command:
    """The running command; `first_line` is what it said first."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mqttpush", "simulate-providers", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert self.process.stdout
        self.first_line = self.process.stdout.readline()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, standard error."""
        self.process.send_signal(number)
        assert self.process.stdout
        assert self.process.stderr
        output, errors = self.process.stdout.read(), self.process.stderr.read()
        return self.process.wait(20), output, errors


@contextmanager
def running(*arguments: str) -> Iterator[Command]:
    command = Command(*arguments)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait(20)
        for pipe in (command.process.stdout, command.process.stderr):
            assert pipe
            pipe.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_when_told(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running("--folder", str(tmp_path / "made"), "--json") as command:
        ready: dict[str, Any] = json.loads(command.first_line)
        assert ready["event"] == "ready"
        assert httpx.get(ready["urls"]["control"]).json()["urls"] == ready["urls"]
        status, output, errors = command.end(number)
    assert (status, output) == (0, "")
    assert "Traceback" not in errors


def test_the_settings_it_names_are_settings_of_the_server(tmp_path: Path) -> None:
    with running("--folder", str(tmp_path), "--json") as command:
        ready: dict[str, Any] = json.loads(command.first_line)
        settings = load_settings(None, ready["environment"]).model_dump()
        for name, value in ready["settings"].items():
            section, _, key = name.partition(".")
            assert settings[section][key] == value


def test_the_server_takes_the_credentials_it_makes(tmp_path: Path) -> None:
    with running("--folder", str(tmp_path), "--json") as command:
        ready: dict[str, Any] = json.loads(command.first_line)
    settings = load_settings(None, ready["environment"]).networks
    for network, bridge in open_networks(settings, clock=time.time).items():
        assert bridge.check("app", ready["credentials"][network.value]).summary


def test_its_files_are_there_and_secret(tmp_path: Path) -> None:
    with running("--folder", str(tmp_path), "--json") as command:
        files: dict[str, str] = json.loads(command.first_line)["files"]
        for name, path in files.items():
            mode = Path(path).stat().st_mode & 0o777
            assert mode == 0o600 or name == "ca.pem"
        assert json.loads(Path(files["service-account.json"]).read_text())["private_key"]


def test_a_person_gets_something_to_paste(tmp_path: Path) -> None:
    with running("--folder", str(tmp_path)) as command:
        status, output, _ = command.end()
    assert status == 0
    for words in ("export MQTTPUSH_NETWORKS__FCM_URL=", "mqttpush network set apns ", "/faults"):
        assert words in output


def test_ports_are_taken_in_a_row(tmp_path: Path) -> None:
    first = free_ports(len(LISTENERS))
    with running("--port", str(first), "--folder", str(tmp_path), "--json") as command:
        urls: dict[str, str] = json.loads(command.first_line)["urls"]
    ports = [int(urls[name].rpartition(":")[2]) for name in LISTENERS]
    assert ports == list(range(first, first + len(LISTENERS)))


def test_a_taken_port_and_a_wrong_folder_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments in (["--port", port], ["--folder", str(tmp_path / "file" / "in")]):
            given = ["--folder", str(tmp_path), *arguments]
            with running(*given) as command:
                assert command.process.wait(20) == 2
                assert command.process.stderr
                errors = command.process.stderr.read()
            assert command.first_line == ""
            assert len(errors.splitlines()) == 1
            assert errors.startswith("mqttpush: ")


def test_it_can_stand_beside_a_test_in_a_thread() -> None:
    with running_providers() as running_ones:
        urls = httpx.get(running_ones.providers.control_url).json()["urls"]
        assert urls == running_ones.providers.urls()
        with pytest.raises(TimeoutError, match="fcm"):
            running_ones.wait_for("fcm", 1, timeout_s=0.01)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below those given out on request."""
    for first in range(20_000, 30_000, count):
        sockets: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return first
    raise AssertionError("no free ports")
