"""`mqttpush simulate-providers`: the provider simulator as a process, and how to use it."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path

import click

from mqttpush.cli.options import json_option
from mqttpush.cli.terminal import note, print_json
from mqttpush.errors import ConfigError
from mqttpush.provider_simulator.kit import Kit, make_kit
from mqttpush.provider_simulator.providers import LISTENERS, Providers, open_providers

DEFAULT_FOLDER = "mqttpush-providers"
LAST_PORT = 65_535


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, LAST_PORT - len(LISTENERS) + 1),
    help=f"First of {len(LISTENERS)} ports in a row.  [default: any free ones]",
)
@click.option(
    "--folder",
    default=DEFAULT_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where credential files are written.",
)
@json_option
def simulate_providers(host: str, port: int, folder: Path, is_json: bool) -> None:
    """Stand in for FCM, APNs, JPush and Web Push on this machine until SIGTERM or Ctrl-C.

    Checks what the real networks check, answers as they do and fails on request. Writes credential
    files, then prints the server's settings, the commands that set the credentials, and how to make
    devices, look at what arrived and inject faults. All credentials are new at each start.
    With --json the only line on standard output is {"event":"ready",...}.

    \b
    Examples:
      mqttpush simulate-providers
      mqttpush simulate-providers --port 9700 --folder /tmp/providers --json
    """
    # Only now, and faster than asyncio's own: load tests go through it.
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(host, port, folder, is_json))


async def _serve(host: str, port: int, folder: Path, is_json: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with open_providers(host=host, port=port, folder=folder) as providers:
            kit = make_kit(providers, folder)
            if is_json:
                print_json({"event": "ready", "urls": providers.urls(), **kit.document()})
            else:
                click.echo(welcome(providers, kit))
            await ended.wait()
    except OSError as exc:
        place = f"{exc.filename}: " if exc.filename else ""
        problem = f"{place}{exc.strerror or exc}"
        raise ConfigError("--port, --host or --folder", "command line", problem) from exc
    note("stopped")


def welcome(providers: Providers, kit: Kit) -> str:
    """What a person does next, to be pasted."""
    control = providers.control_url
    width = max(map(len, providers.urls()))
    urls = "\n".join(f"  {name:<{width}}  {url}" for name, url in providers.urls().items())
    exports = "\n".join(
        f"  export {name}={shlex.quote(value)}" for name, value in kit.environment().items()
    )
    commands = "\n".join(f"  {command}" for command in kit.commands)
    return f"""\
Push networks, simulated. Ctrl-C ends them.
{urls}

1. Start a server that uses them:
{exports}
  mqttpush serve

2. Give an app its credentials (these files are new at each start):
{commands}

3. Make devices, and register their tokens with your app:
  curl -s -X POST {control}/tokens/fcm -d '{{"count": 3}}'
  curl -s -X POST {control}/tokens/webpush -d '{{"vapid_public_key": "{kit.vapid_public_key}"}}'

4. See what arrived:
  curl -s {control}/totals
  curl -s '{control}/pushes/fcm?limit=10'

5. Let something fail:
  curl -s -X POST {control}/faults -d '{{"network": "fcm", "code": "UNAVAILABLE", "times": 3}}'
  curl -s -X POST {control}/faults -d '{{"network": "apns", "cut": "goaway", "every": 100}}'
  curl -s -X DELETE {control}/faults
"""
