"""Checks of an array of upserts within its commit, so that references stay true (`stores.reference_checks`).

Several of them may have the same value of the key. Each is checked against the entity as those before it leave it: the
entities are read together, and changed in memory one by one. The writes come afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import orjson

from stores.computing import effective
from stores.paths import split, value_at
from stores.procedures import Step, Steps, find
from stores.query import And, In
from stores.records import Entity
from stores.reference_checks import ReferenceChecks, pieces
from stores.writes import Upsert, UpsertBytes

Placed = tuple[str, Upsert]
"""An upsert, and what comes before the fields in its errors."""

Keyed = tuple[Any, Placed]
"""The same with the value of the key."""


class UpsertChecks:
    """The checks of upserts of one store by one key."""

    def __init__(self, upserts: Sequence[Placed], references: ReferenceChecks) -> None:
        self._references = references
        first = upserts[0][1]
        self._store, self._key, self._where = first.store, first.key, first.where
        self._upserts: list[Keyed] = [(value_at(placed[1].entity, self._key), placed) for placed in upserts]
        counts = Counter(value for value, _ in self._upserts)
        del counts[None]
        self._repeated = frozenset(value for value, count in counts.items() if count > 1)

    @property
    def has_repeated(self) -> bool:
        """Whether several upserts have the same value of the key."""
        return bool(self._repeated)

    def check(self) -> Steps:
        """Check them as far as that is done before the writes. Raises UpsertTooLarge, the InvalidEntity of what they
        compute, and the errors of `ReferenceChecks`."""
        self._references.begin()
        self._fields = frozenset(self._needed())
        known: dict[Any, Entity] = {}
        met = UpsertBytes()
        for piece in pieces(self._upserts):
            entities = known | (yield from self._found(piece, known))
            for value, placed in piece:
                before = None if value is None else entities.get(value)
                if value not in self._repeated:
                    self._add(placed, before)
                    continue
                if before is not None:
                    met.add(len(orjson.dumps(before)))
                known[value] = entities[value] = self._add(placed, before)
        return (yield from self._references.check())

    def check_late(self) -> Steps:
        """Check what is checked after the writes."""
        return (yield from self._references.check_late())

    def _needed(self) -> list[str]:
        """Return the top-level fields of entities on which the checks depend."""
        computes = [upsert.compute for _, (_, upsert) in self._upserts]
        computed = {name for compute in computes if compute is not None for name in compute.names}
        keys = [relation.by for relation in self._references.referring]
        return [self._key.split(".")[0], *computed, *keys, *(relation.field for relation in self._references.relations)]

    def _found(self, piece: Sequence[Keyed], known: dict[Any, Entity]) -> Generator[Step, Any, dict[Any, Entity]]:
        """Return the entities that these upserts meet, by the value of their key, except those that are known."""
        values = {value: None for value, _ in piece if value is not None and value not in known}
        where = And((In(split(self._key), tuple(values)), self._where))
        found = (yield from find(self._store, where, len(values), tuple(self._fields))) if values else []
        return {value_at(entity, self._key): entity for entity in found}

    def _add(self, placed: Placed, before: Entity | None) -> Entity:
        """Add an upsert to the checks. Return what it makes of the entity, as far as the checks depend on it."""
        prefix, upsert = placed
        if before is None:
            self._references.add_new(upsert.entity, prefix)
            return self._part(upsert.entity)
        fields, removed = effective(upsert.changes, upsert.compute, before)
        self._references.add(before, fields | dict.fromkeys(removed), prefix)
        after = before | self._part(fields)
        return {name: value for name, value in after.items() if name not in removed} if removed else after

    def _part(self, fields: Entity) -> Entity:
        return {name: value for name, value in fields.items() if name in self._fields}
