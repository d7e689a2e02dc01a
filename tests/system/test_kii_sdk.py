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


@pytest.mark.spec("kii C")
def test_the_rest_of_the_javascript_library_works(server: Server, tmp_path: Path) -> None:
    app = server.create_app("wide")
    steps = run_library(
        "kii_sdk_wide.cjs", "kii-cloud-sdk", server=server, app=app, folder=tmp_path
    )
    assert steps[-1] == "delete a thing"


@pytest.mark.spec("kii 10.5")
def test_the_library_for_owners_of_things_works(server: Server, tmp_path: Path) -> None:
    app = server.create_app("owners")
    steps = run_library("thing_if_sdk.cjs", "thing-if-sdk", server=server, app=app, folder=tmp_path)
    assert steps[-1] == "another vendor ID"
