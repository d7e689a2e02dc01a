"""The table of normative clauses in docs/mqtt.md is complete, honest and current."""

from __future__ import annotations

from tests.mqtt.clauses import DOCUMENT, all_clauses, not_applicable, proofs, with_table


def test_every_clause_is_proven_or_does_not_apply_and_not_both() -> None:
    known, proven, excused = set(all_clauses()), set(proofs()), set(not_applicable())
    assert proven <= known
    assert excused <= known
    assert not proven & excused
    assert sorted(known - proven - excused) == []


def test_the_table_in_the_document_is_current() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(document) == document, "run: python -m tests.mqtt.clauses"
