"""What the documents say is so."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from mqttpush.cli.main import COMMANDS
from mqttpush.config import Settings, load_settings
from mqttpush.metrics import Metrics
from tests.support.documents import ROOT, blocks, read_document

README = read_document("README.md")
OPERATIONS = read_document("docs/operations.md")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [ROOT / "scripts" / "serve", ROOT / "scripts" / "test", ROOT / ".ci" / "run"]


def tables(text: str) -> dict[str, str]:
    """First cell to second of every table row whose first cell is one code word."""
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE))


@pytest.mark.parametrize(("name", "meaning"), list(Metrics().catalogue()))
def test_every_metric_stands_in_the_readme_with_its_meaning(name: str, meaning: str) -> None:
    assert tables(README).get(name) == meaning


def test_the_readme_names_no_metric_that_is_gone() -> None:
    told = {name for name in tables(README) if name.startswith("mqttpush_")}
    assert told == {name for name, _ in Metrics().catalogue()}


def test_alarms_name_metrics_that_exist() -> None:
    told = {name for name in tables(OPERATIONS) if name.startswith("mqttpush_")}
    assert {name.removesuffix("_total") for name in told} <= {n for n, _ in Metrics().catalogue()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command: str) -> None:
    assert f"`mqttpush {command}" in README


@pytest.mark.parametrize("text", [README, OPERATIONS], ids=["README", "operations"])
def test_every_setting_named_in_a_document_exists(text: str) -> None:
    sections = Settings().model_dump()
    for section, key in re.findall(r"`(http|mqtt|store|security|shutdown|log)\.(\w+)`", text):
        assert key in sections[section]
    for section, key in re.findall(r"MQTTPUSH_([A-Z]+)__([A-Z][A-Z_]+)", text):
        if section != "SECTION":
            assert key.lower() in sections[section.lower()]


@pytest.mark.parametrize("block", blocks(OPERATIONS, "toml"))
def test_settings_shown_in_a_document_are_right(block: str, tmp_path: Path) -> None:
    assert tomllib.loads(block)
    (tmp_path / "shown.toml").write_text(block, encoding="utf-8")
    load_settings(tmp_path / "shown.toml", {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_bash(script: Path) -> None:
    assert script.stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_the_shell_commands_of_the_readme_are_bash() -> None:
    for block in blocks(README, "sh"):
        subprocess.run(["bash", "-n", "-c", block], check=True)
