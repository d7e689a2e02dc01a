"""Random units, failing ones among them, give equal answers from every store and a dict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mqttpush.errors import MqttPushError
from mqttpush.store import Transaction
from tests.store.model import Model
from tests.store.operations import Operation, any_operation, everything_in, everything_in_model
from tests.support.loop import LIMIT_S
from tests.support.stores import one_batch, opened


class RefusedError(MqttPushError):
    """A unit changed its mind after its operations."""


@dataclass(frozen=True)
class Unit:
    """Operations that commit together, or not at all."""

    operations: list[Operation]
    is_refused: bool

    def on_store(self, tx: Transaction) -> list[Any]:
        answers = [operation.on_store(tx) for operation in self.operations]
        if self.is_refused:
            raise RefusedError
        return answers

    def on_model(self, model: Model) -> list[Any]:
        answers = [operation.on_model(model) for operation in self.operations]
        if self.is_refused:
            raise RefusedError
        return answers


units = st.builds(
    Unit, st.lists(any_operation(), min_size=1, max_size=6), st.sampled_from([False] * 5 + [True])
)
batches = st.lists(st.lists(units, min_size=1, max_size=4), min_size=1, max_size=8)


def expected_answers(model: Model, batch: list[Unit]) -> tuple[Model, list[object]]:
    """What each unit answers, and the tables afterwards: a unit that raises is undone alone."""
    answers: list[object] = []
    for unit in batch:
        changed = model.copied()
        try:
            answers.append(unit.on_model(changed))
            model = changed
        except MqttPushError as exc:
            answers.append(type(exc))
    return model, answers


async def run(dsn: str, planned: list[list[Unit]]) -> None:
    model = Model()
    async with opened(dsn) as stage:
        for batch in planned:
            model, expected = expected_answers(model, batch)
            async with one_batch(stage.store):
                writes = [asyncio.ensure_future(stage.store.write(unit.on_store)) for unit in batch]
            found = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(a) if isinstance(a, BaseException) else a for a in found] == expected
            assert await stage.store.read(everything_in) == everything_in_model(model)


@given(planned=batches)
@settings(max_examples=150, deadline=None)
def test_random_units_give_equal_answers_from_a_store_and_a_dict(planned: list[list[Unit]]) -> None:
    asyncio.run(asyncio.wait_for(run("sqlite:///:memory:", planned), LIMIT_S))
