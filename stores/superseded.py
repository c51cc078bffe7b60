"""Definitions that this process has replaced or removed: values that were checked against them are not written, and
nothing is deleted by a caller that does not know yet what refers to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import orjson

from stores.bounds import Limit
from stores.errors import DefinitionChanged
from stores.protocol import Definitions, Delete, Insert, Update, Write, Written
from stores.schema import StoreDefinition

DEFINITIONS: Final = "stores"
"""The store of the definitions."""

MOST_SUPERSEDED: Final[Annotated[int, Limit("process", "definitions", "the oldest goes")]] = 20_000


class SupersededDefinitions:
    """The last revision of each definition that is not in force any more, by the definition's id; and the revision of
    each definition that was changed and refers to a store, by the store and the definition's id."""

    def __init__(self) -> None:
        self._revs: dict[str, int] = {}
        self._referring: dict[str, dict[str, int]] = {}

    def check(self, definition: Definitions) -> None:
        """Raises DefinitionChanged for a definition that was replaced or removed, and for one that was read before
        another one was changed that refers to its store. Those of system stores are never replaced."""
        for each in (definition,) if isinstance(definition, StoreDefinition) else definition or ():
            if each.rev <= self._revs.get(each.id, -1):
                raise DefinitionChanged(each.name)
            referring = self._referring.get(each.name)
            if referring and each.known_revs is not None:
                for id, rev in referring.items():
                    if each.known_revs.get(id, 0) < rev:
                        raise DefinitionChanged(each.name)

    def note(self, writes: Sequence[Write], written: Sequence[Written]) -> None:
        """Note the changes of definitions in a durable commit and its outcome."""
        for write, done in zip(writes, written, strict=False):
            if write.store != DEFINITIONS:
                continue
            if isinstance(write, Update | Delete):
                self._revs.pop(write.id, None)  # the newest last
                self._revs[write.id] = done.rev if isinstance(write, Delete) else done.rev - 1
                self._note_references(write.id, done, () if isinstance(write, Delete) else _targets(done))
            elif isinstance(write, Insert):
                self._note_references(write.entity["_id"], done, _targets(done))
        while len(self._revs) > MOST_SUPERSEDED:
            del self._revs[next(iter(self._revs))]

    def _note_references(self, id: str, done: Written, targets: Iterable[str]) -> None:
        for referring in self._referring.values():
            referring.pop(id, None)
        for target in targets:
            self._referring.setdefault(target, {})[id] = done.rev


def _targets(done: Written) -> set[str]:
    """Return the stores to which the definition in an outcome refers."""
    return _stores_in(orjson.loads(done.entity).get("fields"))


def _stores_in(fields: Any) -> set[str]:
    """Return the stores to which the fields of a definition refer."""
    waiting = [fields]
    found: set[str] = set()
    while waiting:
        fields = waiting.pop()
        for field in fields if isinstance(fields, list) else ():
            if isinstance(field, dict):
                found.update(name for name in [field.get("store")] if isinstance(name, str) and name)
                waiting.append(field.get("fields"))
    return found


def each_of(definition: Definitions) -> Sequence[StoreDefinition]:
    """Return the definitions on which a commit relies, in the same order for all commits."""
    if definition is None:
        return ()
    return (definition,) if isinstance(definition, StoreDefinition) else sorted(definition, key=lambda each: each.id)


def changed_definitions(writes: Sequence[Write]) -> list[str]:
    """Return the ids of the definitions that the writes change or remove, in the same order for all commits."""
    return sorted({w.id for w in writes if isinstance(w, Update | Delete) and w.store == DEFINITIONS})


def targets_of(writes: Sequence[Write]) -> list[str]:
    """Return the stores to which definitions come to refer by the writes, in the same order for all commits."""
    found: set[str] = set()
    for write in writes:
        if write.store != DEFINITIONS:
            continue
        if isinstance(write, Insert):
            found |= _stores_in(write.entity.get("fields"))
        elif isinstance(write, Update):
            found |= _stores_in(write.changes.get("fields")) if write.targets is None else write.targets
    return sorted(found)
