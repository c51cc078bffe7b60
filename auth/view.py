"""The view of one store for one principal: the single value that carries visibility.

`auth.policy.authorize` makes it. Services, parsers, delta sync and live subscriptions take it and check nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from auth.errors import ReadOnlyField
from stores.errors import InvalidQuery
from stores.field import Field
from stores.query import Filter, Projection, both
from stores.records import SYSTEM_FIELDS, WRITER_FIELD, Entity
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class View:
    """The right to use one method on a store.

    `where` matches the entities that the method may use. `hidden` lists top-level fields that are never shown, and that
    queries must not name. `readonly` lists fields that writes must not change. `digest` is a short text that differs if
    two principals may see different entities of any store (see `auth.positions`).
    """

    definition: StoreDefinition
    where: Filter
    hidden: frozenset[str]
    readonly: frozenset[str]
    digest: str
    whole: Projection = field(init=False, repr=False, compare=False)
    """The projection with all visible fields of an entity."""

    def __post_init__(self) -> None:
        whole = self.definition.whole
        object.__setattr__(self, "whole", whole if whole.hidden == self.hidden else replace(whole, hidden=self.hidden))

    @property
    def store(self) -> str:
        return self.definition.name

    def narrowed(self, where: Filter) -> Filter:
        """Return the filter for the entities of the view that also match `where`."""
        return both(self.where, where)

    def shown(self, projection: Projection) -> Projection:
        """Return the projection without the fields that the view does not show."""
        return self.whole if projection.only is None else replace(self.whole, only=projection.only)

    def shows(self, name: str) -> bool:
        """Return whether a top-level field is shown."""
        definition = self.definition
        return name not in self.hidden and (definition.open or name in definition.by_id or name in SYSTEM_FIELDS)

    def check_path(self, path: str) -> None:
        """Raise InvalidQuery for a dotted path that a query must not name: hidden, or at which no entity has a value,
        since answers would be empty whatever the data."""
        segments = path.split(".")
        if segments[0] == WRITER_FIELD or not self.shows(segments[0]):
            raise InvalidQuery(path, f"{self.store} has no field {path!r}")
        if end := self.definition.dead_end(segments):
            raise InvalidQuery(path, str(end))

    def field_at(self, path: Sequence[str]) -> Field | None:
        """Return the typed field at a path, which decides the form of values in filters."""
        return self.definition.field_at(path)

    @property
    def search_paths(self) -> tuple[str, ...]:
        """The dotted paths that `search=` searches."""
        return tuple(path for path in self.definition.search_paths if path.split(".", 1)[0] not in self.hidden)

    @property
    def hidden_fields(self) -> frozenset[str]:
        """Hidden fields of the definition. A replacement that does not name them leaves them unchanged."""
        return frozenset(name for name in self.hidden if name in self.definition.by_id)

    def writable(self, fields: Entity, body: Entity, before: Entity) -> Entity:
        """Return the `fields` of a change without the read-only ones, which a caller may send back unchanged.

        `body` is the whole change as the caller sent it. Raises ReadOnlyField for one with another value.
        """
        fixed = self.readonly
        if not fixed:
            return fields
        for name in sorted(fixed & (fields.keys() | body.keys())):
            if fields.get(name, body.get(name)) != before.get(name):
                raise ReadOnlyField(name, self.store)
        return {name: value for name, value in fields.items() if name not in fixed}
