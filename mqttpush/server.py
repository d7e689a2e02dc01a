"""Server: builds every object, starts and stops them in order.

Knows no rule of the domain. Start: store, MQTT server, REST. Stop: REST takes no more and ends what
it has, MQTT clients are told, the store commits what waits. The one loop in behaviour is tied here:
a CONNECT is checked by a verb, whose commit tells the router about the connection.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from mqttpush import payloads
from mqttpush.config import Settings
from mqttpush.config_reload import waiting_for_restart
from mqttpush.credentials import FailureCounter, Passwords, SecretMaker
from mqttpush.data_folder import data_folder, encryption_key, only_server, ready_file, server_key
from mqttpush.delivery.senders import Senders
from mqttpush.demo import make_demo
from mqttpush.errors import ConfigError, MqttPushError, StoreError
from mqttpush.live import LiveIndex
from mqttpush.logs import is_secret_name, setup_logging
from mqttpush.metrics import Metrics
from mqttpush.models import PrincipalKind
from mqttpush.mqtt.broker import Admitted, Broker, ConnectAttempt, RefusalReason, Refused
from mqttpush.mqtt.connection import State
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.listeners import Listeners
from mqttpush.mqtt.packets import ReasonCode
from mqttpush.networks.addresses import EndpointRules
from mqttpush.networks.on_demand import OnDemand
from mqttpush.operations import Operations
from mqttpush.operations.account_mail import AccountMail
from mqttpush.operations.context import Context
from mqttpush.operations.environment_apply import EnvironmentFiles
from mqttpush.operations.installations import ConnectAnswer, ConnectRequest
from mqttpush.operations.running import Running
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.app import Application
from mqttpush.rest.inside import call_inside
from mqttpush.rest.kii.errors import render_error
from mqttpush.rest.kii.installations import MqttAddress
from mqttpush.rest.kii.table import kii_routes
from mqttpush.rest.kinvey.edge import kinvey_edge
from mqttpush.rest.kinvey.table import kinvey_routes
from mqttpush.rest.listener import SHARE_OF_STOP, HttpListener, bind_http, host_port
from mqttpush.rest.over_mqtt import MqttRequest, RequestTopics
from mqttpush.rest.routing import Edge
from mqttpush.router import CloseReason, Router
from mqttpush.sealing import Sealer
from mqttpush.store import OnCommit, Store
from mqttpush.store.blobs import BlobKeeper, open_blobs
from mqttpush.store.sqlite import open_sqlite

_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104
_LOOPBACKS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

EXPIRY_CHECK_S: Final = 1.0
# However long requests took, MQTT clients get so long to take their DISCONNECT.
MIN_DRAIN_S: Final = 0.1
_CLOSE_CODES: Final = {
    CloseReason.REVOKED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.EXPIRED: ReasonCode.MAXIMUM_CONNECT_TIME,
}

_log = logging.getLogger(__name__)

Announce = Callable[[dict[str, object]], None]


def now_ms() -> int:
    """The wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_operations(settings: Settings) -> AsyncIterator[Operations]:
    """The domain on the store without listeners, for the command line."""
    async with _open_domain(settings, Metrics(), lambda _: None) as (context, _):
        yield Operations.over(context)


async def run_server(
    settings: Settings,
    *,
    announce: Announce,
    reload: Callable[[], Settings] | None = None,
    with_demo: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop within `shutdown.timeout_s`.

    announce: called once when every listener is open. reload: reads the settings anew at SIGHUP;
    when it raises ConfigError the old ones stay. with_demo: make a demo app if the store has no app
    yet, and announce how to use it. Raises ConfigError before anything is served.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_server(settings) as server:
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, server, reload)
        ready: dict[str, object] = {"event": "ready", **server.addresses()}
        with ready_file(settings, ready):
            demo = await make_demo(server.operations) if with_demo else None
            announce({**ready, "demo": demo} if demo else ready)
            await stop.wait()
            _log.info("stopping: nothing new is accepted, what is under way is finished")


def _reload(server: Server, reload: Callable[[], Settings]) -> None:
    """SIGHUP: take what can change while serving; a bad file keeps the old settings."""
    try:
        server.reload(reload())
    except ConfigError as exc:
        _log.error("SIGHUP: the settings stay as they were: %s", exc)


@asynccontextmanager
async def open_code(settings: Settings) -> AsyncIterator[EnvironmentFiles]:
    """What runs code, on the store without listeners, for the command line."""
    metrics = Metrics()
    async with _open_domain(settings, metrics, lambda _: None) as (context, _):
        operations = Operations.over(context)
        running = Running.over(
            context,
            operations,
            email=settings.email,
            metrics=metrics,
            call_api=_no_api,
            base_url=lambda: settings.http.public_url,
        )
        try:
            yield EnvironmentFiles(context.store, operations, running)
        finally:
            await running.engine.close()


async def _no_api(*_: object) -> tuple[int, dict[str, str], object]:
    return 503, {}, None  # code is only checked and tried here: DryHost answers it


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """A running server; leaving stops it in order."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        server = Server(settings, metrics)
        context, store = await stack.enter_async_context(
            _open_domain(settings, metrics, server.router_apply)
        )
        stack.enter_context(only_server(settings))
        server.wire(context, store)
        operations = server.operations
        keeper = BlobKeeper(store=store, blobs=context.blobs, now_ms=now_ms)
        await keeper.remove_orphans()
        # Code and constants live as long as the process; looking through them for garbage again and
        # again, 80,000 objects, stops the loop for 0.15 s each time.
        gc.collect()
        gc.freeze()
        try:
            await server.start()
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(operations.messages.record(), name="message fates"),
                    tasks.create_task(operations.commands.record(), name="command fates"),
                    tasks.create_task(operations.presence.record(), name="presence"),
                    tasks.create_task(server.close_expired(), name="expired credentials"),
                    tasks.create_task(keeper.run(), name="old bodies"),
                    tasks.create_task(server.running.runs.run(), name="server code"),
                    tasks.create_task(server.running.log.run(), name="log of server code"),
                    tasks.create_task(server.senders.run(), name="phones"),
                    tasks.create_task(server.account_mail.run(), name="mail to users"),
                ]
                yield server
                server.begin_stop()
                await server.senders.stop(settings.shutdown.timeout_s / 3)
                for task in running:
                    task.cancel()
        finally:
            await server.stop()


class Server:
    """The objects of one process and the order of their lives."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._started_with = settings
        self._settings = settings
        self._metrics = metrics
        self._http: HttpListener | None = None
        self._admission = HttpAdmission(settings.http, metrics, clock=time.monotonic)
        self._stop_by = 0.0  # on the loop's clock, once it is stopping
        self._ending: asyncio.TimerHandle | None = None
        self.broker = _engine(settings)(
            settings=settings.mqtt,
            metrics=metrics,
            clock=time.monotonic,
            random=random.SystemRandom(),
            authenticate=self._authenticate,
            on_closed=self._on_closed,
            on_request=self._on_request,
            on_subscribed=self._on_subscribed,
        )
        self.listeners = Listeners(
            settings=settings.mqtt, broker=self.broker, data_folder=data_folder(settings)
        )
        self.live = LiveIndex(
            settings=settings.live,
            fan_out=lambda handles, payload: self.broker.fan_out(handles, payload),
            is_connected=lambda handle: self.router.owner_of(handle) is not None,
            metrics=metrics,
            now_ms=now_ms,
        )
        self.router = Router(
            fan_out=lambda handles, payload, key, sources: self.broker.fan_out(
                handles, payload, conflation_key=key, source_keys=sources
            ),
            withdraw=lambda *change: self.broker.withdraw(*change),
            close=lambda handle, why: self.broker.close(handle, _CLOSE_CODES[why]),
            is_open=lambda handle: handle.connection.state is not State.CLOSED,
            render_event=payloads.render_event,
            on_routed=lambda *routed: self.operations.messages.routed(*routed),
            on_command_routed=lambda *routed: self.operations.commands.routed(*routed),
            on_presence=lambda *change: self.operations.presence.changed(*change),
            on_reached=lambda *reached: self.operations.messages.reached(*reached),
            on_phones=lambda change: self.senders.changed(change),
            on_runs_queued=lambda _: self.running.runs.wake(),
            metrics=metrics,
            now_ms=now_ms,
            also=self.live.handlers,
        )
        self.router_apply: OnCommit = self.router.apply

    def wire(self, context: Context, store: Store) -> None:
        """Give the server the domain it serves; the store had to know the router first."""
        self._context = context
        self.operations = operations = Operations.over(context)
        self._store = store
        self.senders = Senders(
            networks={network.value: each for network, each in context.networks.items()},
            jobs=operations.deliveries,
            keyring=operations.networks,
            settings=self._settings.delivery,
            clock=asyncio.get_running_loop(),
            now_ms=now_ms,
            random=random.SystemRandom(),
            metrics=self._metrics,
        )
        self.running = running = Running.over(
            context,
            operations,
            email=self._settings.email,
            metrics=self._metrics,
            call_api=lambda *request: call_inside(self.application, *request),
            base_url=self._base_url,
        )
        self.account_mail = mail = AccountMail(
            context, settings=lambda: self._settings, metrics=self._metrics, clock=time.monotonic
        )
        self.application = Application(
            routes=[
                *kii_routes(operations, self._mqtt_address, running.runs),
                *kinvey_routes(
                    operations, running, self.live, self._mqtt_address, lambda: context.live, mail
                ),
            ],
            edges=(Edge(render_error), kinvey_edge(operations.environments)),
            settings=self._settings.http,
            metrics=self._metrics,
            admission=self._admission,
            check_ready=self._check_ready,
        )
        self._request_topics = RequestTopics(
            application=self.application,
            respond=self.broker.respond,
            base_url=lambda: self._settings.http.public_url or str(self.addresses().get("http")),
            max_body_bytes=lambda: self._settings.http.max_body_bytes,
            max_json_depth=lambda: self._settings.http.max_json_depth,
        )

    async def start(self) -> None:
        """Open every listener; raises ConfigError, and then none is left open."""
        sockets = bind_http(self._settings)
        try:
            await self.listeners.start()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        if sockets:
            self._http = HttpListener(
                self.application, self._settings, sockets, self._admission, self._metrics
            )
            await self._http.start()

    def reload(self, settings: Settings) -> None:
        """Take new limits, certificates and log level; raises ConfigError and changes nothing.

        What cannot change while serving stays until a restart, with a warning.
        """
        self.listeners.reload(settings.mqtt)  # first: it may refuse a certificate
        self.application.reload(settings.http)
        if self._http is not None:
            self._http.reload(settings.http)
        self._context.reload(settings)
        self._settings = settings
        self.live.reload(settings.live)
        setup_logging(settings.log)
        for setting, new in waiting_for_restart(self._started_with, settings):
            shown = "another one" if is_secret_name(setting) else new
            _log.warning("SIGHUP: %s needs a restart to become %s", setting, shown)
        _log.info("SIGHUP: settings reloaded")

    def begin_stop(self) -> None:
        """Accept nothing more; what is under way ends within `shutdown.timeout_s` from here."""
        if self._ending is not None:
            return
        loop = asyncio.get_running_loop()
        timeout_s = self._started_with.shutdown.timeout_s
        self._stop_by = loop.time() + timeout_s
        self.listeners.close()
        self.live.close()
        # Code has most of the time that requests have; then those who wait for it are answered.
        code_s = 0.75 * SHARE_OF_STOP * timeout_s
        self._ending = loop.call_later(code_s, self.running.engine.end)
        if self._http is not None:
            self._http.close()

    async def stop(self) -> None:
        """End requests, then tell MQTT clients, who hear of those requests until then."""
        self.begin_stop()
        if self._http is not None:
            await self._http.stop()
        timeout_s = self._started_with.shutdown.timeout_s
        left_s = self._stop_by - asyncio.get_running_loop().time() - timeout_s / 20
        await self.listeners.drain(max(min(timeout_s / 2, left_s), MIN_DRAIN_S))
        await self.listeners.stop()
        await self._request_topics.stop()
        assert self._ending is not None
        self._ending.cancel()
        await self.running.engine.close()
        with suppress(StoreError):
            await self.running.log.flush()

    async def _check_ready(self) -> None:
        """Raises when a part does not answer."""
        if self.listeners.addresses and not self.listeners.is_listening:
            raise MqttPushError("an MQTT listener has closed")
        await self._store.check()

    async def close_expired(self) -> None:
        """End connections whose credentials expire; runs until cancelled."""
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            self.router.close_expired()
            self.live.close_expired()

    def addresses(self) -> dict[str, object]:
        """`http` as a URL, `mqtt_tcp` and its like as host:port, of the open listeners."""
        found: dict[str, object] = {}
        if self._http is not None:
            found["http"] = f"http://{host_port(*self._http.address)}"
        for kind, address in self.listeners.addresses.items():
            found[f"mqtt_{kind}"] = host_port(*address)
        return found

    def _base_url(self) -> str:
        """Where programs beside the server reach it; empty without a listener."""
        settings = self._settings.http
        if settings.public_url or self._http is None:
            return settings.public_url
        host, port = self._http.address
        return f"http://{host_port(_LOOPBACKS.get(host, host), port)}"

    def _mqtt_address(self) -> MqttAddress:
        settings = self._settings.mqtt
        host = "" if settings.host in _ANY_ADDRESS else settings.host
        ports = {kind: port for kind, (_, port) in self.listeners.addresses.items()}
        return MqttAddress(
            settings.public_host or host,
            settings.public_tcp_port or ports.get("tcp", 0),
            settings.public_tls_port or ports.get("tls", 0),
            settings.public_ws_port or ports.get("ws", 0),
            settings.public_wss_port or ports.get("wss", 0),
        )

    async def _authenticate(
        self, attempts: Sequence[ConnectAttempt]
    ) -> Sequence[Admitted | Refused]:
        requests = [
            ConnectRequest(attempt.handle, attempt.client_id, attempt.username, attempt.password)
            for attempt in attempts
        ]
        return [
            _broker_answer(answer)
            for answer in await self.operations.installations.connect(requests)
        ]

    def _on_closed(self, handle: Handle) -> None:
        self.router.detach(handle)
        self.live.detach(handle)

    def _on_request(self, handle: Handle, mqtt_topic: str, payload: bytes) -> None:
        connection = handle.connection
        self._request_topics.receive(
            MqttRequest(
                handle,
                connection.client_id,
                handle.app_id,
                handle.address,
                connection.is_onboarding,
                mqtt_topic,
                payload,
            )
        )

    def _on_subscribed(self, handle: Handle) -> None:
        """A thing can be reached from here on: commands may wait for it."""
        owner = self.router.owner_of(handle)
        if owner is not None and owner.kind == PrincipalKind.THING.value:
            self.operations.commands.came_online(owner)


@asynccontextmanager
async def _open_domain(
    settings: Settings, metrics: Metrics, on_commit: OnCommit
) -> AsyncIterator[tuple[Context, Store]]:
    unlimited = settings.http.unlimited_addresses
    passwords = Passwords(settings.security, unlimited=unlimited)
    metrics.password_hashes.read = lambda: passwords.waiting_count
    try:
        async with AsyncExitStack() as stack:
            opening = open_sqlite(settings.store, metrics=metrics, on_commit=on_commit)
            store = await stack.enter_async_context(opening)
            blobs = stack.enter_context(open_blobs(data_folder(settings)))
            networks = OnDemand(settings.networks, clock=time.time)
            stack.push_async_callback(networks.close)
            context = Context(
                store=store,
                blobs=blobs,
                now_ms=now_ms,
                secrets=SecretMaker(source=random.SystemRandom(), server_key=server_key(settings)),
                passwords=passwords,
                failures=FailureCounter(
                    settings.security, clock=time.monotonic, unlimited=unlimited
                ),
                limits=settings.limits,
                hooks=settings.hooks,
                live=settings.live,
                endpoint_ttl_s=settings.mqtt.endpoint_ttl_s,
                sealer=Sealer(master_key=encryption_key(settings), random_bytes=os.urandom),
                networks=networks,
                endpoint_rules=EndpointRules(settings.networks),
                delivery=settings.delivery,
            )
            yield context, store
    finally:
        passwords.close()


def _broker_answer(answer: ConnectAnswer) -> Admitted | Refused:
    if answer.is_admitted:
        return Admitted(answer.mqtt_topic, answer.app_id, is_onboarding=not answer.mqtt_topic)
    if answer.is_known:
        return Refused(RefusalReason.IDENTIFIER_REJECTED)
    return Refused(RefusalReason.BAD_CREDENTIALS)


def _engine(settings: Settings) -> type[Broker]:
    """The broker of `mqtt.engine`; its library is imported only when it is wanted."""
    if settings.mqtt.engine == "native":
        return Broker
    try:
        from mqttpush.mqtt.amqtt_engine import AmqttEngine
    except ModuleNotFoundError as exc:
        problem = f"the library {exc.name} is missing: pip install 'mqttpush[amqtt]'"
        raise ConfigError("mqtt.engine", "settings", problem, 'engine = "native"') from exc
    return AmqttEngine
