"""Every store the contract runs against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import MEMORY_DSN


@pytest.fixture
def file_dsn(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/mqttpush.db"


@pytest.fixture(params=["memory", "file"])
def dsn(request: pytest.FixtureRequest, file_dsn: str) -> str:
    return MEMORY_DSN if request.param == "memory" else file_dsn
