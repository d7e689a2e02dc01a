"""Entry: the tree of commands, and errors turned into one line and an exit code."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

import click

from mqttpush.errors import (
    AlreadyExists,
    ConfigError,
    MqttPushError,
    NotFound,
    RequestRefused,
    SchemaMismatch,
    ServerUnreachable,
    first_error,
)

EXIT_FAILED = 1
EXIT_CONFIG = 2

# Where each command lives, in the order `--help` shows them, with the line it shows.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve:serve", "Run the server."),
    "listen": ("listen:listen", "Show pushes as they arrive."),
    "push": ("push:push", "Send a push to a topic, user or thing."),
    "simulate": ("simulate:simulate", "Prove that every push reaches N simulated devices."),
    "simulate-providers": (
        "simulate_providers:simulate_providers",
        "Stand in for FCM, APNs, JPush and Web Push.",
    ),
    "network": ("networks:network", "Set, show and test an app's keys for FCM, APNs and others."),
    "app": ("apps:app", "Create, list, show and delete apps."),
    "user": ("principals:user", "Create users."),
    "thing": ("principals:thing", "Create things."),
    "hooks": ("hooks:hooks", "List, check, try and follow server code."),
    "kinvey": ("kinvey:kinvey", "Load environment files, change settings of such apps."),
    "config": ("settings:config", "Check, show and explain the settings."),
}


class CommandFailed(click.ClickException):
    """A MqttPushError on its way to standard error."""

    exit_code = EXIT_FAILED

    def __init__(self, error: MqttPushError) -> None:
        advice = _advice(error)
        super().__init__(f"{error}\n{advice}" if advice else str(error))

    def show(self, file: Any = None) -> None:
        """Print the line; click then exits with `exit_code`."""
        click.echo(f"mqttpush: {self.format_message()}", err=True)


class Misconfigured(CommandFailed):
    """An error only the operator can mend, on its way to standard error."""

    exit_code = EXIT_CONFIG


class CommandTree(click.Group):
    """A group whose commands are loaded when first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        module = importlib.import_module(f"mqttpush.cli.{module_name}")
        command: click.Command = getattr(module, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (MqttPushError, BaseExceptionGroup) as exc:
            error = first_error(exc)
            if error is None:
                raise
            is_config = isinstance(error, ConfigError | SchemaMismatch)
            kind = Misconfigured if is_config else CommandFailed
            raise kind(error) from exc


@click.group(cls=CommandTree, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mqttpush"), prog_name="mqttpush")
def main() -> None:
    """Self-hosted push: one private MQTT topic per client.

    \b
    A first look, in three terminals:
      mqttpush serve
      mqttpush listen --topic news
      mqttpush push topic news text=hello

    Commands find the running server by its settings (--config, or MQTTPUSH_ variables) and need no
    secret on its machine. Elsewhere, name it: --url, --app-id and --app-key.
    Exit codes: 0 done, 1 what was asked failed, 2 wrong settings or usage.
    """


def _advice(error: MqttPushError) -> str:
    """What to do next, in one line."""
    if isinstance(error, ServerUnreachable):
        return "Is it running? Start it with `mqttpush serve`, or name another with --url."
    if isinstance(error, NotFound) and error.noun == "app":
        return "`mqttpush app list` shows the apps, `mqttpush app create NAME` makes one."
    if isinstance(error, NotFound) and error.noun == "network":
        return "`mqttpush network set NETWORK --help` says how to set it."
    if isinstance(error, AlreadyExists) and error.noun == "app":
        return "Pick another --app-id, or see `mqttpush app list`."
    if isinstance(error, RequestRefused):
        return {
            "UNAUTHORIZED": "Check --app-id, --app-key, --client-id and --client-secret.",
            "APP_NOT_FOUND": "`mqttpush app list` shows the apps of this machine's server.",
            "PUSH_NETWORK_NOT_FOUND": "`mqttpush network set NETWORK --help` says how to set it.",
            "TOPIC_NOT_FOUND": "Add --create to make the topic first.",
            "USER_NOT_FOUND": "`mqttpush user create` makes one; `mqttpush listen` shows its own.",
            "THING_NOT_FOUND": "`mqttpush thing create` makes one.",
        }.get(error.error_code, "")
    return ""
