"""Kinvey's own JavaScript library, unmodified, does what its users do with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.foreign import run_library
from tests.support.server import Server


@pytest.mark.spec("kinvey 3")
def test_the_javascript_library_of_the_service_works(server: Server, tmp_path: Path) -> None:
    app = server.create_app("library")
    steps = run_library("kinvey_sdk.cjs", "kinvey-js-sdk", server=server, app=app, folder=tmp_path)
    assert steps[-1] == "remove the user"
