"""Commands to things, and the states things report.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import orjson

from mqttpush.commands import Command, CommandState
from mqttpush.models import NEVER_MS, Json, Owner
from mqttpush.store.tables import Table


class SqliteCommands(Table):
    _COLUMNS = (
        "command_id, app_id, thing_id, issuer, state, body, results, created_ms, modified_ms,"
        " deadline_ms"
    )

    def insert(self, command: Command) -> None:
        self._execute(
            f"INSERT INTO commands ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                command.command_id,
                command.thing.app_id,
                command.thing.id,
                command.issuer,
                command.state.value,
                orjson.dumps(command.body).decode(),
                orjson.dumps(command.results).decode(),
                command.created_ms,
                command.modified_ms,
                command.deadline_ms,
            ),
        )

    def update(self, command: Command) -> None:
        self._execute(
            "UPDATE commands SET state = ?, results = ?, modified_ms = ?, deadline_ms = ?"
            " WHERE command_id = ?",
            (
                command.state.value,
                orjson.dumps(command.results).decode(),
                command.modified_ms,
                command.deadline_ms,
                command.command_id,
            ),
        )

    def get(self, thing: Owner, command_id: str) -> Command | None:
        found = self._select(
            "app_id = ? AND thing_id = ? AND command_id = ?", thing.app_id, thing.id, command_id
        )
        return found[0] if found else None

    def list_of(self, thing: Owner, before: tuple[int, str], limit: int) -> list[Command]:
        return self._select(
            "app_id = ? AND thing_id = ? AND (created_ms, command_id) < (?, ?)"
            " ORDER BY created_ms DESC, command_id DESC LIMIT ?",
            thing.app_id,
            thing.id,
            *before,
            limit,
        )

    def waiting_of(self, thing: Owner, now_ms: int) -> list[Command]:
        return self._select(
            "app_id = ? AND thing_id = ? AND state = 'SENDING' AND deadline_ms > ?"
            " AND deadline_ms < ? ORDER BY created_ms",
            thing.app_id,
            thing.id,
            now_ms,
            NEVER_MS,
        )

    def overdue(self, now_ms: int, limit: int) -> list[Command]:
        return self._select(
            "state = 'SENDING' AND deadline_ms <= ? ORDER BY deadline_ms LIMIT ?", now_ms, limit
        )

    def delete_older(self, created_ms: int, limit: int) -> int:
        return self._execute(
            "DELETE FROM commands WHERE command_id IN (SELECT command_id FROM commands"
            " WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
            (created_ms, limit),
        ).rowcount

    def put_state(self, thing: Owner, alias: str, state: Json, now_ms: int) -> None:
        self._execute(
            "INSERT OR REPLACE INTO thing_states VALUES (?, ?, ?, ?, ?)",
            (thing.app_id, thing.id, alias, orjson.dumps(state).decode(), now_ms),
        )

    def states(self, thing: Owner) -> dict[str, Json]:
        rows = self._execute(
            "SELECT alias, state FROM thing_states WHERE app_id = ? AND thing_id = ?",
            (thing.app_id, thing.id),
        )
        return {row[0]: orjson.loads(row[1]) for row in rows}

    def _select(self, where: str, *values: object) -> list[Command]:
        rows = self._execute(f"SELECT {self._COLUMNS} FROM commands WHERE {where}", values)
        return [
            Command(
                command_id=row[0],
                thing=Owner(row[1], f"thing:{row[2]}"),
                issuer=row[3],
                state=CommandState(row[4]),
                body=orjson.loads(row[5]),
                results=orjson.loads(row[6]),
                created_ms=row[7],
                modified_ms=row[8],
                deadline_ms=row[9],
            )
            for row in rows
        ]
