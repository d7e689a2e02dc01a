"""Sections: every setting with its default, range, unit and a right example.

Owns the classes `config.py` reads into, one per section; knows nobody who uses them. The one idea:
a setting is one `Field`, and the settings file, error messages and documents all read it.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


# An empty value switches a listener off; 0 picks a free port.
ListenerPort = Annotated[
    Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_empty_is_none)
]


def _check_networks(entries: list[str]) -> list[str]:
    for entry in entries:
        ip_network(entry, strict=False)  # ValueError says what is wrong
    return entries


# IP addresses and networks such as 10.0.0.0/8.
Networks = Annotated[list[str], AfterValidator(_check_networks)]


class Section(BaseModel):
    """A section of the settings file: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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
    public_tcp_port: ListenerPort = Field(
        None, description="port told to clients; empty: the one listened on", examples=[1883]
    )
    public_tls_port: ListenerPort = Field(
        None, description="the same for MQTT over TLS", examples=[8883]
    )
    public_ws_port: ListenerPort = Field(
        None, description="the same for MQTT over WebSocket", examples=[80]
    )
    public_wss_port: ListenerPort = Field(
        None, description="the same for MQTT over WebSocket, TLS", examples=[443]
    )
    endpoint_ttl_s: int = Field(
        0,
        ge=0,
        le=2_147_483_647,
        description="how long MQTT credentials are valid, seconds; 0: for ever",
        examples=[2592000],
    )
    server_reference: str = Field(
        "",
        description="other server told to MQTT 5 clients at shutdown (host:port); empty: none",
        examples=["mqtt2.example.com:8883"],
    )
    listen_backlog: int = Field(
        4096,
        ge=1,
        le=65535,
        description="connections the kernel queues before they are accepted",
        examples=[4096],
    )
    proxy_protocol_from: Networks = Field(
        [],
        description="addresses or networks of load balancers that send a PROXY protocol header",
        examples=[["10.0.0.0/8"]],
    )
    unlimited_addresses: Networks = Field(
        ["127.0.0.0/8", "::1/128"],
        description="addresses or networks that no per-address limit applies to",
        examples=[["127.0.0.0/8", "::1/128"]],
    )
    tls_certificate_file: str = Field(
        "",
        description="PEM certificate chain; empty: a self-signed one in the data folder",
        examples=["/etc/mqttpush/fullchain.pem"],
    )
    tls_private_key_file: str = Field(
        "",
        description="PEM private key of that certificate",
        examples=["/etc/mqttpush/privkey.pem"],
    )
    tls_minimum_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="oldest TLS version spoken", examples=["1.3"]
    )
    websocket_origins: list[str] = Field(
        [],
        description="web origins that may open a WebSocket; empty: any",
        examples=[["https://app.example.com"]],
    )
    websocket_read_buffer_bytes: int = Field(
        2048,
        ge=2048,
        le=1048576,
        description="read buffer of one WebSocket connection, bytes",
        examples=[2048],
    )
    max_websocket_frames_per_s: float = Field(
        500.0,
        gt=0,
        description="frames a second of one WebSocket connection; 5 s worth may come at once",
        examples=[500.0],
    )
    tls_handshake_timeout_s: float = Field(
        10.0, gt=0, le=300, description="longest TLS handshake, seconds", examples=[10.0]
    )
    websocket_handshake_timeout_s: float = Field(
        10.0, gt=0, le=300, description="longest WebSocket upgrade, seconds", examples=[10.0]
    )
    onboarding_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="how long a connection that may only onboard is kept, seconds",
        examples=[30.0],
    )
    connect_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="longest wait for the CONNECT packet, seconds",
        examples=[10.0],
    )
    authenticate_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="longest wait of a CONNECT for its check, seconds",
        examples=[10.0],
    )
    max_authenticate_batch: int = Field(
        256, ge=1, le=10000, description="CONNECTs checked together at most", examples=[256]
    )
    max_connections: int = Field(
        100_000,
        ge=1,
        description="authenticated connections at once; more are refused with Server busy",
        examples=[100000],
    )
    max_connections_per_address: int = Field(
        1000, ge=1, description="authenticated connections of one IP address", examples=[1000]
    )
    max_unauthenticated: int = Field(
        10_000,
        ge=1,
        description="connections that are not authenticated yet; more are closed at once",
        examples=[10000],
    )
    max_unauthenticated_per_address: int = Field(
        500, ge=1, description="the same for one IP address", examples=[500]
    )
    max_sockets_per_s_per_address: float = Field(
        100.0,
        gt=0,
        description="sockets a second of one IP address, before any handshake; 5 s worth at once",
        examples=[100.0],
    )
    max_connects_per_s_per_address: float = Field(
        50.0,
        gt=0,
        description="CONNECTs a second of one IP address; 5 s worth may come at once",
        examples=[50.0],
    )
    max_connects_per_s_per_client: float = Field(
        1.0,
        gt=0,
        description="CONNECTs a second of one client ID with right credentials; 60 s worth at once",
        examples=[1.0],
    )
    max_takeovers_per_s_per_client: float = Field(
        0.5,
        gt=0,
        description="times a second a client ID may displace itself; 5 may come at once",
        examples=[0.5],
    )
    max_failed_connects_per_minute: int = Field(
        20,
        ge=1,
        description="wrong credentials a minute from one address for one client ID",
        examples=[20],
    )
    max_packet_before_auth_bytes: int = Field(
        4096,
        ge=512,
        le=1048576,
        description="most that a client may send before it is authenticated, bytes",
        examples=[4096],
    )
    max_packet_bytes: int = Field(
        262_144,
        ge=1024,
        le=16777216,
        description="largest packet of an authenticated client, bytes",
        examples=[262144],
    )
    max_user_properties: int = Field(
        64, ge=0, le=10000, description="MQTT 5 user properties in one packet", examples=[64]
    )
    max_filters_per_packet: int = Field(
        64,
        ge=1,
        le=10000,
        description="topic filters in one SUBSCRIBE or UNSUBSCRIBE",
        examples=[64],
    )
    max_ordinary_filters: int = Field(
        64,
        ge=1,
        le=10000,
        description="ordinary topic filters of one client (engine `amqtt`)",
        examples=[64],
    )
    max_retained_messages: int = Field(
        256,
        ge=0,
        le=100000,
        description="retained messages of one app, in memory (engine `amqtt`)",
        examples=[256],
    )
    max_waiting_messages: int = Field(
        4096,
        ge=1,
        description="ordinary messages not yet spread; then who publishes more is closed",
        examples=[4096],
    )
    max_inflight_publishes: int = Field(
        16,
        ge=1,
        le=65535,
        description="QoS 2 publishes of one client not yet released (Receive Maximum)",
        examples=[16],
    )
    max_publishes_per_s: float = Field(
        20.0,
        gt=0,
        description="PUBLISH packets a second of one client; 5 s worth may come at once",
        examples=[20.0],
    )
    max_control_packets_per_s: float = Field(
        10.0,
        gt=0,
        description="PINGREQ and other small packets a second of one client; 5 s worth at once",
        examples=[10.0],
    )
    max_keep_alive_s: int = Field(
        1200,
        ge=10,
        le=65535,
        description="longest keep-alive, seconds; 0 and longer ones count as this",
        examples=[1200],
    )
    write_buffer_bytes: int = Field(
        65_536,
        ge=1024,
        le=16777216,
        description="bytes handed to a socket that does not take them before pushes wait",
        examples=[65536],
    )
    max_outbox_packets: int = Field(
        256,
        ge=1,
        le=100000,
        description="pushes waiting for one slow reader; then the oldest are dropped",
        examples=[256],
    )
    max_outbox_bytes: int = Field(
        262_144, ge=4096, description="bytes waiting for one slow reader", examples=[262144]
    )
    max_outbox_total_bytes: int = Field(
        268_435_456,
        ge=4096,
        description="bytes waiting for all slow readers together",
        examples=[268435456],
    )
    idle_read_interval_ms: int = Field(
        100,
        ge=0,
        le=1000,
        description="clients that only ping are looked at so often, not each at once; 0: at once",
        examples=[100],
    )
    idle_read_from_connections: int = Field(
        1000,
        ge=1,
        description="with fewer connections all are read at once",
        examples=[1000],
    )
    stall_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="a client that takes nothing, or leaves a packet incomplete, for so long is"
        " closed, seconds",
        examples=[30.0],
    )
    max_loop_lag_ms: int = Field(
        500,
        ge=10,
        le=60000,
        description="new CONNECTs are refused while the event loop runs later than this, ms",
        examples=[500],
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
    query_timeout_s: float = Field(
        5.0,
        gt=0,
        le=300,
        description="longest time one query may take, seconds; then it is answered 503",
        examples=[5.0],
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
    thing_argon2_time_cost: int = Field(
        1, ge=1, le=20, description="the same for passwords of things, which are made, not chosen"
    )
    thing_argon2_memory_kib: int = Field(
        7168, ge=1024, le=4_194_304, description="argon2id memory for passwords of things, KiB"
    )
    max_concurrent_hashes: int = Field(
        2, ge=1, le=64, description="password hashes computed at once; others wait their turn"
    )
    max_failed_passwords: int = Field(
        5,
        ge=1,
        description="wrong passwords for one name from one address in 5 minutes; then 429",
        examples=[5],
    )
    max_failed_passwords_per_address: int = Field(
        100,
        ge=1,
        description="wrong passwords and secrets for one app from one address in 5 minutes",
        examples=[100],
    )
    max_queued_hashes: int = Field(
        200, ge=1, description="logins waiting for a password hash; more are answered 503"
    )
    max_queued_hashes_per_address: int = Field(
        50, ge=1, description="of those, from one IP address; more are answered 503"
    )
    encryption_key_file: str = Field(
        "",
        description="file of 32 bytes or more that seals credentials of push networks in the store;"
        " empty: `server.key` of the data folder",
        examples=["/etc/mqttpush/encryption.key"],
    )


class LimitSettings(Section):
    """Bounds of what one app, bucket or owner may hold."""

    max_mqtt_installations_per_owner: int = Field(
        16, ge=1, le=1000, description="MQTT installations of one user or thing"
    )
    max_browsers_per_owner: int = Field(
        50,
        ge=1,
        le=10_000,
        description="browsers of one user or thing; of more, that registered longest ago goes",
    )
    max_device_tokens_per_user: int = Field(
        100,
        ge=1,
        le=10_000,
        description="phones that Kinvey's clients register for one user; the oldest goes first",
    )
    max_tokens_per_principal: int = Field(
        100,
        ge=2,
        description="access tokens of one user, thing or administrator; the oldest end first",
        examples=[100],
    )
    max_answer_bytes: int = Field(
        16_777_216,
        ge=65_536,
        description="entities of one answer together, bytes; more are answered 400",
        examples=[16777216],
    )
    max_filters_per_bucket: int = Field(
        100, ge=0, le=1000, description="named filters of one bucket"
    )
    max_filters_per_owner: int = Field(
        10, ge=0, le=1000, description="named filters one user or thing may make in a bucket"
    )
    message_retention_s: int = Field(
        604_800,
        ge=60,
        description="how long the record of a sent message is kept, seconds",
        examples=[604800],
    )
    max_body_bytes: int = Field(
        1_073_741_824, ge=1, description="largest body of an object, bytes", examples=[1073741824]
    )
    max_uploads_per_owner: int = Field(
        100, ge=1, le=10_000, description="bodies one user or thing may upload in parts at once"
    )
    upload_expiry_s: int = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="an upload without a new part for so long is thrown away, seconds",
        examples=[86400],
    )
    max_group_members: int = Field(1000, ge=1, le=100_000, description="members of one group")


class ShutdownSettings(Section):
    """How the server stops."""

    timeout_s: float = Field(
        10.0, gt=0, le=600, description="longest time between SIGTERM and exit, seconds"
    )


class LogSettings(Section):
    """Structured logs on standard error; the ready line goes to standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["text", "json"] = Field("text", description="`text` for people, or `json`")
