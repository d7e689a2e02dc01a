"""Kinvey's library for Node.js of before version 4 runs unmodified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.foreign import run_library
from tests.support.operating import choose
from tests.support.server import Server


@pytest.mark.spec("kinvey 3")
def test_the_old_library_for_node_of_the_service_works(server: Server, tmp_path: Path) -> None:
    app = server.create_app("old-library")
    choose(server, app["appID"], is_live_service_on=True)
    script, package = "kinvey_node_sdk.cjs", "kinvey-node-sdk"
    assert run_library(script, package, server=server, app=app, folder=tmp_path)[-1] == "log out"
