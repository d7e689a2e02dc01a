"""Kinvey's own JavaScript library follows a collection live, unmodified, with PubNub's client."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.foreign import NODE_MODULES, SCRIPTS, missing, program
from tests.support.operating import choose
from tests.support.server import Server

TIMEOUT_S = 60.0


@pytest.mark.spec("kinvey 6")
def test_the_javascript_library_of_the_service_hears_a_collection_live(
    server: Server, tmp_path: Path
) -> None:
    node = program("node", "nodejs")
    for package in ("kinvey-js-sdk", "pubnub"):
        if not (NODE_MODULES / package).exists():
            missing(f"the npm package {package}")
    app = server.create_app("library")
    choose(server, app["appID"], is_live_service_on=True)
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps({"http": server.url, "app": app}))
    result = subprocess.run(
        [node, str(SCRIPTS / "kinvey_live.cjs"), str(ready)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {"step": "log out", "ok": True}
