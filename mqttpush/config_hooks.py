"""Sections of server code (hooks, endpoints, triggers, schedules) and of mail, its and to users.

Owns the classes `config.py` reads into, as `config_sections.py` does; knows nobody who uses them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mqttpush.config_sections import Section


class HookSettings(Section):
    """Server code of apps: what it may reach and how much of the server it may use."""

    python_modules: list[str] = Field(
        [],
        description="Python modules whose functions may be hooks, with what lies below them",
        examples=[["shop.hooks"]],
    )
    python_folders: list[str] = Field(
        [],
        description="folders that are searched for these modules, after what is installed",
        examples=[["/srv/shop"]],
    )
    endpoint_urls: list[str] = Field(
        [],
        description="starts of the URLs that hook documents of apps may name as endpoints",
        examples=[["https://hooks.example.com/"]],
    )
    service_base_url: str = Field(
        "",
        description="where HTTP services call back; empty: http.public_url, or the own address",
        examples=["https://push.example.com"],
    )
    wall_limit_s: float = Field(
        20.0, gt=0, le=600, description="longest run of a script or Python function, seconds"
    )
    service_limit_s: float = Field(
        60.0, gt=0, le=600, description="longest call of an HTTP service, seconds"
    )
    max_runs_per_app: int = Field(
        16, ge=1, le=1000, description="runs of one app at once; more wait for their turn"
    )
    max_waiting_runs_per_app: int = Field(
        256, ge=0, description="runs of one app that wait; more requests are refused"
    )
    max_module_calls: int = Field(
        10_000, ge=1, description="questions one run may ask of the server"
    )
    max_result_bytes: int = Field(
        5_242_880, ge=1024, description="largest body a run may leave, bytes", examples=[5242880]
    )
    max_log_bytes: int = Field(
        65_536, ge=0, description="what one run may log; the rest is dropped, bytes"
    )
    script_workers: int = Field(
        2,
        ge=1,
        le=64,
        description="processes that run scripts, at most one a processor; no app has all",
    )
    script_memory_bytes: int = Field(
        67_108_864,
        ge=4_194_304,
        description="memory of one script's run, bytes",
        examples=[67108864],
    )
    script_cpu_s: float = Field(
        2.0, gt=0, le=600, description="processor time of one script's run, seconds"
    )
    script_nice: int = Field(
        10, ge=0, le=19, description="how far scripts stand back behind the server (nice value)"
    )
    max_nested_runs_per_minute: int = Field(
        600, ge=1, description="runs a minute that runs themselves cause at one source"
    )
    max_queued_runs_per_app: int = Field(
        100_000, ge=1, description="runs of one app that react to data and wait"
    )
    max_attempts: int = Field(
        10, ge=1, le=100, description="times a failing run that reacts to data is tried"
    )
    log_retention_s: int = Field(
        604_800, ge=60, description="how long the log of hooks is kept, seconds", examples=[604800]
    )
    max_log_lines_per_app: int = Field(
        10_000, ge=0, description="log lines of one app that are kept; the oldest go first"
    )


class EmailSettings(Section):
    """The mail server that `modules.email` of hooks uses, and mail to users."""

    host: str = Field(
        "", description="name of the SMTP server; empty: no mail", examples=["smtp.example.com"]
    )
    port: int = Field(587, ge=1, le=65535, description="its TCP port")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="`starttls`, `tls` from the first byte, or `none`"
    )
    username: str = Field("", description="login; empty: none", examples=["push@example.com"])
    password: str = Field("", description="its password", examples=["secret"])
    timeout_s: float = Field(10.0, gt=0, le=600, description="longest wait for it, seconds")
    sender: str = Field(
        "",
        description="From of mail to users; empty: `username`, or no-reply at http.public_url",
        examples=["no-reply@example.com"],
    )
    link_lifetime_s: int = Field(
        3600,
        ge=60,
        le=604_800,
        description="how long a link in a mail to a user is good for, seconds",
    )
    max_requests_per_hour_per_address: int = Field(
        60, ge=1, description="mails to users that one client address may ask for in an hour"
    )
    max_mails_per_hour_per_recipient: int = Field(
        5, ge=1, description="mails to users that go to one recipient in an hour; more are dropped"
    )
    max_waiting: int = Field(
        1000, ge=1, description="requests for mail to users that wait; more are refused"
    )
