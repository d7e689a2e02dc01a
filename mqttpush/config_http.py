"""The section `http`: the REST API's listener, its bounds, and those of whoever connects."""

from __future__ import annotations

from pydantic import Field

from mqttpush.config_sections import ListenerPort, Networks, Section


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
    max_connections_per_address: int = Field(
        1000,
        ge=1,
        description="HTTP connections of one IP address; more are closed at accept",
        examples=[1000],
    )
    max_requests_per_s_per_address: float = Field(
        0.0,
        ge=0,
        description="requests a second of one IP address, 5 s worth at once; then 429; 0: any",
        examples=[100.0],
    )
    unlimited_addresses: Networks = Field(
        ["127.0.0.0/8", "::1/128"],
        description="addresses or networks that no per-address limit applies to",
        examples=[["127.0.0.0/8", "::1/128"]],
    )
    forwarded_from: Networks = Field(
        [],
        description="addresses or networks of proxies whose X-Forwarded-For names the client",
        examples=[["127.0.0.1/32"]],
    )
    head_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="longest wait for the head of a request that has begun, seconds",
        examples=[10.0],
    )
    keep_alive_s: int = Field(
        75, ge=1, description="idle seconds before an HTTP connection is closed", examples=[75]
    )
    body_timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="a body that brings less than 1 KiB in so long is answered 408, seconds",
        examples=[60.0],
    )
    write_timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="a client that takes nothing of its answer for so long is cut off, seconds",
        examples=[60.0],
    )
