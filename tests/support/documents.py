"""The project's documents as tests read them: their code, and their shell examples run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mqttpush.config import Settings
from tests.support.server import Server

ROOT = Path(__file__).parent.parent.parent
EXAMPLES_TIMEOUT_S = 60.0


def read_document(path: str) -> str:
    """The text of a document; path: from the project's folder."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    """What stands between back quotes in the prose."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def require_settings(spans: list[str], *, at_least: int) -> None:
    """Every setting that stands between back quotes exists, and there are some."""
    sections = Settings().model_dump()
    named = [
        (section, key)
        for span in spans
        for section, key in re.findall(r"^(\w+)\.([a-z_]+)$", span)
        if section in sections
    ]
    assert len(named) >= at_least
    for section, key in named:
        assert key in sections[section], key


def run_examples(text: str, server: Server, folder: Path, **environ: str) -> str:
    """Run the shell examples of a document in one shell, as they stand: what they printed."""
    ran = subprocess.run(
        ["bash", "-x", "-c", "\n".join(["set -euo pipefail", *blocks(text, "sh")])],
        cwd=folder,
        env={**server.environ, "URL": server.url, **environ, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=EXAMPLES_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout[-500:]}\n{ran.stderr[-1500:]}"
    return ran.stdout
