"""Settings: where they come from, and how a wrong one is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mqttpush.cli.settings import render_example
from mqttpush.config import (
    DEFAULT_SOURCE,
    RESERVED_VARIABLES,
    Settings,
    example_value,
    load_settings,
    trace_settings,
)
from mqttpush.errors import ConfigError

EXAMPLE_FILE = Path(__file__).parent.parent / "config" / "mqttpush.toml"


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "mqttpush.toml"


def every_setting() -> list[str]:
    return list(trace_settings(None, {})[1])


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert load_settings(None, {}) == Settings()


def test_the_environment_wins_over_the_file(write: Path) -> None:
    write.write_text("[http]\nport = 8081\nhost = '0.0.0.0'\n")
    settings = load_settings(write, {"MQTTPUSH_HTTP__PORT": "9090", "PATH": "/bin"})
    assert (settings.http.port, settings.http.host) == (9090, "0.0.0.0")


def test_each_value_is_traced_to_its_source(write: Path) -> None:
    write.write_text("[http]\nport = 8081\nhost = '0.0.0.0'\n")
    _, sources = trace_settings(write, {"MQTTPUSH_HTTP__PORT": "9090"})
    assert sources["http.port"] == "MQTTPUSH_HTTP__PORT"
    assert sources["http.host"] == str(write)
    assert sources["mqtt.host"] == DEFAULT_SOURCE


def test_settings_built_by_hand_do_not_read_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MQTTPUSH_HTTP__PORT", "9090")
    assert Settings().http.port == 8080


@pytest.mark.parametrize("name", ["tcp_port", "tls_port", "ws_port", "wss_port"])
def test_an_empty_value_switches_a_listener_off(write: Path, name: str) -> None:
    write.write_text(f'[mqtt]\n{name} = ""\n')
    assert getattr(load_settings(write, {}).mqtt, name) is None
    variable = f"MQTTPUSH_MQTT__{name.upper()}"
    assert getattr(load_settings(None, {variable: ""}).mqtt, name) is None


def test_a_list_is_json_in_the_environment() -> None:
    environ = {"MQTTPUSH_MQTT__WEBSOCKET_ORIGINS": '["https://a.example", "https://b.example"]'}
    origins = load_settings(None, environ).mqtt.websocket_origins
    assert origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize("name", RESERVED_VARIABLES)
def test_the_command_lines_own_variables_are_no_settings(name: str) -> None:
    assert load_settings(None, {name: "x"}) == Settings()


FILE_MISTAKES = {
    "a typing error in a key": ("[http]\nprot = 1\n", "http.prot", "did you mean http.port?"),
    "a key in the wrong section": (
        "[http]\ntcp_port = 1\n",
        "http.tcp_port",
        "did you mean mqtt.tcp_port?",
    ),
    "a typing error in a section": ("[htp]\nport = 1\n", "htp", "did you mean http?"),
    "an unheard-of section": ("[zebra]\nx = 1\n", "zebra", "config show"),
    "a value for a section": ("http = 1\n", "http", "[http]"),
    "no TOML": ("[http\n", "settings file", "is not TOML"),
    "a number too large": (
        "[http]\nport = 65536\n",
        "http.port",
        "port = 8080 (in section [http])",
    ),
    "a number too small": ("[http]\nport = -1\n", "http.port", "greater than or equal to 0"),
    "a word for a number": ("[http]\nport = 'http'\n", "http.port", "'http'"),
    "a boolean for a number": ("[http]\nport = true\n", "http.port", "is a boolean"),
    "an unknown word": ("[log]\nlevel = 'loud'\n", "log.level", "'debug', 'info'"),
    "another kind of store": ("[store]\ndsn = 'mysql://x'\n", "store.dsn", "sqlite:///"),
}


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_a_mistake_in_the_file_is_one_line_with_setting_source_and_hint(
    write: Path, mistake: str
) -> None:
    text, setting, hint = FILE_MISTAKES[mistake]
    write.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(write, {})
    message = str(caught.value)
    assert message.startswith(f"{setting} ({write})")
    assert hint in message
    assert "\n" not in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path / "no.toml", {})


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path, {})


def test_a_file_of_other_bytes_is_told(write: Path) -> None:
    write.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(write, {})


ENVIRONMENT_MISTAKES = {
    "MQTTPUSH_HTTP__PROT": ("1", "did you mean MQTTPUSH_HTTP__PORT?"),
    "MQTTPUSH_HTP__PORT": ("1", "did you mean MQTTPUSH_HTTP__PORT?"),
    "MQTTPUSH_HTTP_PORT": ("1", "did you mean MQTTPUSH_HTTP__PORT?"),
    "MQTTPUSH_ZEBRA": ("1", "config show"),
    "MQTTPUSH_HTTP": ('{"port": 1}', "unknown variable"),
    "MQTTPUSH_HTTP__PORT": ("x", "MQTTPUSH_HTTP__PORT=8080"),
    "MQTTPUSH_LOG__LEVEL": ("", "MQTTPUSH_LOG__LEVEL="),
    "MQTTPUSH_MQTT__WEBSOCKET_ORIGINS": ("https://a.example", "is not JSON"),
}


@pytest.mark.parametrize("name", ENVIRONMENT_MISTAKES)
def test_a_mistake_in_the_environment_names_the_variable(name: str) -> None:
    value, hint = ENVIRONMENT_MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {name: value})
    assert name in str(caught.value)
    assert hint in str(caught.value)


def test_a_password_in_a_wrong_dsn_is_not_shown() -> None:
    environ = {"MQTTPUSH_STORE__DSN": "postgres://me:canary@db/x"}
    with pytest.raises(ConfigError) as caught:
        load_settings(None, environ)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("setting", every_setting())
def test_every_example_of_a_setting_is_right(setting: str) -> None:
    section, _, key = setting.partition(".")
    value = example_value(setting)
    settings = Settings.model_validate({section: {key: "" if value is None else value}})
    assert getattr(getattr(settings, section), key) == value


def test_the_example_file_is_what_the_command_prints() -> None:
    # If this fails: mqttpush config example > config/mqttpush.toml
    assert EXAMPLE_FILE.read_text(encoding="utf-8") == render_example()


def test_the_example_file_holds_every_setting_at_its_default() -> None:
    document = tomllib.loads(EXAMPLE_FILE.read_text(encoding="utf-8"))
    named = [f"{section}.{key}" for section, keys in document.items() for key in keys]
    assert named == every_setting()
    assert load_settings(EXAMPLE_FILE, {}) == Settings()


@pytest.mark.parametrize("setting", every_setting())
def test_every_setting_is_explained(setting: str) -> None:
    section, _, key = setting.partition(".")
    field = type(getattr(Settings(), section)).model_fields[key]
    assert field.description
