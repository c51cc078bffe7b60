"""Changes of a store's definition: which views of the store they end.

A new definition may alter what is shown of entities that did not change, and no change reports that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from stores.definitions import parse_definition
from stores.errors import HistoryGone, InvalidEntity
from stores.query import Filter, Projection, leaves
from stores.records import SYSTEM_FIELDS, Change, Entity
from stores.schema import StoreDefinition

_State = tuple[Literal["shown", "hidden", "undefined"], str]
"""Of a field: whether it is shown, and its type (empty if it has none). An undefined field of a closed store may be
hidden later: the projection of a view from before does not know that, so these two differ."""


class Redefinition:
    """A change of the store `stores`, compared with the views of the store that it defines.

    A view is given by its filter and projection. It ends if the change alters whether a field of the projection is
    shown, or also the type of a field of the filter. Otherwise it goes on with the projection that it has. Views of all
    fields of a closed store end with each field that is added.
    """

    def __init__(self, change: Change) -> None:
        self.store: str | None = (change.before or {}).get("name")
        old, new = _parsed(change.before), _parsed(change.after)
        self._everything = change.before is not None and (old is None or new is None or old.name != new.name)
        self._named: frozenset[str] = frozenset()
        self._altered: frozenset[str] = frozenset()
        self._reshown: frozenset[str] = frozenset()
        self._opened_or_closed = False
        if old is not None and new is not None:
            self._named = frozenset({*old.by_id, *old.hidden, *new.by_id, *new.hidden, *SYSTEM_FIELDS})
            named = self._named - frozenset(SYSTEM_FIELDS)
            states = {name: (_state(old, name), _state(new, name)) for name in named}
            altered = {name: (was, is_) for name, (was, is_) in states.items() if was != is_}
            self._altered = frozenset(altered)
            self._reshown = frozenset(name for name, (was, is_) in altered.items() if was[0] != is_[0])
            self._opened_or_closed = old.open != new.open

    @property
    def is_harmless(self) -> bool:
        """Whether no view ends. Always so for a new store."""
        return not (self._everything or self._altered or self._opened_or_closed)

    def ends(self, where: Filter, projection: Projection) -> bool:
        """Return whether the view ends that `where` and `projection` define."""
        if self._everything or self.is_harmless:
            return self._everything
        if any(leaf.path and self._is_among(leaf.path[0], self._altered) for leaf in leaves(where)):
            return True
        if projection.only is None:
            return self._opened_or_closed or bool(self._reshown)
        return any(self._is_among(path[0], self._reshown) for path in projection.only)

    def _is_among(self, name: str, changed: frozenset[str]) -> bool:
        return name in changed or (self._opened_or_closed and name not in self._named)


def _parsed(entity: Entity | None) -> StoreDefinition | None:
    """Return the definition in an entity; None if there is none, or if it is damaged and so was never in force."""
    try:
        return None if entity is None else parse_definition(entity)
    except InvalidEntity:
        return None


def _state(definition: StoreDefinition, name: str) -> _State:
    field = definition.by_id.get(name)
    type = field.type if field is not None else ""
    if name in definition.hidden:
        return "hidden", type
    return "shown" if definition.open or field is not None else "undefined", type


def check_same_store(store: str, changes: Iterable[Change], where: Filter, projection: Projection) -> None:
    """Raise HistoryGone if one of the changes redefines the store so that the view by `where` and `projection` ends, or
    if not all changes of the store are known."""
    for change in changes:
        if change.op == "lost" and change.store == store:
            raise HistoryGone(f"not every change of {store} since that position is known")
        is_of_store = change.store == "stores" and (change.before or {}).get("name") == store
        if is_of_store and Redefinition(change).ends(where, projection):
            raise HistoryGone(f"{store} has been redefined since that position")
