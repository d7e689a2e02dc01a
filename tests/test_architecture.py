"""The map in docs/architecture.md is true: imports, bans and limits."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mqttpush"
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]

MODULE_LINE_LIMIT = 500
FUNCTION_LINE_LIMIT = 50
COLUMN_LIMIT = 100

# Inside mqtt/, these alone may touch the outside.
MQTT_BANNED = {"asyncio", "socket", "ssl", "time", "random"}
MQTT_OUTSIDE = {"authentication", "broker", "parking", "tls", "listeners", "amqtt_engine"}
# A list with one entry a line, not a function with steps.
CATALOGUES = {"metrics.py": "__init__"}
PRAGMA = re.compile(r"\s*# (noqa|type: ignore).*")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """The name the map knows a module by: its package, or itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "mqttpush" and len(parts) > 1:
            rooms.add(parts[1])
    return rooms


@cache
def allowed_rooms() -> dict[str, frozenset[str]]:
    """What each room may import, read from the numbered list of the map."""
    rows = re.findall(r"^(\d+)\. (.+)$", MAP, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    names_by_row: dict[int, set[str]] = {}
    allowed: dict[str, frozenset[str]] = {}
    for number, row in ((int(number), row) for number, row in rows):
        members, _, only = row.partition("only:")
        above = {name for names in names_by_row.values() for name in names}
        if only:
            last = re.search(r"rows? (?:1 to )?(\d+)", only)
            assert last, row
            above = set(re.findall(r"`(\w+)`", only)) | {
                name for i in range(1, int(last[1]) + 1) for name in names_by_row[i]
            }
        names_by_row[number] = set(re.findall(r"`(\w+)`", members))
        for group in re.split(r"[;,]", members):
            chain = re.findall(r"`(\w+)`", group)
            for index, name in enumerate(chain):
                allowed[name] = frozenset(above | set(chain[:index]))
    return allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_rows_above_its_own(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        assert not imported_rooms(path)
        return
    assert room in allowed_rooms(), f"{room} stands in no row of docs/architecture.md"
    assert imported_rooms(path) - {room} <= allowed_rooms()[room]


def test_every_room_of_the_package_stands_in_the_table_of_the_map() -> None:
    table = "\n".join(line for line in MAP.splitlines() if line.startswith("|"))
    missing = {
        room
        for room in map(room_of, MODULES)
        if f"`{room}.py`" not in table and f"`{room}/" not in table and not room.startswith("__")
    }
    assert not missing


def test_only_the_server_imports_mqtt() -> None:
    importers = {room_of(path) for path in MODULES if "mqtt" in imported_rooms(path)}
    assert importers <= {"server", "mqtt"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "mqtt").glob("*.py")), ids=name_of)
def test_the_inner_modules_of_mqtt_know_no_socket_and_no_clock(path: Path) -> None:
    if path.stem in MQTT_OUTSIDE:
        return
    assert not {module.split(".")[0] for module in imported_modules(path)} & MQTT_BANNED


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_broad_except_raises_on_logs_or_hands_the_error_on(path: Path) -> None:
    silent = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not is_answered(node)
    ]
    assert not silent


def is_answered(handler: ast.ExceptHandler) -> bool:
    body = ast.Module(body=handler.body, type_ignores=[])
    return any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Name) and node.id == handler.name)
        or (isinstance(node, ast.Attribute) and node.attr == "exception")
        for node in ast.walk(body)
    )


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_a_module_keeps_the_limits(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MODULE_LINE_LIMIT
    wide = [n for n, line in enumerate(lines, 1) if len(PRAGMA.sub("", line)) > COLUMN_LIMIT]
    assert not wide
    functions = (
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [
        f"{node.name}: {size} lines"
        for node in functions
        if (size := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINE_LIMIT
        and CATALOGUES.get(path.name) != node.name
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_owns(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
        return
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize(
    "path", [p for p in PYTHON_FILES if "tests" in p.parts and "bench" not in p.parts], ids=name_of
)
def test_no_test_sleeps(path: Path) -> None:
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert not calls
