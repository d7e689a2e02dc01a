"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mqttpush.config import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="MQTTPUSH_CONFIG",
    show_envvar=True,
    help="TOML file with settings.",
)
json_option = click.option("--json", "is_json", is_flag=True, help="JSON for machines.")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which server and app a command talks to, as far as the user said."""

    config_file: Path | None = None
    url: str | None = None
    app_id: str | None = None
    app_key: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    def settings(self) -> Settings:
        return settings_of(self.config_file)


def settings_of(config_file: Path | None) -> Settings:
    """The settings as the server would see them from here; raises ConfigError."""
    return load_settings(config_file, os.environ)


def reachable(address: object) -> str:
    """A server that listens on every address is reached on this machine's own."""
    return str(address).replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


def server_options(*, is_admin: bool) -> Callable[[Command], Command]:
    """Options that name a server and an app, handed over as one `server: ServerOptions`."""
    names = {
        "url": "Base URL of another server.",
        "app_id": "App to act in; may be left out when there is one.",
        "app_key": "Its app key (another machine's app).",
    }
    if is_admin:
        names["client_id"] = "Its administrator's client ID (another machine's app)."
        names["client_secret"] = "And client secret; better given in the environment."  # noqa: S105

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*args: Any, config_file: Path | None, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            return command(*args, server=ServerOptions(config_file, **given), **kwargs)

        decorated: Any = config_option(wrapper)
        for name, text in reversed(names.items()):
            option = click.option(
                f"--{name.replace('_', '-')}",
                envvar=f"MQTTPUSH_CLI_{name.upper()}",
                show_envvar=True,
                help=text,
            )
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate
