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
    max_retry_after_s: float = Field(
        3600.0,
        gt=0,
        le=86_400,
        description="longest pause a network may ask for (Retry-After), seconds",
        examples=[3600.0],
    )
