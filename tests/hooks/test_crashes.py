"""What reacts to data runs at least once, also when the server is killed in between."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.conftest import StartServer
from tests.hooks.conftest import MODULE, SAMPLE, SETTINGS
from tests.hooks.test_server_code import CURRENT, HOOKS_TYPE, when
from tests.support.rest import Api

WRITES = 60


def test_no_run_is_lost_when_the_server_is_killed(
    start_server: StartServer, tmp_path: Path
) -> None:
    shutil.copy(SAMPLE, tmp_path / f"{MODULE}.py")
    server = start_server(tmp_path, **SETTINGS)
    app = server.create_app("crash")
    api = Api(server.url, app)
    admin = api.admin_token()
    document = {"kiicloud://buckets/orders": when("DATA_OBJECT_CREATED", "slowly_copy")}
    api.ok("PUT", CURRENT, token=admin, json=document, headers=HOOKS_TYPE)
    made = [
        api.ok("POST", "/buckets/orders/objects", token=admin, json={})["objectID"]
        for _ in range(WRITES)
    ]
    server.kill()  # with most runs waiting and some under way
    api.close()
    again = start_server(tmp_path, **SETTINGS)
    api = Api(again.url, app)
    deadline = time.monotonic() + 30
    copied: set[str] = set()
    query = {"bucketQuery": {"clause": {"type": "all"}}, "bestEffortLimit": 200}
    while not copied >= set(made) and time.monotonic() < deadline:
        answer = api.call("POST", "/buckets/copies/query", token=admin, json=query)
        copied = {each["of"] for each in answer.json().get("results", [])}
    api.close()
    assert copied >= set(made)
