"""Kinvey's own JavaScript library, unmodified, does what its users do with it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.foreign import NODE_MODULES, SCRIPTS, missing, program
from tests.support.server import Server

TIMEOUT_S = 60.0


@pytest.mark.spec("kinvey 3")
def test_the_javascript_library_of_the_service_works(server: Server, tmp_path: Path) -> None:
    node = program("node", "nodejs")
    if not (NODE_MODULES / "kinvey-js-sdk").exists():
        missing("the npm package kinvey-js-sdk")
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps({"http": server.url, "app": server.create_app("library")}))
    result = subprocess.run(
        [node, str(SCRIPTS / "kinvey_sdk.cjs"), str(ready)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {"step": "remove the user", "ok": True}
