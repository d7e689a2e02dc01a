"""Kinvey's own JavaScript library follows a collection live, unmodified, with PubNub's client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.foreign import run_library
from tests.support.operating import choose
from tests.support.server import Server


@pytest.mark.spec("kinvey 6")
def test_the_javascript_library_of_the_service_hears_a_collection_live(
    server: Server, tmp_path: Path
) -> None:
    app = server.create_app("library")
    choose(server, app["appID"], is_live_service_on=True)
    packages = ("kinvey-js-sdk", "pubnub")
    steps = run_library("kinvey_live.cjs", *packages, server=server, app=app, folder=tmp_path)
    assert steps[-1] == "log out"
