"""All providers of one simulator: built, opened on their ports, closed.

Owns the sockets, the authority whose certificates they show, and the order of start and stop. The
object that `open_providers` yields is the whole interface for tests in this process; the control
interface (`control`) is the same over HTTP.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mqttpush.provider_simulator.apns import ApnsProvider
from mqttpush.provider_simulator.control import Control
from mqttpush.provider_simulator.faults import Fault, FaultPlan
from mqttpush.provider_simulator.fcm import FcmProvider
from mqttpush.provider_simulator.http1 import Http1Link, Receiver
from mqttpush.provider_simulator.http2 import Http2Link
from mqttpush.provider_simulator.jpush import JpushProvider
from mqttpush.provider_simulator.keys import Authority
from mqttpush.provider_simulator.provider import Clock, Provider
from mqttpush.provider_simulator.webpush import WebPushProvider

CA_NAME = "ca.pem"
BACKLOG = 1024
# A listener's name and where it stands in the order of consecutive ports.
LISTENERS = ("control", "fcm", "apns", "apns_sandbox", "jpush", "webpush")


@dataclass
class Providers:
    """A running simulator."""

    fcm: FcmProvider
    apns: ApnsProvider
    jpush: JpushProvider
    webpush: WebPushProvider
    ca_file: Path
    control_url: str = ""
    _faults: FaultPlan = field(default_factory=FaultPlan)

    def by_network(self) -> Mapping[str, Provider]:
        """The providers by the names the server has for networks."""
        return {each.network: each for each in (self.fcm, self.apns, self.jpush, self.webpush)}

    def provider(self, network: str) -> Provider:
        """Raises KeyError."""
        return self.by_network()[network]

    def urls(self) -> dict[str, str]:
        """Base URL of every listener."""
        return {
            "control": self.control_url,
            "fcm": self.fcm.url,
            "fcm_token": self.fcm.token_uri,
            "apns": self.apns.url,
            "apns_sandbox": self.apns.sandbox_url,
            "jpush": self.jpush.url,
            "webpush": self.webpush.url,
        }

    def overview(self) -> dict[str, Any]:
        """Where everything is."""
        return {"urls": self.urls(), "ca_file": str(self.ca_file)}

    def add_faults(self, *faults: Fault) -> None:
        """Put faults in force. Raises KeyError for an unknown network, ValueError for a code."""
        for fault in faults:
            provider = self.provider(fault.network)
            provider.require_code(fault.code, fault.status)
            self._faults.add(fault, token=provider.key_of(fault.token) if fault.token else "")

    def clear_faults(self) -> None:
        self._faults.clear()

    def fault_report(self) -> list[dict[str, Any]]:
        return self._faults.report()

    def reset(self) -> None:
        """Forget pushes, deaths and faults; keys and devices stay."""
        self.clear_faults()
        for provider in self.by_network().values():
            provider.reset()


@asynccontextmanager
async def open_providers(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    folder: Path | None = None,
    clock: Clock = time.time,
) -> AsyncIterator[Providers]:
    """Open every listener on `host`; port: the first of six, 0 for any free ones.

    folder: where certificates are written; None: a folder that ends with the simulator. Raises
    OSError if a port is taken.
    """
    with TemporaryDirectory(prefix="mqttpush-providers-") as temporary:
        home = folder or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        authority, faults = Authority(), FaultPlan()
        shared: dict[str, Any] = {"clock": clock, "faults": faults}
        providers = Providers(
            FcmProvider(**shared),
            ApnsProvider(authority=authority, **shared),
            JpushProvider(**shared),
            WebPushProvider(**shared),
            ca_file=home / CA_NAME,
            _faults=faults,
        )
        providers.ca_file.write_bytes(authority.pem())
        async with _listening(providers, authority, host, port, Path(temporary)):
            yield providers


@asynccontextmanager
async def _listening(
    providers: Providers, authority: Authority, host: str, port: int, folder: Path
) -> AsyncIterator[None]:
    tls_h1 = _tls_context(authority, host, folder, "http/1.1", providers.ca_file)
    tls_h2 = _tls_context(authority, host, folder, "h2", providers.ca_file)
    links: set[asyncio.Transport] = set()
    plans: dict[str, tuple[Receiver, type[asyncio.Protocol], ssl.SSLContext | None]] = {
        "control": (Control(providers), Http1Link, None),
        "fcm": (providers.fcm, Http1Link, None),
        "apns": (providers.apns.production, Http2Link, tls_h2),
        "apns_sandbox": (providers.apns.sandbox, Http2Link, tls_h2),
        "jpush": (providers.jpush, Http1Link, None),
        "webpush": (providers.webpush, Http1Link, tls_h1),
    }
    servers: list[asyncio.Server] = []
    urls: dict[str, str] = {}
    try:
        for offset, name in enumerate(LISTENERS):
            receiver, link, context = plans[name]
            server = await asyncio.get_running_loop().create_server(
                _factory(link, receiver, links),
                host,
                port + offset if port else 0,
                ssl=context,
                backlog=BACKLOG,
            )
            servers.append(server)
            scheme = "https" if context else "http"
            bound_port = server.sockets[0].getsockname()[1]
            urls[name] = f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound_port}"
        _announce(providers, urls)
        yield
    finally:
        for server in servers:
            server.close()
        for transport in list(links):
            transport.abort()
        for server in servers:
            await server.wait_closed()


def _announce(providers: Providers, urls: Mapping[str, str]) -> None:
    providers.control_url = urls["control"]
    providers.fcm.url = urls["fcm"]
    providers.fcm.token_uri = f"{urls['fcm']}/token"
    providers.apns.url, providers.apns.sandbox_url = urls["apns"], urls["apns_sandbox"]
    providers.jpush.url = urls["jpush"]
    providers.webpush.url = urls["webpush"]


def _factory(
    link: type[asyncio.Protocol], receiver: Receiver, links: set[asyncio.Transport]
) -> Callable[[], asyncio.Protocol]:
    def make() -> asyncio.Protocol:
        return link(receiver, links)  # type: ignore[call-arg]

    return make


def _tls_context(
    authority: Authority, host: str, folder: Path, protocol: str, ca_file: Path
) -> ssl.SSLContext:
    certificate, key = authority.make_server_files(
        list(dict.fromkeys([host, "127.0.0.1", "::1", "localhost"]))
    )
    certificate_file, key_file = folder / "server.pem", folder / "server-key.pem"
    certificate_file.write_bytes(certificate)
    key_file.touch(mode=0o600)
    key_file.write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_file, key_file)
    context.set_alpn_protocols([protocol])
    if protocol == "h2":
        context.load_verify_locations(ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL  # push certificates
    return context
