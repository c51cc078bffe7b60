"""Changes of data in steps, for stores with more entities than one commit may change.

The definition is changed first, and stores in `pending` what is left to do. Each step is a commit of its own, which
changes some entities, in order of creation, and moves the mark in `pending`. Until the last step other writes to
the store are refused, so the remaining entities stay as they were checked; an interrupted change resumes where it
stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hub.services.credentials import refuse
from hub.services.entity_count import EntityCount
from hub.services.examination import text_of_obstacle
from hub.services.stamping import serials_of, stamp_change, stamps_of
from hub.services.system_stores.base import Prepared
from stores.data_changes import DataChange, DataOperations, Obstructed
from stores.data_definitions import CONTINUE, MEMBER
from stores.definitions import PENDING, parse_definition
from stores.errors import DataChanging, DataConflict
from stores.presence import is_lacking
from stores.protocol import Engine, Procedure, Steps, UpdateMany, do, take
from stores.query import In, Query
from stores.records import SYSTEM_FIELDS, Entity
from stores.schema import StoreDefinition
from stores.threads import in_thread

STEP_BYTES: Final = 1_048_576
"""Bytes of entities after which a step ends: they are in memory together, and other writes wait for their change."""


def check_writable(definition: StoreDefinition, *, mends: bool = False) -> None:
    """Raise DataChanging while the entities of a store are changed in steps. A write that `mends` is allowed: an
    administrator's change or deletion of one entity, such as the one at which a step fails."""
    if definition.pending and not mends:
        raise DataChanging(definition.name)


def refuse_pending(before: Entity) -> None:
    """Raise DataConflict for another change of a definition whose data is being changed."""
    if before.get(PENDING) is not None:
        text = f"A change of its data has not ended: continue it by hub field resume {before['name']}."
        raise DataConflict({MEMBER: text})


async def beginning(engine: Engine, store: str, change: DataChange) -> Entity:
    """Return `pending` before the first step."""
    total = await engine.count(store, change.concerned)
    return {**change.operations.to_json(), "after": None, "done": 0, "total": total}


async def next_step(engine: Engine, before: Entity, body: Entity, size: int) -> Prepared:
    """Prepare the change of the next entities, at most `size` of them, and about `STEP_BYTES`. Raises InvalidEntity
    when nothing is left, and DataConflict if another program has written what cannot be changed."""
    pending = before.get(PENDING)
    if pending is None:
        raise refuse(f"{MEMBER}.{CONTINUE}", "There is no change of data to continue.")
    if others := sorted(body.keys() - {MEMBER, *SYSTEM_FIELDS}):
        raise refuse(others[0], "Nothing else can be changed with a step.")
    definition = parse_definition(before)
    change = DataChange(DataOperations.from_json(pending), definition)
    after = None if pending["after"] is None else tuple(pending["after"])
    entities = await engine.entities(definition.name, Query(change.concerned, limit=size, after=after), STEP_BYTES)
    if not entities:
        # Another process of the hub may have written by the former definition until it heard of the new one.
        left = await engine.count(definition.name, change.concerned, change.alters)
        return Prepared(stamp_change({PENDING: {**pending, "after": None} if left else None}))
    await in_thread(_check, change, entities)
    last = entities[-1]
    moved = {**pending, "after": [last["time"], last["_id"]], "done": pending["done"] + len(entities)}
    step = _Step(change, definition, entities)
    stamps = stamps_of(definition)
    return Prepared(stamp_change({PENDING: moved}), [Procedure(definition.name, step.steps, bulk=True, stamps=stamps)])


def _check(change: DataChange, entities: Sequence[Entity]) -> None:
    for entity in entities:
        try:
            change.of(entity)
        except Obstructed as obstructed:
            found = EntityCount(1, entity["_id"])
            texts = {name: found.having(text_of_obstacle(kind)) for name, kind in obstructed.found.items()}
            raise DataConflict(texts) from None


class _Step:
    """The commit of one step."""

    def __init__(self, change: DataChange, definition: StoreDefinition, entities: Sequence[Entity]) -> None:
        operations = change.operations
        self._operations = operations
        self._definition = definition
        self._ids = tuple(entity["_id"] for entity in entities)
        self._unnumbered = {
            serial: [e["_id"] for e in entities if is_lacking(e.get(serial.field), required=False)]
            for serial in serials_of(definition)
            if serial.field in operations.fill
        }

    def steps(self) -> Steps:
        numbers: dict[str, Mapping[str, int]] = {}
        for serial, ids in self._unnumbered.items():
            first = yield from take(serial, len(ids))
            numbers[serial.field] = {id: first + index for index, id in enumerate(ids)}
        change = DataChange(self._operations, self._definition, numbers)
        store, where, most = self._definition.name, In(("_id",), self._ids), len(self._ids)
        stamps = stamps_of(self._definition)
        return (yield from do(UpdateMany(store, where, stamp_change({}), most, compute=change, stamps=stamps)))
