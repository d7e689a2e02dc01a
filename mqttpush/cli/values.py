"""NAME=VALUE arguments, read as JSON where they are JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import orjson


def parse_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """`text=hello` is a string, `count=3` a number, `ok=true` a boolean, `text='"3"'` a string."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not (separator and name):
            raise click.UsageError(f"{pair!r} is not NAME=VALUE, such as text=hello")
        try:
            values[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            values[name] = text
    return values


def read_object(text: str) -> dict[str, Any]:
    """A JSON object given as text, as @FILE, or as - for standard input."""
    source = "--data"
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            source = text[1:]
            text = Path(source).read_text(encoding="utf-8")
        document = orjson.loads(text)
    except OSError as exc:
        raise click.UsageError(f"{source}: {exc.strerror}") from exc
    except ValueError as exc:
        raise click.UsageError(f"{source} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise click.UsageError(f'{source} is not a JSON object, such as \'{{"text": "hello"}}\'')
    return document
