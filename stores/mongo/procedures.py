"""Carries out procedures in a transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from stores.errors import StoreError, too_large_at
from stores.mongo.errors import duplicates_at
from stores.mongo.writes import Writer
from stores.protocol import Find, Lock, Procedure, Step, Written
from stores.records import Entity


async def proceed(writer: Writer, procedure: Procedure, index: int) -> Written:
    """Carry out the steps of the procedure at position `index` of its commit."""
    steps = procedure.steps()
    outcome: Written | list[Entity] | None = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as ended:
            return cast(Written, ended.value)
        try:
            with duplicates_at(index), too_large_at(index):
                outcome = await _do(writer, step)
        except StoreError as error:
            with suppress(StopIteration):
                steps.throw(error)  # it may explain the error
            raise


async def _do(writer: Writer, step: Step) -> Written | list[Entity] | None:
    match step:
        case Find():
            return await writer.find(step)
        case Lock():
            await writer.lock(step)
            return None
        case _:
            return await writer.write(step)
