"""The section of the Live Service: every bound of a client that follows collections."""

from __future__ import annotations

from pydantic import Field

from mqttpush.config_sections import Section


class LiveSettings(Section):
    """The Live Service: what waits for clients that are not MQTT, and how they are waited for."""

    max_waiting_frames: int = Field(
        256,
        ge=1,
        le=100_000,
        description="entities waiting for one client; then the oldest are dropped",
        examples=[256],
    )
    # 256 x 4 KiB = 1 MiB for a client that is away for a moment.
    max_waiting_bytes: int = Field(
        1_048_576, ge=4096, description="bytes waiting for one client", examples=[1048576]
    )
    max_waiting_total_bytes: int = Field(
        67_108_864,
        ge=4096,
        description="bytes waiting for all together; then those of who waits longest are dropped",
        examples=[67108864],
    )
    max_streams_per_client: int = Field(
        4,
        ge=1,
        le=100,
        description="streams of one registered client; a new one ends the oldest",
        examples=[4],
    )
    max_collections_per_client: int = Field(
        1000, ge=1, le=100_000, description="collections one client may follow", examples=[1000]
    )
    idle_timeout_s: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="a polling client that stays away so long has to begin anew, seconds",
        examples=[60.0],
    )
    poll_s: float = Field(
        55.0,
        ge=1,
        le=600,
        description="longest wait of one poll, seconds; proxies give up after 60",
        examples=[55.0],
    )
    keep_alive_s: float = Field(
        20.0,
        ge=1,
        le=600,
        description="a silent stream of events says so often that it is there, seconds",
        examples=[20.0],
    )
