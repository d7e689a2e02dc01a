"""Thing simulator: N things that speak only MQTT onboard, are commanded and answer.

Owns the plan, the counting and the verdict of such a run. Things speak MQTT alone, from the shared
onboarding connection on; the issuer of the commands speaks REST and has a device of his own. The
one idea: a command is over only when its issuer's device was told so and REST says DONE.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from mqttpush.client import Account, AppClient, MqttEndpoint, read_mqtt_endpoint
from mqttpush.devices import Device, Transport, tend
from mqttpush.errors import ClientError, RequestRefused, ServerUnreachable
from mqttpush.simulator import percentile, retry, ungrouped

ANSWER_TIMEOUT_S = 30.0
ONBOARDING_CLIENT_ID = "anonymous"
ONBOARDING_TYPE = "application/vnd.kii.OnboardingWithVendorThingIDByThing+json"
ACTION = "turnPower"


@dataclass(frozen=True, slots=True)
class ThingPlan:
    """What to do. quiet_s: how long nothing may arrive before the rest counts as missing."""

    thing_count: int
    transport: Transport = "tcp"
    concurrency: int = 16
    quiet_s: float = 5.0
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class ThingReport:
    """What came of it. Latency runs from sending a command to its issuer's device being told.

    onboarding_s: until all things had onboarded, connected anew and subscribed.
    """

    thing_count: int
    onboarded_count: int
    command_count: int
    refused_count: int
    received_count: int
    answered_count: int
    told_count: int
    done_count: int
    duplicate_count: int
    lost_device_count: int
    onboarding_s: float
    duration_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float

    @property
    def is_passed(self) -> bool:
        """Every thing onboarded and did its command exactly once, and everybody was told."""
        counts = (
            self.onboarded_count,
            self.command_count,
            self.received_count,
            self.answered_count,
            self.told_count,
            self.done_count,
        )
        is_complete = all(count == self.thing_count for count in counts)
        return is_complete and not (
            self.refused_count or self.duplicate_count or self.lost_device_count
        )


@dataclass(slots=True)
class _Thing:
    """One simulated thing. commands: those it got, by ID, and how often."""

    account: Account
    device: Device
    requests: Requests
    commands: dict[str, int] = field(default_factory=dict)
    command_id: str = ""
    sent_at: float = 0.0


class Requests:
    """Requests over MQTT of one connection: framed, numbered, their answers awaited."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    async def ask(
        self,
        device: Device,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = "",
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON; raises RequestRefused, or ServerUnreachable when none comes."""
        self._number += 1
        request_id = str(self._number)
        mqtt_topic = f"p/{device.mqtt_endpoint.mqtt_topic}{path}"
        lines = [method, f"X-Kii-RequestID: {request_id}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body is not None:
            lines.append(f"Content-Type: {content_type}")
        head = "\r\n".join([*lines, "", ""]).encode()
        future = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        device.publish(mqtt_topic, head + (orjson.dumps(body) if body is not None else b""))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer: dict[str, Any] = await future
        except TimeoutError as exc:
            url = f"mqtt://{device.mqtt_endpoint.host}"
            raise ServerUnreachable(url, f"no answer to {method} {path}") from exc
        finally:
            del self._waiting[request_id]
        if answer["status"] >= 300:
            error = answer["body"]
            code, problem = str(error.get("errorCode", "")), str(error.get("message", ""))
            raise RequestRefused(f"{method} {mqtt_topic}", answer["status"], code, problem)
        fields: dict[str, Any] = answer["body"]
        return fields

    def receive(self, payload: bytes) -> None:
        """An answer; one that nobody waits for any more is let go."""
        head, _, body = payload.partition(b"\r\n\r\n")
        status, *lines = head.decode(errors="replace").split("\r\n")
        for line in lines:
            name, _, value = line.partition(":")
            future = self._waiting.get(value) if name.lower() == "x-kii-requestid" else None
            if future is not None and not future.done():
                fields = orjson.loads(body) if body else {}
                future.set_result({"status": int(status), "body": fields})


class ThingSimulation:
    """One run. The counters may be read while it runs."""

    def __init__(
        self,
        plan: ThingPlan,
        *,
        client: AppClient,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.plan = plan
        self.onboarded_count = 0
        self.refused_count = 0
        self.answered_count = 0
        self.told_count = 0
        self.done_count = 0
        self.first_refusal: ClientError | None = None
        self._client = client
        self._clock = clock
        self._prefix = f"simulated-{secrets.token_hex(4)}"
        self._password = secrets.token_urlsafe(12)
        self._folder = f"/thing-if/apps/{client.app_id}"
        self._user: Account | None = None
        self._devices: list[Device] = []
        self._accounts: list[Account] = []
        self._things: list[_Thing] = []
        self._told: dict[str, float] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._latencies_s = array("d")
        self._arrived = asyncio.Event()

    async def run(self) -> ThingReport:
        """Onboard, command, count, clean up.

        Raises ClientError when things cannot come up; what was made is removed all the same.
        """
        try:
            user = self._user = await retry(self._client.create_pseudo_user)
            installation_id = await retry(lambda: self._client.install_mqtt(user.token))
            phone_endpoint = await retry(
                lambda: self._client.get_mqtt_endpoint(user.token, installation_id)
            )
            async with self._tended():
                phone = Device(phone_endpoint, on_push=self._on_told, transport=self.plan.transport)
                self._devices.append(phone)
                await phone.connect(timeout_s=ANSWER_TIMEOUT_S)
                started = self._clock()
                await self._each(range(self.plan.thing_count), self._bring_up(phone_endpoint))
                onboarding_s = self._clock() - started
                await self._each(self._things, self._be_owned)
                started = self._clock()
                await self._each(self._things, self._command)
                await self._wait_until_told()
                duration_s = self._clock() - started
                await asyncio.gather(*self._answers)
                await self._each(self._things, self._check)
            return self._report(onboarding_s, duration_s)
        finally:
            for task in self._answers:
                task.cancel()
            for device in self._devices:
                device.close()
            if not self.plan.is_kept:
                await self._clean_up()

    async def _each(self, items: Any, work: Callable[[Any], Awaitable[None]]) -> None:
        """The work for every item, `concurrency` at a time."""
        limit = asyncio.Semaphore(self.plan.concurrency)

        async def one(item: Any) -> None:
            async with limit:
                await work(item)

        with ungrouped():
            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(one(item))

    def _bring_up(self, address: MqttEndpoint) -> Callable[[int], Awaitable[None]]:
        client = self._client
        shared = replace(
            address,
            mqtt_topic=ONBOARDING_CLIENT_ID,
            username=f"type=oauth2&client_id={client.app_id}",
            password=f"client_secret={client.app_key}",
        )

        async def work(index: int) -> None:
            name = f"{self._prefix}-{index}"
            fields = await retry(lambda: self._onboard(shared, name))
            account = Account(str(fields["thingID"]), str(fields["accessToken"]))
            self._accounts.append(account)
            requests = Requests()
            device = Device(
                read_mqtt_endpoint(fields["mqttEndpoint"]),
                on_push=lambda payload: self._obey(thing, payload),
                on_answer=requests.receive,
                transport=self.plan.transport,
            )
            thing = _Thing(account, device, requests)
            self._devices.append(device)
            await device.connect(timeout_s=ANSWER_TIMEOUT_S)
            self._things.append(thing)
            self.onboarded_count += 1

        return work

    async def _onboard(self, shared: MqttEndpoint, name: str) -> dict[str, Any]:
        requests = Requests()
        device = Device(
            shared,
            on_push=lambda _: None,
            on_answer=requests.receive,
            transport=self.plan.transport,
            subscribes=False,
        )
        body = {"vendorThingID": name, "thingPassword": self._password}
        try:
            await device.connect(timeout_s=ANSWER_TIMEOUT_S)
            path = f"{self._folder}/onboardings"
            return await requests.ask(device, "POST", path, body, content_type=ONBOARDING_TYPE)
        finally:
            device.close()

    async def _be_owned(self, thing: _Thing) -> None:
        """The thing makes the user its owner."""
        assert self._user is not None
        path = f"/api/apps/{self._client.app_id}/things/{thing.account.id}"
        path = f"{path}/ownership/user:{self._user.id}"
        token = thing.account.token
        await retry(lambda: thing.requests.ask(thing.device, "PUT", path, token=token))

    async def _command(self, thing: _Thing) -> None:
        thing.sent_at = self._clock()
        body = {"actions": [{ACTION: {"power": True}}], "schema": "Simulated", "schemaVersion": 1}
        try:
            thing.command_id = await self._client.command_thing(
                self._user_token, thing.account.id, body
            )
        except ClientError as exc:
            self.refused_count += 1
            self.first_refusal = self.first_refusal or exc

    def _obey(self, thing: _Thing, payload: bytes) -> None:
        try:
            command_id = str(orjson.loads(payload)["commandID"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        thing.commands[command_id] = thing.commands.get(command_id, 0) + 1
        self._arrived.set()
        task = asyncio.create_task(self._answer(thing, command_id), name="answer a command")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, thing: _Thing, command_id: str) -> None:
        path = f"{self._folder}/targets/thing:{thing.account.id}/commands/{command_id}"
        body = {"actionResults": [{ACTION: {"succeeded": True}}]}
        try:
            await thing.requests.ask(
                thing.device, "PUT", f"{path}/action-results", body, token=thing.account.token
            )
            self.answered_count += 1
        except ClientError as exc:
            self.first_refusal = self.first_refusal or exc

    def _on_told(self, payload: bytes) -> None:
        """The issuer's device hears that a command is over."""
        try:
            command_id = str(orjson.loads(payload)["commandID"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        self._told[command_id] = self._clock()
        self.told_count += 1
        self._arrived.set()

    async def _wait_until_told(self) -> None:
        wanted = self.plan.thing_count - self.refused_count
        while self.told_count < wanted:
            self._arrived.clear()
            try:
                async with asyncio.timeout(self.plan.quiet_s):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _check(self, thing: _Thing) -> None:
        if not thing.command_id:
            return
        state = await retry(
            lambda: self._client.command_state(self._user_token, thing.account.id, thing.command_id)
        )
        self.done_count += state == "DONE"
        told_at = self._told.get(thing.command_id)
        if told_at is not None:
            self._latencies_s.append(told_at - thing.sent_at)

    @property
    def _user_token(self) -> str:
        assert self._user is not None
        return self._user.token

    def _report(self, onboarding_s: float, duration_s: float) -> ThingReport:
        latencies_ms = sorted(1000 * latency for latency in self._latencies_s)
        things = self._things
        received_count = sum(thing.command_id in thing.commands for thing in things)
        return ThingReport(
            thing_count=self.plan.thing_count,
            onboarded_count=self.onboarded_count,
            command_count=sum(bool(thing.command_id) for thing in things),
            refused_count=self.refused_count,
            received_count=received_count,
            answered_count=self.answered_count,
            told_count=self.told_count,
            done_count=self.done_count,
            duplicate_count=sum(sum(thing.commands.values()) for thing in things) - received_count,
            lost_device_count=sum(device.lost.done() for device in self._devices),
            onboarding_s=onboarding_s,
            duration_s=duration_s,
            latency_p50_ms=percentile(latencies_ms, 50),
            latency_p95_ms=percentile(latencies_ms, 95),
            latency_p99_ms=percentile(latencies_ms, 99),
        )

    async def _clean_up(self) -> None:
        """Delete the things and their owner; what cannot be deleted stays."""

        async def delete(account: Account) -> None:
            try:
                if account is self._user:
                    await self._client.delete_user(account.token, account.id)
                else:
                    await self._client.delete_thing(account.token, account.id)
            except ClientError as exc:
                self.first_refusal = self.first_refusal or exc

        await self._each(self._accounts, delete)
        if self._user is not None:
            await delete(self._user)

    @asynccontextmanager
    async def _tended(self) -> AsyncIterator[None]:
        task = asyncio.create_task(tend(self._devices), name="tend devices")
        try:
            yield
        finally:
            task.cancel()
