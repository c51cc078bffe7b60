"""Definitions that this process has replaced or removed: values that were checked against them are not written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import DefinitionChanged
from stores.protocol import Definitions, Delete, Update, Write, Written
from stores.schema import StoreDefinition

DEFINITIONS: Final = "stores"
"""The store of the definitions."""

MOST_SUPERSEDED: Final[Annotated[int, Limit("process", "definitions", "the oldest goes")]] = 20_000


class SupersededDefinitions:
    """The last revision of each definition that is not in force any more, by the definition's id."""

    def __init__(self) -> None:
        self._revs: dict[str, int] = {}

    def check(self, definition: Definitions) -> None:
        """Raises DefinitionChanged for a definition that was replaced or removed. Those of system stores never are."""
        for each in each_of(definition):
            if each.rev <= self._revs.get(each.id, -1):
                raise DefinitionChanged(each.name)

    def note(self, writes: Sequence[Write], written: Sequence[Written]) -> None:
        """Note the changes of definitions in a durable commit and its outcome."""
        for write, done in zip(writes, written, strict=False):
            if isinstance(write, Update | Delete) and write.store == DEFINITIONS:
                self._revs.pop(write.id, None)  # the newest last
                self._revs[write.id] = done.rev if isinstance(write, Delete) else done.rev - 1
        while len(self._revs) > MOST_SUPERSEDED:
            del self._revs[next(iter(self._revs))]


def each_of(definition: Definitions) -> Sequence[StoreDefinition]:
    """Return the definitions on which a commit relies, in the same order for all commits."""
    if definition is None:
        return ()
    return (definition,) if isinstance(definition, StoreDefinition) else sorted(definition, key=lambda each: each.id)


def changed_definitions(writes: Sequence[Write]) -> list[str]:
    """Return the ids of the definitions that the writes change or remove, in the same order for all commits."""
    return sorted({w.id for w in writes if isinstance(w, Update | Delete) and w.store == DEFINITIONS})
