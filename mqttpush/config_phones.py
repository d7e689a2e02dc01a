"""Sections about phones and browsers: push networks and what is sent to them.

Owns more of what `config_sections` owns; knows nobody who uses the settings.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from mqttpush.config_sections import Section

_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?")
_HOST_PATTERN = re.compile(r"(\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+)")


def _check_url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("must be a URL such as https://host or https://host:port/path")
    return url.rstrip("/")


def _check_urls(urls: list[str]) -> list[str]:
    return [_check_url(url) for url in urls]


def _check_hosts(hosts: list[str]) -> list[str]:
    for host in hosts:
        if not _HOST_PATTERN.fullmatch(host):
            raise ValueError(f"{host!r} is no host name, *.host.name or *")
    return hosts


# The start of the URLs of one service.
BaseUrl = Annotated[str, AfterValidator(_check_url)]
# Host names; `*.` in front stands for any name below, `*` for any host.
HostPatterns = Annotated[list[str], AfterValidator(_check_hosts)]


class NetworkSettings(Section):
    """Push networks: where they are and the bounds of one request."""

    fcm_url: BaseUrl = Field(
        "https://fcm.googleapis.com",
        description="FCM; another one only for tests and simulators",
        examples=["http://127.0.0.1:9701"],
    )
    fcm_token_url: BaseUrl = Field(
        "https://oauth2.googleapis.com/token",
        description="where service accounts get access tokens; another one only for tests",
        examples=["http://127.0.0.1:9701/token"],
    )
    apns_url: BaseUrl = Field(
        "https://api.push.apple.com",
        description="APNs; another one only for tests and simulators",
        examples=["https://127.0.0.1:9702"],
    )
    apns_development_url: BaseUrl = Field(
        "https://api.sandbox.push.apple.com",
        description="APNs of installations with `development`",
        examples=["https://127.0.0.1:9703"],
    )
    jpush_url: BaseUrl = Field(
        "https://api.jpush.cn",
        description="JPush; https://bjapi.push.jiguang.cn for apps in Beijing",
        examples=["https://bjapi.push.jiguang.cn"],
    )
    webpush_hosts: HostPatterns = Field(
        [
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "*.push.services.mozilla.com",
            "*.push.apple.com",
            "*.notify.windows.com",
        ],
        description="hosts a browser's subscription may name; `*`: any with public addresses only",
        examples=[["fcm.googleapis.com", "*.push.apple.com"]],
    )
    webpush_test_origins: Annotated[list[str], AfterValidator(_check_urls)] = Field(
        [],
        description="origins of simulators a subscription may name: no address check for them",
        examples=[["http://127.0.0.1:9704"]],
    )
    ca_file: str = Field(
        "",
        description="PEM file of the authorities trusted; empty: the system's",
        examples=["/etc/ssl/certs/ca-certificates.crt"],
    )
    connect_timeout_s: float = Field(
        10.0, gt=0, le=300, description="longest way to a connection, seconds", examples=[10.0]
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="longest request, seconds", examples=[30.0]
    )
    max_connections: int = Field(
        8, ge=1, le=1000, description="connections to one host at most", examples=[8]
    )
    max_answer_bytes: int = Field(
        16_384, ge=1024, le=1048576, description="bytes read of an answer's body", examples=[16384]
    )


class DeliverySettings(Section):
    """Sending to phones: how much at once, how often again, when it is given up."""

    concurrency: int = Field(
        128,
        ge=1,
        le=2000,
        description="pushes under way at once over one network; after a crash these go out twice",
        examples=[128],
    )
    max_pushes_per_s: float = Field(
        4000.0,
        gt=0,
        description="pushes begun a second over all networks; more hold up MQTT clients' pushes",
        examples=[4000.0],
    )
    page_size: int = Field(
        50, ge=10, le=10_000, description="subscribers looked up together", examples=[50]
    )
    gather_s: float = Field(
        0.01,
        ge=0,
        le=1,
        description="how long what came of a push waits for others to be written with, seconds",
        examples=[0.01],
    )
    default_ttl_s: int = Field(
        2_419_200,
        ge=0,
        le=2_419_200,
        description="how long a network may hold a push back that names no time, seconds",
        examples=[2419200],
    )
    give_up_s: int = Field(
        86_400,
        ge=1,
        le=2_419_200,
        description="a push that no network took is given up after this, seconds",
        examples=[86400],
    )
    min_backoff_s: float = Field(
        1.0, gt=0, le=3600, description="wait before the second attempt, doubled for each more"
    )
    max_backoff_s: float = Field(
        900.0, gt=0, le=86_400, description="longest wait between two attempts, seconds"
    )
    max_retry_after_s: float = Field(
        3600.0,
        gt=0,
        le=86_400,
        description="longest pause a network may ask for (Retry-After), seconds",
        examples=[3600.0],
    )
    failures_to_pause: int = Field(
        20,
        ge=1,
        description="failures of a service for an app in a row; then it is left alone for a while",
    )
    once_grace_s: float = Field(
        5.0,
        ge=1,
        le=3600,
        description="phones wait so long for live connections with `delivery: once`, seconds",
        examples=[5.0],
    )
    event_retention_s: int = Field(
        3600,
        ge=0,
        description="what became of objects' events on each device is told so long, seconds",
        examples=[3600],
    )
    max_waiting_jobs: int = Field(
        10_000,
        ge=1,
        description="pushes of one app waiting for one network; more are answered 429",
        examples=[10000],
    )
    max_open_deliveries: int = Field(
        5000,
        ge=10,
        description="devices of one app to be tried again on one network before others follow",
        examples=[5000],
    )
