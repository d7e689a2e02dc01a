"""Settings: the sections, read from a TOML file and then from the environment.

Names, defaults, units and ranges stand in `config_sections.py`; `config/mqttpush.toml` shows all.
Knows nobody who uses them. The one idea: a value is checked here once, with its source at hand, so
that a wrong one ends in one line that names the setting, where it came from and a right example.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mqttpush.config_hooks import EmailSettings, HookSettings
from mqttpush.config_http import HttpSettings
from mqttpush.config_live import LiveSettings
from mqttpush.config_phones import DeliverySettings, NetworkSettings
from mqttpush.config_sections import (
    LimitSettings,
    LogSettings,
    MqttSettings,
    Section,
    SecuritySettings,
    ShutdownSettings,
    StoreSettings,
)
from mqttpush.errors import ConfigError

__all__ = [
    "DeliverySettings",
    "EmailSettings",
    "HookSettings",
    "HttpSettings",
    "LimitSettings",
    "LiveSettings",
    "LogSettings",
    "MqttSettings",
    "NetworkSettings",
    "Section",
    "SecuritySettings",
    "Settings",
    "ShutdownSettings",
    "StoreSettings",
    "load_settings",
]

ENV_PREFIX = "MQTTPUSH_"
ENV_SEPARATOR = "__"
DEFAULT_SOURCE = "default"
_URL_PASSWORD = re.compile(r"(://[^/@\s:]*:)[^/@\s]*@")
# Variables with our prefix that are no settings: the command line reads them (`--help` says so).
RESERVED_VARIABLES = (
    "MQTTPUSH_CONFIG",
    "MQTTPUSH_CLI_URL",
    "MQTTPUSH_CLI_APP_ID",
    "MQTTPUSH_CLI_APP_KEY",
    "MQTTPUSH_CLI_CLIENT_ID",
    "MQTTPUSH_CLI_CLIENT_SECRET",
)


class Settings(BaseSettings):
    """All sections. Build with `load_settings`, which knows where each value came from.

    Built directly (`Settings(http=HttpSettings(port=0))`) it reads neither file nor environment.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_SEPARATOR,
        extra="forbid",
        frozen=True,
    )

    http: HttpSettings = HttpSettings()
    mqtt: MqttSettings = MqttSettings()
    store: StoreSettings = StoreSettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()
    live: LiveSettings = LiveSettings()
    networks: NetworkSettings = NetworkSettings()
    hooks: HookSettings = HookSettings()
    email: EmailSettings = EmailSettings()
    delivery: DeliverySettings = DeliverySettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives: `load_settings` merges file and environment itself."""
        return (init_settings,)


class _GivenEnvironment(EnvSettingsSource):
    """pydantic-settings' reading of environment variables, from a given mapping."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a TOML file (None: no file) with the environment on top.

    Raises ConfigError for the first thing wrong: unreadable file, unknown name, bad value.
    """
    return trace_settings(path, environ)[0]


def trace_settings(
    path: Path | None, environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """As `load_settings`, with the source of each value by dotted name (`http.port`)."""
    source_by_setting = {
        f"{section}.{key}": DEFAULT_SOURCE
        for section, model in _sections().items()
        for key in model.model_fields
    }
    values: dict[str, dict[str, object]] = {}
    if path is not None:
        for setting, value in _read_file(path).items():
            section, _, key = setting.partition(".")
            values.setdefault(section, {})[key] = value
            source_by_setting[setting] = str(path)
    for setting, name in _environment_names(environ).items():
        section, _, key = setting.partition(".")
        try:
            # One variable at a time: pydantic-settings does not say which one is no JSON.
            found = _GivenEnvironment({name: environ[name]})()
        except SettingsError as exc:
            example = f"{name}={toml_value(example_value(setting))}"
            raise ConfigError(setting, name, "is not JSON", example) from exc
        values.setdefault(section, {})[key] = found[section][key]
        source_by_setting[setting] = name
    try:
        return Settings.model_validate(values), source_by_setting
    except ValidationError as exc:
        raise _config_error(exc, source_by_setting) from None


def example_value(setting: str) -> object:
    """A right value of a setting: its first example, else its default."""
    section, _, key = setting.partition(".")
    field = _sections()[section].model_fields[key]
    return field.examples[0] if field.examples else field.default


def toml_value(value: object) -> str:
    """A setting's value as it stands in the file; None is the empty string."""
    if value is None:
        return '""'
    return json.dumps(value, ensure_ascii=False)


def without_password(value: object) -> object:
    """A value fit to be shown: the password of a URL such as a DSN is blotted out."""
    return _URL_PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value


def _sections() -> dict[str, type[Section]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _read_file(path: Path) -> dict[str, object]:
    """Values by dotted name, every name known."""
    source = str(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError("settings file", source, f"is not TOML: {exc}", "port = 8080") from exc
    except FileNotFoundError as exc:
        example = "mqttpush config example > mqttpush.toml"
        raise ConfigError("settings file", source, "does not exist", example) from exc
    except (OSError, UnicodeDecodeError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ConfigError("settings file", source, f"cannot be read: {problem}") from exc
    values: dict[str, object] = {}
    for section, keys in document.items():
        if section not in _sections():
            raise _unknown(section, source, "section", _sections())
        if not isinstance(keys, dict):
            raise ConfigError(section, source, "is a section, not a value", f"[{section}]")
        fields = _sections()[section].model_fields
        for key, value in keys.items():
            setting = f"{section}.{key}"
            if key not in fields:
                raise _unknown(setting, source, "setting", [f"{section}.{name}" for name in fields])
            if isinstance(value, bool) and fields[key].annotation is not bool:
                # Python counts true as 1, and so would pydantic.
                raise ConfigError(setting, source, "is a boolean", _as_in_file(setting))
            values[setting] = value
    return values


def _environment_names(environ: Mapping[str, str]) -> dict[str, str]:
    """Variable name by dotted setting; every variable with our prefix must be one we know."""
    known = {
        f"{ENV_PREFIX}{section}{ENV_SEPARATOR}{key}".upper(): f"{section}.{key}"
        for section, model in _sections().items()
        for key in model.model_fields
    }
    names: dict[str, str] = {}
    for name in environ:
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in RESERVED_VARIABLES:
            continue
        if upper not in known:
            raise _unknown(name, "environment", "variable", [*known, *RESERVED_VARIABLES])
        names[known[upper]] = name
    return names


def _unknown(name: str, source: str, kind: str, known: Iterable[str]) -> ConfigError:
    section, _, key = name.rpartition(".")
    elsewhere = [f"{s}.{key}" for s, model in _sections().items() if key in model.model_fields]
    if section and elsewhere:  # the right key in the wrong section
        nearest = elsewhere
    else:
        # Compared without the prefix that all variables share.
        known_by_rest = {each.removeprefix(ENV_PREFIX): each for each in known}
        rest = name.upper().removeprefix(ENV_PREFIX) if kind == "variable" else name
        close = difflib.get_close_matches(rest, known_by_rest, n=1, cutoff=0.7)
        nearest = [known_by_rest[each] for each in close]
    hint = f"did you mean {nearest[0]}?" if nearest else "`mqttpush config show` lists all"
    return ConfigError(name, source, f"unknown {kind}; {hint}")


def _config_error(invalid: ValidationError, source_by_setting: Mapping[str, str]) -> ConfigError:
    first = invalid.errors(include_url=False)[0]
    setting = ".".join(str(part) for part in first["loc"][:2]) or "settings"
    source = source_by_setting.get(setting, DEFAULT_SOURCE)
    problem = first["msg"][:1].lower() + first["msg"][1:]
    if setting not in source_by_setting:  # a rule over a whole section
        return ConfigError(setting, "settings", problem)
    example = _as_in_file(setting)
    if source.upper().startswith(ENV_PREFIX):
        value = example_value(setting)
        example = f"{source}={value if isinstance(value, str) else toml_value(value)}"
    shown = repr(without_password(first["input"]))
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return ConfigError(setting, source, f"{shown}: {problem}", example)


def _as_in_file(setting: str) -> str:
    section, _, key = setting.partition(".")
    return f"{key} = {toml_value(example_value(setting))} (in section [{section}])"
