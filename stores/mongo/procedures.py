"""Carries out procedures in a transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, cast

from stores.errors import StoreError, refused_at
from stores.mongo.array_paths import naming_paths
from stores.mongo.errors import refusals_at
from stores.mongo.writes import WriteExecutor
from stores.protocol import Definitions, Find, InsertMany, Lock, Procedure, Step, StepOutcome, Steps, Take, Written
from stores.threads import in_thread

MANY_FOUND: Final = 1_000
MUCH_FOUND: Final = 65_536
"""Entities, and their bytes: when a procedure has found more, its code may take long."""


async def proceed(executor: WriteExecutor, procedure: Procedure, index: int, definition: Definitions = None) -> Written:
    """Carry out the steps of the procedure at position `index` of its commit, which relies on `definition`."""
    steps = procedure.steps()
    outcome: StepOutcome = None
    found = 0
    while True:
        if isinstance(outcome, list):
            found += len(outcome)
        takes_long = procedure.bulk or found > MANY_FOUND or executor.found_bytes > MUCH_FOUND
        step = await in_thread(_next, steps, outcome) if takes_long else _next(steps, outcome)
        if isinstance(step, Written):
            return step
        try:
            store = None if isinstance(step, Lock | Take) else step.store
            with naming_paths(definition, store), refusals_at(index), refused_at(index):
                outcome = await _do(executor, step)
        except StoreError as error:
            with suppress(StopIteration):
                steps.throw(error)  # it may explain the error
            raise


def _next(steps: Steps, outcome: StepOutcome) -> Step | Written:
    """Return the next step, or the result."""
    try:
        return steps.send(outcome)
    except StopIteration as ended:
        return cast(Written, ended.value)


async def _do(executor: WriteExecutor, step: Step) -> StepOutcome:
    match step:
        case Find():
            return await executor.find(step)
        case Take():
            return await executor.take(step)
        case Lock():
            await executor.lock(step)
            return None
        case InsertMany():
            await executor.insert_many(step)
            return None
        case _:
            return await executor.write(step)
