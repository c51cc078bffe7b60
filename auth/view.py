"""One store as one principal may see and use it: the single value that carries visibility.

`auth.policy.authorize` makes it. Services, parsers, delta sync and live subscriptions take it and ask nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from auth.errors import Forbidden
from stores.errors import InvalidQuery
from stores.query import Filter, Projection, both
from stores.records import SYSTEM_FIELDS, WRITER_FIELD, Entity
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class View:
    """The right to use one method on a store.

    `where` matches the entities that the method reaches. `hidden` names top-level fields that are never shown, nor
    named by a query. `readonly` names fields that a write may not alter. `digest` is a short text that differs when
    two principals may see different entities of any store (see `auth.positions`).
    """

    definition: StoreDefinition
    where: Filter
    hidden: frozenset[str]
    readonly: frozenset[str]
    digest: str
    whole: Projection = field(init=False, repr=False, compare=False)
    """All that is shown of an entity."""

    def __post_init__(self) -> None:
        whole = self.definition.whole
        object.__setattr__(self, "whole", whole if whole.hidden == self.hidden else replace(whole, hidden=self.hidden))

    @property
    def store(self) -> str:
        return self.definition.name

    def narrowed(self, where: Filter) -> Filter:
        """The entities in the view that also match `where`."""
        return both(self.where, where)

    def shown(self, projection: Projection) -> Projection:
        """The projection without what the view does not show."""
        return self.whole if projection.only is None else replace(self.whole, only=projection.only)

    def shows(self, name: str) -> bool:
        """Whether a top-level field is shown."""
        definition = self.definition
        return name not in self.hidden and (definition.open or name in definition.by_id or name in SYSTEM_FIELDS)

    def check_path(self, path: str) -> None:
        """Raise InvalidQuery for a dotted path that a query may not name: hidden, or no field of a closed store."""
        top = path.split(".", 1)[0]
        if top == WRITER_FIELD or not self.shows(top):
            raise InvalidQuery(path, f"{self.store} has no field {path!r}")

    @property
    def search_paths(self) -> tuple[str, ...]:
        """The dotted paths that `search=` looks into."""
        return tuple(path for path in self.definition.search_paths if path.split(".", 1)[0] not in self.hidden)

    @property
    def hidden_fields(self) -> frozenset[str]:
        """Fields of the definition that are hidden: a replacement that does not name them leaves them as they are."""
        return frozenset(name for name in self.hidden if name in self.definition.by_id)

    def writable(self, fields: Entity, body: Entity, before: Entity) -> Entity:
        """The `fields` of a change without the read-only ones, which may be sent back as they are. `body` is the whole
        change as the caller sent it. Raises Forbidden for a read-only field with another value."""
        fixed = self.readonly
        if not fixed:
            return fields
        for name in fixed & fields.keys() or fixed & body.keys():
            if fields.get(name, body.get(name)) != before.get(name):
                raise Forbidden(f"{name} of {self.store} is read-only")
        return {name: value for name, value in fields.items() if name not in fixed}
