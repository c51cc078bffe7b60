"""Notes in the database of groups whose entities are still to be re-stamped, so that a start does what an earlier
process has left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub.services.stamping import own_entity
from hub.services.walking import each_entity
from stores.errors import NotFound
from stores.protocol import Delete, Engine, Insert
from stores.schema import StoreDefinition

NOTES: Final = StoreDefinition("_moves")


def note_of(group: str | None) -> Insert:
    """Return the write of a note that everything in and below the group is to be re-stamped; None: in all groups."""
    return Insert(NOTES.name, own_entity({"moved": group}))


class MoveNotes:
    """The notes of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def left(self) -> dict[str | None, list[str]]:
        """Return the ids of all notes by their groups. Prepares the store of the notes."""
        await self._engine.define(NOTES)
        left: dict[str | None, list[str]] = {}
        async for note in each_entity(self._engine, NOTES.name):
            left.setdefault(note.get("moved"), []).append(note["_id"])
        return left

    async def add(self, group: str | None) -> str:
        """Write a note, and return its id."""
        note = note_of(group)
        await self._engine.commit([note], None)
        return str(note.entity["_id"])

    async def remove(self, notes: Sequence[str]) -> None:
        """Remove notes by their ids; some may be gone already."""
        for id in notes:
            try:
                await self._engine.commit([Delete(NOTES.name, id)], None)
            except NotFound:
                pass
