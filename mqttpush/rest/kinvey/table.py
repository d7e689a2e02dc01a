"""All routes of this dialect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mqttpush.operations import Operations
from mqttpush.rest.kinvey.document import DIALECT
from mqttpush.rest.kinvey.handshake import HandshakeRoutes
from mqttpush.rest.kinvey.pipeline import Pipeline
from mqttpush.rest.kinvey.wire import Gate
from mqttpush.rest.routing import Route


def kinvey_routes(operations: Operations) -> Iterator[Route]:
    """Every route under /appdata, /user, /push and /rpc, each with its section in documents."""
    gate, _ = Gate(operations.environments), Pipeline(operations)
    sections = {
        "Kinvey: handshake": HandshakeRoutes(gate, operations.environments).table(),
    }
    for tag, routes in sections.items():
        for route in routes:
            yield replace(route, tag=tag, dialect=DIALECT)
