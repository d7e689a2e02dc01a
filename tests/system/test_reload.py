"""SIGHUP: settings change while serving, and a bad file changes nothing."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.support.rest import Api
from tests.support.server import Server

SETTINGS = "[http]\nmax_body_bytes = {size}\n[log]\nlevel = '{level}'\n"


def test_a_reload_takes_new_limits_and_a_bad_file_keeps_the_old_ones(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "mqttpush.toml"
    file.write_text(SETTINGS.format(size=4096, level="info"))
    server = start_server(CONFIG=str(file))
    assert _status_of_a_body(server, 3000) == 404

    file.write_text(SETTINGS.format(size=2048, level="info"))
    _reload(server, "settings reloaded")
    assert _status_of_a_body(server, 3000) == 413

    file.write_text(SETTINGS.format(size=8192, level="shout"))
    _reload(server, "the settings stay as they were")
    assert "log.level" in server.stderr
    assert _status_of_a_body(server, 3000) == 413
    server.stop()


def test_what_a_reload_cannot_change_is_named_without_its_secret(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "mqttpush.toml"
    file.write_text("[hooks]\nmax_attempts = 3\n")
    server = start_server(CONFIG=str(file))
    file.write_text("[hooks]\nmax_attempts = 4\n[email]\npassword = 'a-mail-secret'\n")
    _reload(server, "settings reloaded")
    server.wait_for_log("hooks.max_attempts needs a restart to become 4")
    server.wait_for_log("email.password needs a restart")
    assert "a-mail-secret" not in server.stderr
    server.stop()


def test_what_clients_are_told_changes_at_a_reload_and_the_rest_is_named(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "mqttpush.toml"
    file.write_text("")
    server = start_server(CONFIG=str(file))
    with closing(Api(server.url, server.create_app("reloaded"))) as api:
        assert api.mqtt_endpoint(api.pseudo_user())["X-MQTT-TTL"] == 2_147_483_647
        file.write_text(
            "[mqtt]\npublic_host = 'push.example.com'\nendpoint_ttl_s = 3600\nlisten_backlog = 7\n"
            "[delivery]\nconcurrency = 7\n[networks]\ntimeout_s = 7.0\n"
            "[store]\nquery_timeout_s = 7.0\n"
        )
        _reload(server, "settings reloaded")
        for name in (
            "mqtt.listen_backlog",
            "delivery.concurrency",
            "networks.timeout_s",
            "store.query_timeout_s",
        ):
            server.wait_for_log(f"{name} needs a restart to become 7")
        endpoint = api.mqtt_endpoint(api.pseudo_user())
        assert endpoint["host"] == "push.example.com"
        assert 3590 <= endpoint["X-MQTT-TTL"] <= 3600
    server.stop()


def _reload(server: Server, answer: str) -> None:
    """Send SIGHUP and wait for what the log says about it."""
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log(answer)


def _status_of_a_body(server: Server, size_bytes: int) -> int:
    body = b'{"a":"%s"}' % (b"x" * size_bytes)
    return httpx.post(f"{server.url}/api/apps/nobody/users", content=body).status_code
