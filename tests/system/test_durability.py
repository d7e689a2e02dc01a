"""kill -9 under load loses no write that was acknowledged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.support.rest import Api
from tests.support.server import Server

ROUNDS = 20
WRITERS = 16
# A kill must meet commits in flight: some are acknowledged, some are not.
WRITES_BEFORE_KILL = 150


class Load:
    """Writers that create objects as fast as they can until the server dies."""

    def __init__(self, server: Server, app_id: str, token: str, bucket: str) -> None:
        self.acknowledged: list[str] = []
        self._server = server
        self._path = f"/api/apps/{app_id}/buckets/{bucket}/objects"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, trust_env=False) as http:
            while True:
                try:
                    answer = await http.post(self._path, json={"a": 1}, headers=self._headers)
                except httpx.TransportError:
                    return  # killed, and nobody said that this write is safe
                assert answer.status_code == 201, answer.text
                self.acknowledged.append(answer.json()["objectID"])
                if len(self.acknowledged) == WRITES_BEFORE_KILL:
                    self._server.process.kill()


def test_no_acknowledged_write_is_missing_after_kill_9_under_load(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(tmp_path)
    app = server.create_app("durability")
    api = Api(server.url, app)
    user = api.pseudo_user()
    bucket = "survivors"
    acknowledged: set[str] = set()
    for _ in range(ROUNDS):
        load = Load(server, api.app_id, user.token, bucket)
        asyncio.run(load.run())
        server.kill()
        assert len(load.acknowledged) >= WRITES_BEFORE_KILL
        acknowledged.update(load.acknowledged)
        api.close()
        server = start_server(tmp_path)
        api = Api(server.url, app)
        present = set(every_object(api, user.token, bucket))
        assert acknowledged <= present, f"{len(acknowledged - present)} acknowledged writes lost"
    api.close()
    server.stop()


def every_object(api: Api, token: str, bucket: str) -> list[str]:
    """IDs of all objects, page by page."""
    found: list[str] = []
    query: dict[str, object] = {"bucketQuery": {"clause": {"type": "all"}}, "bestEffortLimit": 200}
    while True:
        page = api.ok("POST", f"/buckets/{bucket}/query", token=token, json=query)
        found += [each["_id"] for each in page["results"]]
        if "nextPaginationKey" not in page:
            return found
        query["paginationKey"] = page["nextPaginationKey"]
