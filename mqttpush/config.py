"""Settings: one class per section, read from a TOML file and then from the environment.

Owns names, defaults, units and ranges; `config/mqttpush.toml` shows all of them. Knows nobody who
uses them. The one idea: a value is checked here once, with its source at hand, so that a wrong one
ends in one line that names the setting, where it came from and a right example.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

ENV_PREFIX = "MQTTPUSH_"
ENV_SEPARATOR = "__"
DEFAULT_SOURCE = "default"


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


# An empty value switches a listener off; 0 picks a free port.
ListenerPort = Annotated[
    int | None,
    BeforeValidator(_empty_is_none),
    Field(ge=0, le=65535),
]


class Section(BaseModel):
    """A section of the settings file: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class HttpSettings(Section):
    """The REST API's listener and the bounds of one request."""

    host: str = Field("127.0.0.1", description="address to listen on", examples=["0.0.0.0"])  # noqa: S104
    port: ListenerPort = Field(8080, description="TCP port; 0 picks a free one", examples=[8080])
    public_url: str = Field(
        "",
        description="base URL clients see (Location headers); empty: from the request's Host",
        examples=["https://push.example.com"],
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, description="largest JSON request body, bytes", examples=[1048576]
    )
    max_json_depth: int = Field(
        64, ge=1, le=500, description="deepest nesting of a JSON body", examples=[64]
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description="HTTP connections at once; more are answered 503",
        examples=[10000],
    )
    keep_alive_s: int = Field(
        75, ge=1, description="idle seconds before an HTTP connection is closed", examples=[75]
    )


class MqttSettings(Section):
    """The MQTT server: listeners, what is told to clients, and every bound of a connection."""

    engine: Literal["native", "amqtt"] = Field(
        "native", description="`native`, or `amqtt` for ordinary MQTT pub/sub as well"
    )
    host: str = Field("127.0.0.1", description="address to listen on", examples=["0.0.0.0"])  # noqa: S104
    tcp_port: ListenerPort = Field(1883, description="MQTT over TCP", examples=[1883])
    tls_port: ListenerPort = Field(8883, description="MQTT over TLS", examples=[8883])
    ws_port: ListenerPort = Field(12470, description="MQTT over WebSocket", examples=[12470])
    wss_port: ListenerPort = Field(12473, description="MQTT over WebSocket, TLS", examples=[12473])
    public_host: str = Field(
        "",
        max_length=63,
        description="host name told to clients; empty: the address listened on",
        examples=["push.example.com"],
    )


class StoreSettings(Section):
    """Where everything that must last is kept."""

    dsn: str = Field(
        "sqlite:///mqttpush-data/mqttpush.db",
        pattern=r"^sqlite:///.+",
        description="sqlite:///relative/path.db or sqlite:////absolute/path.db",
        examples=["sqlite:////var/lib/mqttpush/mqttpush.db"],
    )
    commit_timeout_s: float = Field(
        10.0, gt=0, le=300, description="longest wait for a commit, seconds", examples=[10.0]
    )
    max_queued_writes: int = Field(
        10_000, ge=1, description="writes waiting for a commit; more are answered 503"
    )
    max_batch_writes: int = Field(
        256, ge=1, le=10_000, description="writes joined into one commit at most"
    )


class SecuritySettings(Section):
    """Password hashing (argon2id) and token defaults."""

    argon2_time_cost: int = Field(2, ge=1, le=20, description="argon2id passes")
    argon2_memory_kib: int = Field(
        19_456, ge=1024, le=4_194_304, description="argon2id memory, KiB"
    )
    max_concurrent_hashes: int = Field(
        2, ge=1, le=64, description="password hashes computed at once; others wait their turn"
    )
    max_queued_hashes: int = Field(
        200, ge=1, description="logins waiting for a password hash; more are answered 429"
    )


class ShutdownSettings(Section):
    """How the server stops."""

    timeout_s: float = Field(
        10.0, gt=0, le=600, description="longest time between SIGTERM and exit, seconds"
    )


class LogSettings(Section):
    """Structured logs on standard error; the ready line goes to standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["text", "json"] = Field("text", description="`text` for people, or `json`")


class Settings(BaseSettings):
    """All sections. Build with `load_settings`, which knows where each value came from."""

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
        """Environment over file: the file's values arrive as `init_settings`."""
        return (env_settings, init_settings)
