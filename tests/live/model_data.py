"""What requests do to `orders` and `lines`, by the rules of docs/platform-api.md, written a second time.

A `Trial` carries requests out on the entities that it is given, in Python and one after the other. Where a request
breaks several rules, the page does not say which one the answer names, so a refusal has several possible statuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from stores.records import Entity
from tests.live.model_definitions import DATA, Definitions, Relation, defaults, misfit, named, relations
from tests.live.model_oracle import Holder, Moment, matches, upwards
from tests.properties.operator_reference import Refused as OperatorRefused
from tests.properties.operator_reference import changed

SYSTEM = ("_id", "owner", "group", "access", "branch", "time", "_at", "_rev")


@dataclass(frozen=True)
class Request:
    """A request whose ids are known. It is of one entity if it has an `id`, otherwise of all matches of the filter.
    `upsert`: a POST that updates the entity with the same `code`. The body of a POST may be a list."""

    method: str
    store: str
    id: str = ""
    body: Any = None
    filter: Any = None
    upsert: bool = False
    if_match: int | None = None


@dataclass(frozen=True)
class Batch:
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Change:
    """A change of one entity. `before` is None for a new one, `after` for a deleted one."""

    store: str
    id: str
    before: Entity | None
    after: Entity | None


class Refused(Exception):
    """The request is refused with one of `statuses`. `index`: its place in a batch."""

    def __init__(self, statuses: Iterable[int], index: int | None = None) -> None:
        self.statuses = frozenset(statuses)
        self.index = index
        super().__init__(f"{sorted(self.statuses)} at {index}")


class Trial:
    """Carries out requests of one holder, who is seen with the tree of groups of a moment.

    `made` are the answers to the writes of entities, in their order: they tell the ids and numbers that the hub has
    assigned. `changes` are the changes so far; after Refused, neither they nor `entities` mean anything.
    """

    def __init__(
        self, definitions: Definitions, moment: Moment, entities: Any, holder: Holder, made: Sequence[Entity] = ()
    ) -> None:
        self.entities: dict[str, dict[str, Entity]] = {store: dict(entities[store]) for store in DATA}
        self.changes: list[Change] = []
        self.may_refuse: set[int] = set()
        """Statuses with which a request that breaks no rule may be refused."""
        self._definitions = definitions
        self._relations = list(relations(definitions))
        self._parents = moment.parents
        self._holder = holder
        self._made = made
        self._wrong: set[int] = set()

    def carry_out(self, asked: Request | Batch) -> list[Entity] | int:
        """Return the entities of the answer, without the stamps, or the count of a bulk change. Raises Refused."""
        if isinstance(asked, Request):
            self._authorize(asked)
            return self._checked(asked, 0)
        answers: list[Entity] = []
        for index, request in enumerate(asked.requests):
            self._wrong = set()
            try:
                self._authorize(request)
                found = self._checked(self._with_references(request, answers), index)
            except Refused as refusal:
                raise Refused(refusal.statuses, index) from None
            assert isinstance(found, list)
            answers += found
        return answers

    # References of a batch.

    def _with_references(self, request: Request, answers: list[Entity]) -> Request:
        """Return the request with values in the place of ``{"$ref": "0._id"}``. In the id, the text alone stands."""
        body = self._resolved(request.body, answers)
        id = request.id
        if id.startswith('{"$ref"'):
            id = str(self._resolved({"$ref": id.split('"')[3]}, answers))
        return Request(request.method, request.store, id, body, request.filter, request.upsert, request.if_match)

    def _resolved(self, value: Any, answers: list[Entity]) -> Any:
        if isinstance(value, list):
            return [self._resolved(each, answers) for each in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"$ref"}:
            number, _, name = value["$ref"].partition(".")
            answer = answers[int(number)]
            if name not in answer:
                raise Refused([400])
            return answer[name]
        return {name: self._resolved(each, answers) for name, each in value.items()}

    # Requests.

    def _authorize(self, request: Request) -> None:
        methods = ("POST", "PATCH") if request.upsert else (request.method,)
        if not all(self._holder.may(method, request.store) for method in methods):
            raise Refused([403])

    def _checked(self, request: Request, index: int) -> list[Entity] | int:
        self._wrong |= self._of_form(request)
        found = self._done(request, index)
        if self._wrong:
            raise Refused(self._wrong)
        return found

    def _done(self, request: Request, index: int) -> list[Entity] | int:
        store = request.store
        if request.method == "POST":
            bodies = request.body if isinstance(request.body, list) else [request.body]
            write = self._upsert if request.upsert else self._create
            return [write(store, body, index + n) for n, body in enumerate(bodies)]
        if request.filter is not None:
            return self._bulk(request)
        entity = self.entities[store].get(request.id)
        if entity is None or not self._sees(store, entity):
            raise Refused({404} | self._wrong)
        if request.if_match not in (None, entity["_rev"]):
            self._wrong.add(412)
        if request.method == "DELETE":
            self._delete(store, [entity])
            return [entity]
        return [self._change(store, entity, request.body, whole=request.method == "PUT")]

    def _of_form(self, request: Request) -> set[int]:
        """Return the status of a body that is refused whatever the entities are."""
        if request.method == "DELETE":
            return set()
        bodies = request.body if isinstance(request.body, list) else [request.body]
        whole = request.method in ("POST", "PUT")
        wrong = (not self._well_formed(request.store, body, whole, request.upsert) for body in bodies)
        return {400} if any(wrong) else set()

    def _well_formed(self, store: str, body: Entity, whole: bool, upsert: bool) -> bool:
        fields = named(self._definitions, store)
        plain, operators = parts(body)
        if operators and whole and not upsert:
            return False
        values = {**defaults(self._definitions, store), **plain} if whole else plain
        if any(name not in fields or misfit(fields[name], value) for name, value in values.items()):
            return False
        return not operators or fit(operators, plain, fields)

    def _create(self, store: str, body: Entity, index: int) -> Entity:
        made = self._made[index] if self._made else {"_id": f"{index:024x}", "number": -index}
        plain, _ = parts(body)
        entity = {
            **defaults(self._definitions, store),
            **self._unassigned(store, plain),
            "number": made.get("number"),
            "_id": made["_id"],
            "owner": self._holder.id,
            "group": self._holder.group,
            "access": [],
            "branch": list(upwards(self._holder.group, self._parents)),
            "_rev": 1,
        }
        self._check(store, {"_id": entity["_id"]}, entity)
        self._put(store, None, entity)
        return entity

    def _upsert(self, store: str, body: Entity, index: int) -> Entity:
        code = body.get("code")
        if code is not None:
            for entity in list(self.entities[store].values()):
                if entity.get("code") == code:
                    if self._sees(store, entity):
                        return self._change(store, entity, body)
                    # An item of an array may be checked against those before it with this code.
                    plain, operators = parts(body)
                    self._wrong |= {409} | ({400} if operators or self._unknown(store, {}, plain) else set())
                    return entity
        return self._create(store, body, index)

    def _change(self, store: str, entity: Entity, body: Entity, *, whole: bool = False) -> Entity:
        plain, operators = parts(body)
        plain = self._unassigned(store, plain)
        fields = named(self._definitions, store)
        before = entity
        if whole:
            kept = (*SYSTEM, *(id for id, field in fields.items() if field["type"] == "Serial"))
            entity = {name: value for name, value in entity.items() if name in kept}
            plain = {**defaults(self._definitions, store), **plain}
        after = {**entity, **plain}
        try:
            after = changed(after, operators, frozenset(id for id in fields if fields[id]["type"] == "Numeric"))
        except OperatorRefused:
            self._wrong.add(400)
            return before
        touched = {path.split(".")[0] for path in paths(operators)}
        for name in touched:
            is_same = (name in before) is (name in after) and before.get(name) == after.get(name)
            if name in fields and not is_same and misfit(fields[name], after.get(name)):
                self._wrong.add(400)
        self._check(store, before, after)
        if after == before:
            return before
        after = untimed(after)
        self._put(store, before, after)
        return after

    def _bulk(self, request: Request) -> int:
        store = request.store
        found = [e for e in self.entities[store].values() if self._sees(store, e) and matches(request.filter, e)]
        if request.method == "DELETE":
            self._delete(store, found)
            return len(found)
        changes = len(self.changes)
        for entity in found:
            self._change(store, entity, request.body)
        # The hub may check plain references before it knows whether they are new to any match.
        plain, _ = parts(request.body)
        if self._unknown(store, {}, plain):
            self.may_refuse.add(400)
        return len(self.changes) - changes

    # Rules.

    def _sees(self, store: str, entity: Entity) -> bool:
        return self._holder.sees(store, entity, self._parents)

    def _unassigned(self, store: str, body: Entity) -> Entity:
        """Return the body without what the hub assigns."""
        fields = named(self._definitions, store)
        return {name: value for name, value in body.items() if fields.get(name, {}).get("type") != "Serial"}

    def _check(self, store: str, before: Entity, after: Entity) -> None:
        """Note what is wrong with an entity beside others."""
        if self._unknown(store, before, after):
            self._wrong.add(400)
        for name, field in named(self._definitions, store).items():
            others = (each for id, each in self.entities[store].items() if id != before["_id"])
            value = after.get(name)
            if field.get("unique") and value is not None and any(each.get(name) == value for each in others):
                self._wrong.add(409)

    def _unknown(self, store: str, before: Entity, after: Entity) -> bool:
        """Return whether an entity newly refers to what is not there or out of sight."""
        for relation in self._of(store):
            for id in {*relation.ids(after)} - {*relation.ids(before)}:
                target = self.entities[relation.target].get(id)
                if target is None or not self._sees(relation.target, target):
                    return True
        return False

    def _of(self, store: str) -> list[Relation]:
        return [relation for relation in self._relations if relation.store == store]

    def _delete(self, store: str, targets: Sequence[Entity]) -> None:
        """Delete the targets with what refers to them, or note that something refuses it."""
        gone = {(store, entity["_id"]): entity for entity in targets}
        waiting = [*gone]
        while waiting:
            where, id = waiting.pop()
            for relation, other in self._referring(where, {id}, "cascade"):
                key = (relation.store, other["_id"])
                if key not in gone:
                    gone[key] = other
                    waiting.append(key)
        cleared: dict[tuple[str, str], Entity] = {}
        for where in DATA:
            ids = {id for place, id in gone if place == where}
            for relation, other in self._referring(where, ids, "refuse"):
                if (relation.store, other["_id"]) not in gone:
                    self._wrong.add(409)
            for relation, other in self._referring(where, ids, "clear"):
                key = (relation.store, other["_id"])
                if key not in gone:
                    after = cleared.setdefault(key, untimed(other))
                    after[relation.name] = relation.without(after, ids)
        for (where, id), after in cleared.items():
            self._put(where, self.entities[where][id], after)
        for (where, id), entity in gone.items():
            del self.entities[where][id]
            self.changes.append(Change(where, id, entity, None))

    def _referring(self, store: str, ids: set[str], on_delete: str) -> list[tuple[Relation, Entity]]:
        return [
            (relation, entity)
            for relation in self._relations
            if (relation.target, relation.on_delete) == (store, on_delete)
            for entity in self.entities[relation.store].values()
            if not ids.isdisjoint(relation.ids(entity))
        ]

    def _put(self, store: str, before: Entity | None, after: Entity) -> None:
        self.entities[store][after["_id"]] = after
        self.changes.append(Change(store, after["_id"], before, after))


def untimed(entity: Entity) -> Entity:
    """Return the next revision of an entity, without its time, which the oracle does not predict."""
    return {name: value for name, value in entity.items() if name != "_at"} | {"_rev": entity["_rev"] + 1}


def parts(body: Entity) -> tuple[Entity, Entity]:
    """Return the plain fields and the operators of a body."""
    operators = {name: value for name, value in body.items() if name.startswith("$")}
    return {name: deepcopy(value) for name, value in body.items() if name not in operators}, operators


def paths(operators: Entity) -> list[str]:
    return [path for argument in operators.values() for path in argument]


def fit(operators: Entity, plain: Entity, fields: dict[str, dict[str, Any]]) -> bool:
    """Return whether operators may be sent beside plain fields, whatever the entity: no path is changed twice, and
    each argument fits its operator and its field."""
    places = sorted([*paths(operators), *plain])
    twice = any(later == first or later.startswith(f"{first}.") for first, later in overlapping(places))
    tops = [fields.get(path.split(".")[0]) for path in paths(operators)]
    assigned = any(field is None or field["type"] == "Serial" for field in tops)
    emptied = (path for path in operators.get("$unset", ()) if path in fields)
    replaced = ((path, value) for path, value in operators.get("$set", {}).items() if path in fields)
    wrong = any(misfit(fields[p], None) for p in emptied) or any(misfit(fields[p], v) for p, v in replaced)
    return not (twice or assigned or wrong)


def overlapping(places: list[str]) -> Iterable[tuple[str, str]]:
    return ((first, later) for n, first in enumerate(places) for later in places[n + 1 :])
