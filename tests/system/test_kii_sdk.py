"""The service's own JavaScript library, unmodified but for its base URL, does everything it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.foreign import run_library
from tests.support.server import Server


@pytest.mark.spec("kii C")
def test_the_javascript_library_of_the_service_works(server: Server, tmp_path: Path) -> None:
    app = server.create_app("library")
    steps = run_library("kii_sdk.cjs", "kii-cloud-sdk", server=server, app=app, folder=tmp_path)
    assert steps[-1] == "delete a user"
