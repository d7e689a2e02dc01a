"""200 clients come and go at random while writes go on; what was due arrives exactly once.

What is due: pushes keep their order on one link, and each writer waits for its answer before it
writes again. So what a session hears of one writer is a run without gap or repetition, which starts
no later than the first write begun after the session's SUBACK. A patient session also stays until
it has heard every write that was acknowledged when it made up its mind to go.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict

import pytest

from mqttpush.client import Account, AppClient, make_http_client
from mqttpush.client import MqttEndpoint as Endpoint
from mqttpush.devices import Device
from tests.support.server import Server

CLIENTS = 200
WRITERS = 4
WRITES_EACH = 80
LONGEST_STAY_PUSHES = 80
LIMIT_S = 90.0
BUCKET = "comings-and-goings"


class Writers:
    """Count what was begun and what was acknowledged, by writer."""

    def __init__(self, client: AppClient, token: str) -> None:
        self.begun = [0] * WRITERS
        self.acknowledged = [0] * WRITERS
        self.done = asyncio.Event()
        self._client = client
        self._token = token

    async def write(self, writer: int) -> None:
        for number in range(1, WRITES_EACH + 1):
            self.begun[writer] = number
            await self._client.put_object(self._token, BUCKET, f"{writer}-{number}", b"{}")
            self.acknowledged[writer] = number
        if sum(self.acknowledged) == WRITERS * WRITES_EACH:
            self.done.set()


class Session:
    """What one link hears, from SUBACK to its end."""

    def __init__(self, stay_pushes: int) -> None:
        self.heard: dict[int, list[int]] = defaultdict(list)
        self._count = 0
        self._wanted: list[int] | None = None
        self._stay_pushes = stay_pushes
        self._over = asyncio.Event()

    def on_push(self, payload: bytes) -> None:
        writer, _, number = json.loads(payload)["objectID"].partition("-")
        self.heard[int(writer)].append(int(number))
        self._count += 1
        if self._has_enough():
            self._over.set()

    async def stay(self, wanted: list[int] | None = None) -> None:
        """Until so many pushes came, or until the wanted number of each writer did."""
        self._wanted = wanted
        self._over.clear()
        if not self._has_enough():
            await self._over.wait()

    def _has_enough(self) -> bool:
        if self._wanted is None:
            return self._count >= self._stay_pushes
        return all(
            number == 0 or (self.heard[writer] or [0])[-1] >= number
            for writer, number in enumerate(self._wanted)
        )

    def check(self, due: list[int]) -> None:
        """due: the first write of each writer that was begun after SUBACK."""
        for writer, numbers in self.heard.items():
            if numbers:
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                assert numbers[0] <= due[writer]


async def come_and_go(endpoint: Endpoint, writers: Writers, chance: random.Random) -> int:
    """Connect and drop until all is written, then hear the last write; the number of sessions."""
    session_count = 0
    while True:
        session = Session(chance.randint(0, LONGEST_STAY_PUSHES))
        device = Device(endpoint, on_push=session.on_push)
        await device.connect(timeout_s=30.0)
        due = [number + 1 for number in writers.begun]
        session_count += 1
        is_last = writers.done.is_set()
        if not is_last:
            written = asyncio.ensure_future(writers.done.wait())
            stay = asyncio.ensure_future(session.stay())
            await asyncio.wait({written, stay}, return_when=asyncio.FIRST_COMPLETED)
            written.cancel()
            stay.cancel()
            if chance.random() < 0.5:  # patient
                acknowledged = [
                    number if number >= due[writer] else 0
                    for writer, number in enumerate(writers.acknowledged)
                ]
                await session.stay(acknowledged)
        if chance.random() < 0.5:
            device.close()
        else:
            device.abort()
        session.check(due)
        if is_last:
            return session_count


async def run(server: Server, app: dict[str, str], chance: random.Random) -> int:
    async with (
        asyncio.timeout(LIMIT_S),
        make_http_client(server.url) as http,
    ):
        client = AppClient(http=http, app_id=app["appID"], app_key=app["appKey"])
        limit = asyncio.Semaphore(32)

        async def onboard() -> Endpoint:
            async with limit:
                user: Account = await client.create_pseudo_user()
                await client.subscribe_to_bucket(user.token, BUCKET)
                installation_id = await client.install_mqtt(user.token)
                return await client.get_mqtt_endpoint(user.token, installation_id)

        endpoints = await asyncio.gather(*(onboard() for _ in range(CLIENTS)))
        writers = Writers(client, (await client.create_pseudo_user()).token)
        async with asyncio.TaskGroup() as group:
            comings = [
                group.create_task(come_and_go(endpoint, writers, random.Random(chance.random())))
                for endpoint in endpoints
            ]
            for writer in range(WRITERS):
                group.create_task(writers.write(writer))
        return sum(task.result() for task in comings)


@pytest.mark.parametrize("seed", [1])
def test_clients_that_come_and_go_hear_what_is_due_exactly_once(
    server: Server, app: dict[str, str], seed: int
) -> None:
    session_count = asyncio.run(run(server, app, random.Random(seed)))
    assert session_count > 2 * CLIENTS
