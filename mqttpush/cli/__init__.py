"""The command line: `main` is the console script.

Owns commands, options, output and exit codes. Knows `server`, `config`, `logs`, `client`, `devices`
and `simulator`. The one idea: a command is found by name and its module loaded only then, so that
`mqttpush --help` never waits for a server's libraries.
"""

from mqttpush.cli.main import main

__all__ = ["main"]
