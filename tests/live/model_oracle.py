"""Who may see what, and what of it: the rules of docs/platform-api.md over again, with no line of the hub's code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stores.records import Entity, Json

SYSTEM = ("users", "tokens", "sessions", "groups", "roles", "stores")
_NOWHERE = object()


@dataclass(frozen=True)
class Holder:
    """A user as the holder of one token. `role_scopes` is None without a role, `token_scopes` without scopes."""

    id: str
    group: str | None
    admin: bool
    role_scopes: tuple[str, ...] | None
    token_scopes: tuple[str, ...] | None

    def may(self, method: str, store: str) -> bool:
        """What the scopes of its roles and of its token allow, of stores that are not system stores."""
        by_token = self.token_scopes is None or allow(self.token_scopes, method, store)
        by_role = self.admin or self.role_scopes is None or allow(self.role_scopes, method, store)
        return by_token and by_role

    def reads_all_it_sees(self, store: str) -> bool:
        """Of a system store: administrators, and who has a role that names it."""
        named = self.role_scopes is not None and allow(self.role_scopes, "GET", store, star=False)
        return self._token_reaches(store) and (self.admin or named)

    def may_read(self, store: str) -> bool:
        """In any way: of `users`, everybody reads its own."""
        return self._token_reaches(store) if store == "users" else self.may("GET", store)

    def sees(self, store: str, entity: Entity, parents: Mapping[str, str | None]) -> bool:
        """`parents` is the tree of groups."""
        if not self.may_read(store):
            return False
        if store == "users" and not self.reads_all_it_sees(store):
            return bool(entity["_id"] == self.id)
        if self.admin or entity["owner"] == self.id or self.id in entity["access"]:
            return True
        return self.group is not None and self.group in upwards(entity["group"], parents)

    def visibility(self) -> tuple[Any, ...]:
        """Equal as long as a position of this holder can be resumed from."""
        rule = None if self.admin else (self.id, self.group)
        return (rule, *(self.reads_all_it_sees(store) for store in ("sessions", "tokens", "users")))

    def _token_reaches(self, store: str) -> bool:
        return self.token_scopes is None or allow(self.token_scopes, "GET", store, star=self.admin)


def allow(scopes: tuple[str, ...], method: str, store: str, *, star: bool = True) -> bool:
    """`star`: whether ``*`` covers this store."""
    for scope in scopes:
        allowed, _, place = scope.partition(" /")
        if allowed in (method, "*") and (place == f"{store}/*" or (star and place == "*")):
            return True
    return False


def upwards(group: str | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    """The group and those above it."""
    while group is not None:
        yield group
        group = parents.get(group)


@dataclass(frozen=True)
class Moment:
    """Everything that decides about views, between two steps. `holders` are by token, without those that are no longer
    valid; `entities` by store and id are as an administrator sees them, with the states that they had meanwhile. In a
    `blurred` one several things happened at once: which stamps went with which state, nobody knows."""

    entities: Mapping[str, Mapping[str, Entity]]
    holders: Mapping[str, Holder]
    parents: Mapping[str, str | None]
    hidden: Mapping[str, frozenset[str]]
    meanwhile: tuple[tuple[str, Entity], ...] = ()
    blurred: bool = False

    def had(self, state: Entity, seen: Entity, only: str | None, hidden: frozenset[str]) -> bool:
        """Whether `seen` is what there is to see of the state of an entity."""
        expected = shown(state, only, hidden)
        return expected == seen or (self.blurred and unstamped(expected) == unstamped(seen))

    def states(self, store: str, id: str) -> Iterator[Entity]:
        if id in self.entities[store]:
            yield self.entities[store][id]
        yield from (entity for name, entity in self.meanwhile if (name, entity["_id"]) == (store, id))

    def sees(self, token: str, store: str, entity: Entity) -> bool:
        holder = self.holders.get(token)
        return holder is not None and holder.sees(store, entity, self.parents)

    def view(self, token: str, store: str, filter: Json, only: str | None) -> dict[str, Entity]:
        """What a list shows the holder of the token, by id."""
        hidden = self.hidden.get(store, frozenset())
        found = [e for e in self.entities[store].values() if self.sees(token, store, e) and matches(filter, e)]
        return {e["_id"]: shown(e, only, hidden) for e in found}


def unstamped(entity: Entity) -> Entity:
    return {name: value for name, value in entity.items() if name not in ("branch", "_at", "_rev")}


def shown(entity: Entity, only: str | None, hidden: frozenset[str]) -> Entity:
    """What there is to see of an entity."""
    whole = {name: value for name, value in entity.items() if name not in hidden}
    if only is None:
        return whole
    part: Entity = {"_id": entity["_id"]}
    for path in only.split(","):
        name, _, inner = path.partition(".")
        if name in whole and not inner:
            part[name] = whole[name]
        elif name in whole:
            part.setdefault(name, {})
            part[name] |= {inner: whole[name][inner]}
    return part


def matches(filter: Any, entity: Entity) -> bool:
    """The part of the filter language that the model draws from."""
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
    if type(value) is not type(operand):
        return False
    if operator == "$startswith":
        return bool(value.startswith(operand))
    return bool({"$lt": value < operand, "$gte": value >= operand}[operator])
