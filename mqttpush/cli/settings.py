"""`mqttpush config`: the settings, checked, shown and explained."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mqttpush.cli.options import config_option, json_option
from mqttpush.cli.terminal import print_json, print_table
from mqttpush.config import (
    DEFAULT_SOURCE,
    Settings,
    toml_value,
    trace_settings,
    without_password,
)
from mqttpush.logs import REDACTED, is_secret_name

WIDTH = 96
HEADER = """\
# Settings of mqttpush: every one, with its default. Printed by `mqttpush config example`.
#
# Start with it:   mqttpush serve --config FILE
# Check it:        mqttpush config check --config FILE
#
# A variable MQTTPUSH_SECTION__KEY in the environment wins over the file, for example
# MQTTPUSH_HTTP__PORT=8081. Relative paths start at the folder the server is started in.
"""


@click.group()
def config() -> None:
    """Check, show and explain the settings.

    Settings come from a TOML file (--config, or MQTTPUSH_CONFIG), then from the environment
    (MQTTPUSH_SECTION__KEY), which wins.

    \b
    Examples:
      mqttpush config example > mqttpush.toml
      mqttpush config check --config mqttpush.toml
      MQTTPUSH_HTTP__PORT=8081 mqttpush config show
    """


@config.command()
@config_option
def check(config_file: Path | None) -> None:
    """Say whether the settings are right; the first wrong one ends with exit code 2."""
    _, sources = trace_settings(config_file, os.environ)
    changed = [setting for setting, source in sources.items() if source != DEFAULT_SOURCE]
    click.echo(f"settings are right; {len(changed)} of {len(sources)} differ from the defaults")


@config.command()
@config_option
@json_option
def show(config_file: Path | None, is_json: bool) -> None:
    """Show each setting's value and where it came from; secrets are blotted out."""
    settings, sources = trace_settings(config_file, os.environ)
    values: dict[str, Any] = settings.model_dump()
    shown: dict[str, dict[str, object]] = {}
    for setting, source in sources.items():
        section, _, key = setting.partition(".")
        shown[setting] = {"value": _shown(key, values[section][key]), "source": source}
    if is_json:
        print_json(shown)
    else:
        rows = [(name, toml_value(fact["value"]), fact["source"]) for name, fact in shown.items()]
        print_table(("setting", "value", "source"), rows)


@config.command()
def example() -> None:
    """Print a settings file with every setting, its meaning, its unit and its default."""
    click.echo(render_example(), nl=False)


def render_example() -> str:
    """The text of `config/mqttpush.toml`."""
    parts = [HEADER]
    for name, value in Settings():
        section: BaseModel = value
        parts.append("\n" + _comment(type(section).__doc__ or ""))
        parts.append(f"[{name}]\n")
        for key, field in type(section).model_fields.items():
            parts.append(_comment(_explain(field)))
            parts.append(f"{key} = {toml_value(field.default)}\n")
    return "".join(parts)


def _explain(field: FieldInfo) -> str:
    bounds = []
    for limit in field.metadata:
        for attribute, word in (("ge", "at least"), ("gt", "over"), ("le", "at most")):
            if (bound := getattr(limit, attribute, None)) is not None:
                bounds.append(f"{word} {bound}")
    text = field.description or ""
    return f"{text} ({', '.join(bounds)})" if bounds else text


def _comment(text: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH)
    return "".join(f"# {line}\n" for line in lines)


def _shown(key: str, value: object) -> object:
    is_file_name = key.endswith("_file")
    if is_secret_name(key) and not is_file_name and isinstance(value, str) and value:
        return REDACTED
    return without_password(value)
