"""`mqttpush serve`: run the server, and say how to use it."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog

from mqttpush.cli.options import config_option, settings_of
from mqttpush.cli.terminal import print_json
from mqttpush.cli.welcome import LISTENER_NAMES, welcome
from mqttpush.config import Settings, trace_settings, without_password
from mqttpush.errors import ConfigError, first_error
from mqttpush.logs import setup_logging


@click.command()
@config_option
def serve(config_file: Path | None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Without a settings file everything listens on 127.0.0.1, data lies in ./mqttpush-data, and a
    first start makes a demo app and prints commands to try. With log.format=json the only line on
    standard output is {"event":"ready",...}, printed when every listener is open. SIGHUP reads the
    settings again: limits, certificates and the log level change while serving.

    \b
    Examples:
      mqttpush serve
      mqttpush serve --config /etc/mqttpush.toml
      MQTTPUSH_HTTP__PORT=0 MQTTPUSH_LOG__FORMAT=json mqttpush serve
    """
    settings, source_by_setting = trace_settings(config_file, os.environ)
    setup_logging(settings.log)
    log = structlog.get_logger("mqttpush.serve")
    log.info(
        "starting",
        version=version("mqttpush"),
        store=without_password(settings.store.dsn),
        settings_file=str(config_file) if config_file else None,
    )
    try:
        _serve(settings, config_file, log)
    except (ConfigError, BaseExceptionGroup) as exc:
        error = first_error(exc)
        if isinstance(error, ConfigError) and error.setting in source_by_setting:
            # The server does not know where a setting came from; here it is known.
            source = source_by_setting[error.setting]
            raise ConfigError(error.setting, source, error.problem, error.example) from exc
        raise
    log.info("stopped")


def _serve(settings: Settings, config_file: Path | None, log: Any) -> None:
    # Only now: wrong settings are told without waiting for the server's libraries.
    import uvloop

    from mqttpush.server import run_server

    def announce(ready: dict[str, object]) -> None:
        listeners = {name: ready[name] for name in LISTENER_NAMES if name in ready}
        log.info("ready", **listeners)
        if settings.log.format == "json":
            print_json(ready)
        else:
            click.echo(welcome(ready))

    def reload() -> Settings:
        return settings_of(config_file)

    # Who brings a settings file knows his apps; anybody else gets one to play with.
    serving = run_server(settings, announce=announce, reload=reload, with_demo=config_file is None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)
