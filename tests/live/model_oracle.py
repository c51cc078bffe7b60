"""The visibility rules of docs/platform-api.md, implemented a second time without any of the hub's code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stores.records import Entity, Json

SYSTEM = ("users", "tokens", "sessions", "groups", "roles", "stores")
_NOWHERE = object()


@dataclass(frozen=True)
class Holder:
    """The user of a token. `role_scopes` is None if the user has no role, `token_scopes` if the token has no scopes."""

    id: str
    group: str | None
    admin: bool
    role_scopes: tuple[str, ...] | None
    token_scopes: tuple[str, ...] | None

    def may(self, method: str, store: str) -> bool:
        """Return whether role and token allow `method` on a store that is not a system store."""
        by_token = self.token_scopes is None or allow(self.token_scopes, method, store)
        by_role = self.admin or self.role_scopes is None or allow(self.role_scopes, method, store)
        return by_token and by_role

    def reads_all_it_sees(self, store: str) -> bool:
        """Return whether the holder reads all visible entities of a system store: administrators do, and holders of a
        role that names the store."""
        named = self.role_scopes is not None and allow(self.role_scopes, "GET", store, star=False)
        return self._token_reaches(store) and (self.admin or named)

    def may_read(self, store: str) -> bool:
        """Return whether the holder may read anything of the store. Every user may read its own entity in `users`."""
        return self._token_reaches(store) if store == "users" else self.may("GET", store)

    def sees(self, store: str, entity: Entity, parents: Mapping[str, str | None]) -> bool:
        """Return whether the holder sees the entity. `parents` is the tree of groups."""
        if not self.may_read(store):
            return False
        if store == "users" and not self.reads_all_it_sees(store):
            return bool(entity["_id"] == self.id)
        if self.admin or entity["owner"] == self.id or self.id in entity["access"]:
            return True
        return self.group is not None and self.group in upwards(entity["group"], parents)

    def visibility(self) -> tuple[Any, ...]:
        """Return a value that stays equal as long as a position of this holder can be resumed."""
        rule = None if self.admin else (self.id, self.group, self._narrowed_to())
        return (rule, *(self.reads_all_it_sees(store) for store in ("sessions", "tokens", "users")))

    def _narrowed_to(self) -> frozenset[str] | None:
        """Return the names in the scopes of a role by which the holder may read; None if it may read every store."""
        if self.role_scopes is None or allow(self.role_scopes, "GET", "*"):
            return None
        split = [scope.partition(" /") for scope in self.role_scopes]
        return frozenset(place.removesuffix("/*") for method, _, place in split if method in ("GET", "*"))

    def _token_reaches(self, store: str) -> bool:
        return self.token_scopes is None or allow(self.token_scopes, "GET", store, star=self.admin)


def allow(scopes: tuple[str, ...], method: str, store: str, *, star: bool = True) -> bool:
    """Return whether one of `scopes` allows `method` on the store. `star`: whether ``*`` covers this store."""
    for scope in scopes:
        allowed, _, place = scope.partition(" /")
        if allowed in (method, "*") and (place == f"{store}/*" or (star and place == "*")):
            return True
    return False


def upwards(group: str | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the group and its ancestors."""
    while group is not None:
        yield group
        group = parents.get(group)


@dataclass(frozen=True)
class Moment:
    """The state between two steps, as far as it determines views. `holders` has the valid tokens. `entities` (by store
    and id) are as an administrator sees them; `meanwhile` are their intermediate states. In a `blurred` moment several
    operations ran at once, so it is unknown which stamps belong to which state."""

    entities: Mapping[str, Mapping[str, Entity]]
    holders: Mapping[str, Holder]
    parents: Mapping[str, str | None]
    hidden: Mapping[str, frozenset[str]]
    meanwhile: tuple[tuple[str, Entity], ...] = ()
    blurred: bool = False

    def had(self, state: Entity, seen: Entity, only: str | None, hidden: frozenset[str]) -> bool:
        """Return whether `seen` is the visible part of an entity's state."""
        expected = shown(state, only, hidden)
        if "_at" not in state:  # a state that the oracle has predicted, without the times
            expected, seen = timeless(expected), timeless(seen)
        return expected == seen or (self.blurred and unstamped(expected) == unstamped(seen))

    def states(self, store: str, id: str) -> Iterator[Entity]:
        if id in self.entities[store]:
            yield self.entities[store][id]
        yield from (entity for name, entity in self.meanwhile if (name, entity["_id"]) == (store, id))

    def sees(self, token: str, store: str, entity: Entity) -> bool:
        holder = self.holders.get(token)
        return holder is not None and holder.sees(store, entity, self.parents)

    def visible(self, token: str, store: str, filter: Json = None) -> list[Entity]:
        """Return the matches that the holder of the token sees."""
        return [e for e in self.entities[store].values() if self.sees(token, store, e) and matches(filter, e)]

    def view(self, token: str, store: str, filter: Json, only: str | None) -> dict[str, Entity]:
        """Return the entities, by id, that a list shows to the holder of the token."""
        hidden = self.hidden.get(store, frozenset())
        return {e["_id"]: shown(e, only, hidden) for e in self.visible(token, store, filter)}


def unstamped(entity: Entity) -> Entity:
    return {name: value for name, value in entity.items() if name not in ("branch", "_at", "_rev")}


def timeless(entity: Entity) -> Entity:
    """Return the entity without the times that the hub assigns."""
    return {name: value for name, value in entity.items() if name not in ("time", "_at")}


def shown(entity: Entity, only: str | None, hidden: frozenset[str]) -> Entity:
    """Return the visible part of an entity."""
    whole = {name: value for name, value in entity.items() if name not in hidden}
    if only is None:
        return whole
    part: Entity = {"_id": entity["_id"]}
    for path in only.split(","):
        name, _, inner = path.partition(".")
        if name in whole and not inner:
            part[name] = whole[name]
        elif isinstance(whole.get(name), dict):
            part.setdefault(name, {})
            part[name] |= {inner: whole[name][inner]} if inner in whole[name] else {}
    return part


def matches(filter: Any, entity: Entity) -> bool:
    """Return whether the entity matches; implements the part of the filter language that the model draws."""
    return filter is None or all(_holds(name, value, entity) for name, value in filter.items())


def _holds(name: str, condition: Any, entity: Entity) -> bool:
    if name == "$and":
        return all(matches(part, entity) for part in condition)
    if name == "$or":
        return any(matches(part, entity) for part in condition)
    if name == "$nor":
        return not any(matches(part, entity) for part in condition)
    value: Any = entity
    for step in name.split("."):
        value = value.get(step, _NOWHERE) if isinstance(value, dict) else _NOWHERE
    operators = condition if isinstance(condition, dict) else {"$eq": condition}
    return all(_meets(value, operator, operand) for operator, operand in operators.items())


def _meets(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$exists":
        return (value is not _NOWHERE) is operand
    if operator == "$ne":
        return not _meets(value, "$eq", operand)
    candidates = [value, *value] if isinstance(value, list) else [None if value is _NOWHERE else value]
    return any(_is(candidate, operator, operand) for candidate in candidates)


def _is(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return bool(value == operand)
    if operator == "$in":
        return value in operand
    if _kind(value) is not _kind(operand):
        return False
    if operator == "$startswith":
        return bool(value.startswith(operand))
    return bool({"$lt": value < operand, "$gte": value >= operand}[operator])


def _kind(value: Any) -> type:
    """Return the type of a value: one for all numbers."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
