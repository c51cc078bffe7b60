"""Examines what a change of data would make of each entity that it concerns."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.services.entity_count import EntityCount
from stores.data_changes import DataChange, DataOperations, Obstacle, Obstructed
from stores.data_definitions import MEMBER
from stores.errors import DataConflict
from stores.matcher import compile_filter
from stores.paths import is_single, value_at
from stores.protocol import MOST_BULK_BYTES, Engine
from stores.query import Not
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.seen_values import SeenValues

_TEXTS: Final[Mapping[Obstacle, str]] = {
    Obstacle.UNCONVERTIBLE: "a value of it that cannot be converted.",
    Obstacle.INVALID: "a value for it that would not be valid as it is.",
    Obstacle.MISSING: "no value of it, which would be required.",
    Obstacle.TAKEN: "a value of it already.",
    Obstacle.MULTIPLE: "a value of it that would be neither a string nor a number.",
    Obstacle.PARALLEL: "a list at it and at another field, of which an index takes one.",
}


_SHOWN_COMMANDS: Final = 10


def text_of_obstacle(kind: Obstacle) -> str:
    """Return what entities have that cannot be changed."""
    return _TEXTS[kind]


class Examination:
    """The examination of a store's entities before `change`, which may concern at most `most` of them."""

    def __init__(self, change: DataChange, definition: StoreDefinition, most: int) -> None:
        self._change = change
        self._definition = definition
        self._most = most
        self._obstacles: dict[tuple[str, Obstacle], EntityCount] = {}
        numbered = definition.assigned.intersection(change.operations.fill)
        changed = change.names - numbered
        self._unique = [path for path in definition.unique_paths if path.split(".")[0] in changed]
        self._compounds = [
            (index.paths, compile_filter(index.where))
            for index in definition.compounds
            if index.unique
            and not numbered.intersection(index.paths)
            and not changed.isdisjoint(path[0] for _, path in index.locations())
        ]
        self._seen = SeenValues()
        self._sharing: dict[tuple[str, ...], EntityCount] = {}

    async def run(self, engine: Engine) -> dict[str, str]:
        """Return for each field how many entities conflict with the change, and which one is the first. Raises
        DataConflict for a change of too many."""
        count = await engine.count(self._definition.name, self._change.concerned)
        if count > self._most:
            raise too_many(self._definition, self._change.operations, self._most)
        await engine.count(self._definition.name, self._change.concerned, self._examine)
        if self._unique or self._compounds:
            await engine.count(self._definition.name, Not(self._change.concerned), self._note_all)
        shared = {
            path: entities.saying("would share", f"{_what(paths)} with another.")
            for paths, entities in self._sharing.items()
            for path in paths
        }
        return shared | {
            name: entities.having(text_of_obstacle(kind)) for (name, kind), entities in self._obstacles.items()
        }

    def _examine(self, entity: Entity) -> bool:
        try:
            changed = self._change.of(entity)
        except Obstructed as obstructed:
            for obstacle in obstructed.found.items():
                self._obstacles.setdefault(obstacle, EntityCount()).add(entity)
            return True
        after = {**entity, **changed.fields}
        for name in changed.removed:
            after.pop(name, None)
        return self._note_all(after)

    def _note_all(self, entity: Entity) -> bool:
        """Note the unique values of an entity, as it will be."""
        for path in self._unique:
            if is_single(entity, path) and (value := value_at(entity, path)) is not None:
                self._note((path,), [value], entity["_id"])
        for paths, applies in self._compounds:
            values = [value_at(entity, path) for path in paths]
            if all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values) and applies(entity):
                self._note(paths, values, entity["_id"])
        return True

    def _note(self, paths: tuple[str, ...], values: Sequence[Any], id: str) -> None:
        """Note values that must be unique."""
        for sharing in self._seen.note(paths, values, id):
            self._sharing.setdefault(paths, EntityCount()).add({"_id": sharing})


def _what(paths: tuple[str, ...]) -> str:
    return "a value of it" if len(paths) == 1 else f"values of {', '.join(paths)}"


def check_hidden(old: StoreDefinition, operations: DataOperations) -> None:
    """Raise DataConflict for a hidden field that one commit would rename: for a moment after it, reads use the former
    definition, which does not hide the new name. In steps, the values move after the definition."""
    hidden = {source: target for source, target in operations.rename.items() if source in old.hidden}
    if hidden:
        text = "A hidden field is renamed in steps."
        raise _with_commands(text, old, DataOperations(hidden))


def too_many(definition: StoreDefinition, operations: DataOperations, most: int) -> DataConflict:
    """Return the refusal of a change of too many entities, with the commands that make it."""
    text = f"More than {most} entities would change (HUB_MAX_MATCHES)."
    return _with_commands(text, definition, operations).at("max_matches")


def too_large(definition: StoreDefinition, operations: DataOperations) -> DataConflict:
    """Return the refusal of a change of entities that are too large together, with the commands that make it."""
    text = f"Entities of more than {MOST_BULK_BYTES >> 20} MiB would change (MOST_BULK_BYTES)."
    return _with_commands(text, definition, operations).at("MOST_BULK_BYTES")


def too_long(definition: StoreDefinition, operations: DataOperations, seconds: float) -> DataConflict:
    """Return the refusal of a change that takes too long for one commit, with the commands that make it."""
    text = f"Changing the entities takes longer than {seconds:g} seconds (LONGEST_COMPUTING)."
    return _with_commands(text, definition, operations).at("LONGEST_COMPUTING")


def _with_commands(text: str, definition: StoreDefinition, operations: DataOperations) -> DataConflict:
    store, types = definition.name, definition.by_id
    commands = [
        *(_command("rename", store, source, target) for source, target in operations.rename.items()),
        *(_command("drop", store, name) for name in operations.drop),
        *(_command("fill", store, name) for name in operations.fill),
        *(_command("convert", store, name, type=types[name].type) for name in operations.convert),
    ]
    how = f"The command line changes any number: {'; '.join(commands[:_SHOWN_COMMANDS])}"
    return DataConflict({MEMBER: f"{text} {how}"})


def _command(verb: str, store: str, *names: str, type: str = "") -> str:
    """Return a command as a shell takes it: a field may have any name."""
    options = ["--type", type] if type else []
    if any(name.startswith("-") for name in names):
        return shlex.join(["hub", "field", verb, *options, "--", store, *names])
    return shlex.join(["hub", "field", verb, store, *names, *options])
