"""Output: tables for people, JSON for machines; coroutines run to their end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")
# Into a pipe or file, a row stays on one line.
PIPE_WIDTH = 240


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's coroutine; Ctrl-C cancels it, so that it can clean up."""
    return asyncio.run(coroutine)


def print_json(document: object) -> None:
    """One line of JSON on standard output."""
    click.echo(orjson.dumps(document).decode())


def note(text: str) -> None:
    """A remark for the person, on standard error."""
    click.echo(text, err=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that is never cut: what is too wide for the terminal wraps."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    is_terminal = sys.stdout.isatty()
    Console(width=None if is_terminal else PIPE_WIDTH).print(table)
