"""Accepted messages and their outcomes.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

from mqttpush.models import MessageRecord, Outcome
from mqttpush.store.tables import Table


class SqliteMessages(Table):
    def insert(self, record: MessageRecord) -> None:
        self._execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", astuple(record))

    def get(self, app_id: str, message_id: str) -> MessageRecord | None:
        row = self._execute(
            "SELECT message_id, app_id, place, sender, sent_ms FROM messages"
            " WHERE message_id = ? AND app_id = ?",
            (message_id, app_id),
        ).fetchone()
        return MessageRecord(*row) if row else None

    def add_outcomes(self, message_id: str, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            # The message may have been forgotten, with its app, since it was routed.
            self._execute(
                "INSERT INTO message_outcomes SELECT ?1, ?2, ?3, ?4"
                " WHERE EXISTS (SELECT 1 FROM messages WHERE message_id = ?1)"
                " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
                (message_id, *outcome),
            )

    def outcomes(self, message_id: str) -> list[Outcome]:
        rows = self._execute(
            "SELECT network, outcome, recipients FROM message_outcomes WHERE message_id = ?",
            (message_id,),
        )
        return [Outcome(*row) for row in rows]

    def delete_older(self, sent_ms: int, limit: int) -> int:
        return self._execute(
            "DELETE FROM messages WHERE message_id IN"
            " (SELECT message_id FROM messages WHERE sent_ms < ? ORDER BY sent_ms LIMIT ?)",
            (sent_ms, limit),
        ).rowcount
