"""Carries out procedures in a transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from stores.errors import StoreError, refused_at
from stores.mongo.array_paths import naming_paths
from stores.mongo.errors import refusals_at
from stores.mongo.writes import Writer
from stores.protocol import Definitions, Find, Lock, Procedure, Step, Steps, Written
from stores.records import Entity
from stores.threads import in_thread


async def proceed(writer: Writer, procedure: Procedure, index: int, definition: Definitions = None) -> Written:
    """Carry out the steps of the procedure at position `index` of its commit, which relies on `definition`."""
    steps = procedure.steps()
    outcome: Written | list[Entity] | None = None
    while True:
        # The code of a bulk procedure may take long, too.
        step = await in_thread(_next, steps, outcome) if procedure.bulk else _next(steps, outcome)
        if isinstance(step, Written):
            return step
        try:
            store = None if isinstance(step, Lock) else step.store
            with naming_paths(definition, store), refusals_at(index), refused_at(index):
                outcome = await _do(writer, step)
        except StoreError as error:
            with suppress(StopIteration):
                steps.throw(error)  # it may explain the error
            raise


def _next(steps: Steps, outcome: Written | list[Entity] | None) -> Step | Written:
    """Return the next step, or the result."""
    try:
        return steps.send(outcome)
    except StopIteration as ended:
        return cast(Written, ended.value)


async def _do(writer: Writer, step: Step) -> Written | list[Entity] | None:
    match step:
        case Find():
            return await writer.find(step)
        case Lock():
            await writer.lock(step)
            return None
        case _:
            return await writer.write(step)
