"""What the commits of a user keep true beyond single entities: references, with the steps of `stores.reference_checks`,
and the rules of stores with a purpose (`hub.services.store_rules`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final

from auth.policy import view_of
from auth.principal import Principal
from hub.services.data_steps import check_writable
from hub.services.registry import StoreRegistry
from hub.services.stamping import stamps_of
from hub.services.store_rules.base import Surroundings, stamps_of_listings
from hub.services.store_rules.commit import CommitRules, rule_for
from hub.services.write_rules import Check, Stage, WriteRule
from stores.errors import NotFound
from stores.limits import nodes_of
from stores.protocol import (
    Delete,
    DeleteMany,
    Insert,
    Procedure,
    Stamp,
    Steps,
    Update,
    UpdateMany,
    Upsert,
    Write,
    Written,
)
from stores.query import And, Equal, Filter
from stores.reference_checks import (
    NOTHING_WRITTEN,
    Deletion,
    FieldChange,
    ReferenceChecks,
    Substeps,
    Visibility,
    Wanted,
    check_change,
    check_change_of_all,
    to_itself,
)
from stores.relation import Relation
from stores.schema import StoreDefinition
from stores.threads import in_thread
from stores.upsert_checks import UpsertChecks

COLLECTED_AT_ONCE: Final = 5_000
"""Values in fields with references up to which references are collected on the event loop."""

LIGHT_VALUES: Final = 1_000
"""Values in fields with references up to which a procedure is a light one."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """Writes with the procedures that keep references and rules true: `before` checks, and fills in what the hub
    derives; `after` checks what depends on the writes, and takes the consequences of deletions and of rules. `own` are
    the writes as the rules have them."""

    before: Sequence[Procedure]
    own: Sequence[Write]
    after: Sequence[Procedure]

    @property
    def writes(self) -> list[Write]:
        """All of them, for one commit."""
        return [*self.before, *self.own, *self.after]

    def outcomes(self, written: Sequence[Written]) -> list[Written]:
        """Return the outcomes of the writes alone from those of the commit."""
        return [*written[len(self.before) : len(self.before) + len(self.own)]]


class ReferenceKeeper:
    """Makes the procedures for commits. `most`: entities that a deletion, or a rule, may concern in all. `write_rules`
    are checked together with the references."""

    def __init__(self, registry: StoreRegistry, most: int, write_rules: Sequence[WriteRule] = ()) -> None:
        self._registry = registry
        self._most = most
        self._write_rules = write_rules

    def guard(self, principal: Principal, writes: Sequence[Write], *, indexed: bool = False) -> Guarded:
        """Return the writes with the procedures that they need. With `indexed`, errors contain the position of the
        write."""
        if not self.concern_references(writes):
            return Guarded((), writes, ())
        ruled = CommitRules(Surroundings(principal, self._registry, self._most, indexed), writes)
        writes = ruled.own
        deletions = [*self._deletions(writes)]
        found = [check for rule in self._write_rules for check in rule.checks_of(writes, indexed=indexed)]
        found += self._checks(principal, writes, indexed=indexed)
        first: list[Stage] = [check.before for check in found]
        first += [partial(deletion.collect, where) for deletion, where in deletions]
        last: list[Stage] = [check.after for check in found if check.after is not None]
        last += [deletion.take for deletion, _ in deletions]
        if ruled or (deletions and self._registry.has_purposes):
            first.append(lambda: _as_stage(ruled.before(each for d, _ in deletions for each in d.consequences())))
            last.append(lambda: _as_stage(ruled.after()))
        bulk = any(isinstance(write, UpdateMany | DeleteMany) for write in writes) or ruled.take_long
        bulk = bulk or any(check.takes_long for check in found) or self._holds_more(writes, LIGHT_VALUES)
        store, stamps = writes[0].store, (*ruled.stamps, *self.stamps_of_consequences(deletes_from(writes)))
        return Guarded(_procedure(store, first, bulk=bulk), writes, _procedure(store, last, bulk=bulk, stamps=stamps))

    def stamps_of_rules(self, stores: Iterable[str]) -> tuple[Stamp, ...]:
        """Return the stamps that commits may take which write to these stores, because of their rules."""
        return stamps_of_listings(self._registry) if any(map(self._has_rule, stores)) else ()

    def _has_rule(self, store: str) -> bool:
        try:
            return rule_for(self._registry.get(store).purpose) is not None
        except NotFound:
            return False

    def _referring(self, store: str) -> Sequence[Relation]:
        """Return the relations whose target is a store. Raises DataChanging like `_writable`."""
        return self._writable(self._registry.referring(store))

    def _writable(self, relations: Sequence[Relation]) -> Sequence[Relation]:
        """Return the relations. Raises DataChanging while entities of one are being changed: they may hold their
        references in a field of another name, or of another type."""
        for relation in relations:
            check_writable(self._registry.get(relation.store))
        return relations

    def relied_on(self, definitions: Sequence[StoreDefinition], deletes_from: Iterable[str]) -> list[StoreDefinition]:
        """Return the definitions on which a commit relies: those of its stores, and of stores whose entities may go
        with what it deletes, because others may refer to what goes."""
        found = {each.name: each for each in definitions}
        waiting = [*deletes_from]
        seen = set(waiting)
        while waiting:
            for relation in self._registry.referring(waiting.pop()):
                if relation.on_delete == "cascade" and relation.store not in seen:
                    seen.add(relation.store)
                    waiting.append(relation.store)
                    if relation.store not in found:
                        found[relation.store] = self._registry.get(relation.store)
        return [*found.values()]

    def stamps_of_consequences(self, deletes_from: Iterable[str]) -> tuple[Stamp, ...]:
        """Return the stamps of the stores whose references are cleared when entities of others are deleted, and those
        that the rules of stores may take whose entities go along."""
        found: dict[Stamp, None] = {}
        waiting = [*deletes_from]
        seen = set(waiting)
        while waiting:
            for relation in self._registry.referring(waiting.pop()):
                if relation.on_delete == "clear":
                    found |= dict.fromkeys(self._stamps(relation.store))
                elif relation.on_delete == "cascade" and relation.store not in seen:
                    seen.add(relation.store)
                    waiting.append(relation.store)
                    found |= dict.fromkeys(self.stamps_of_rules([relation.store]))
        return tuple(found)

    def _stamps(self, store: str) -> tuple[Stamp, ...]:
        return stamps_of(self._registry.get(store))

    async def guarded(self, principal: Principal, writes: Sequence[Write], *, indexed: bool) -> Guarded:
        """Return what `guard` does, from a thread if the writes hold so many values that it may take long."""
        guard = partial(self.guard, principal, writes, indexed=indexed)
        return await in_thread(guard) if self._holds_more(writes, COLLECTED_AT_ONCE) else guard()

    def concern_references(self, writes: Sequence[Write]) -> bool:
        """Return whether references or rules concern these writes."""
        if len(writes) == 1:
            return self._registry.is_connected(writes[0].store)
        return any(map(self._registry.is_connected, {write.store for write in writes}))

    def _holds_more(self, writes: Sequence[Write], most: int) -> bool:
        """Return whether fields with references hold more than `most` values in these writes."""
        values = 0
        fields = {store: {each.field for each in self._relations(store)} for store in {w.store for w in writes}}
        for write in writes:
            match write:
                case Insert(entity=body) | Upsert(entity=body) | Update(changes=body) | UpdateMany(changes=body):
                    values += sum(nodes_of(body[field]) for field in fields[write.store] if field in body)
            if values > most:
                return True
        return False

    def _relations(self, store: str) -> Sequence[Relation]:
        try:
            return self._registry.get(store).relations
        except NotFound:
            return ()

    def _checks(self, principal: Principal, writes: Sequence[Write], *, indexed: bool) -> Iterator[Check]:
        visible = self._visible_to(principal)
        numbered = [(f"{index}." if indexed else "", write) for index, write in enumerate(writes)]
        inserts = [(prefix, write) for prefix, write in numbered if isinstance(write, Insert)]
        for store in {write.store: None for _, write in inserts}:
            yield from self._of_inserts(visible, store, [each for each in inserts if each[1].store == store])
        for write in writes:
            match write:
                case Update():
                    one, replace = _the_one(write), write.replace
                    change = FieldChange(write.store, one, write.changes, write.compute, replace=replace)
                    yield from self._of_change(visible, change)
                case UpdateMany():
                    change = FieldChange(write.store, write.where, write.changes, write.compute, write.limit)
                    yield from self._of_change(visible, change)
        upserts = [(prefix, write) for prefix, write in numbered if isinstance(write, Upsert)]
        for _, run in groupby(upserts, lambda placed: (placed[1].store, placed[1].key)):
            yield from self._of_upserts(visible, [*run])

    def _of_inserts(self, visible: Visibility, store: str, inserts: Sequence[tuple[str, Insert]]) -> Iterator[Check]:
        if relations := self._relations(store):
            late = to_itself(relations, lambda relation: any(relation.by in insert.entity for _, insert in inserts))
            references = ReferenceChecks(visible, relations, late=late)
            for prefix, insert in inserts:
                references.add_new(insert.entity, prefix)
            yield Check(references.check, references.check_late if late else None)

    def _of_change(self, visible: Visibility, change: FieldChange) -> Iterator[Check]:
        names = change.names
        relations = [relation for relation in self._relations(change.store) if relation.field in names]
        referring = self._writable([*filter(change.may_change_key, self._registry.referring(change.store))])
        late = to_itself([*relations, *referring], change.may_change_key)
        if change.limit > 1 and change.compute is None and not late.intersection(relations):
            wanted = Wanted()
            for relation in relations:
                wanted.add(relation, change.changes)
            if wanted:
                yield Check(lambda: check_change_of_all(change, wanted, visible))
            relations = []
        if relations or referring:
            references = ReferenceChecks(visible, relations, referring, late)
            yield Check(lambda: check_change(change, references), references.check_late if late else None)

    def _of_upserts(self, visible: Visibility, upserts: Sequence[tuple[str, Upsert]]) -> Iterator[Check]:
        store, key = upserts[0][1].store, upserts[0][1].key
        relations = self._relations(store)
        others = [each for each in self._registry.referring(store) if each.by not in (key, "_id")]
        changed = _changed_by(upserts) if others else set()
        referring = self._writable([each for each in others if each.by in changed])
        if relations or referring:

            def may_set(relation: Relation) -> bool:
                return relation.by in changed or any(relation.by in upsert.entity for _, upsert in upserts)

            late = to_itself([*relations, *referring], may_set)
            references = UpsertChecks(upserts, ReferenceChecks(visible, relations, referring, late))
            yield Check(references.check, references.check_late if late else None, takes_long=references.has_repeated)

    def _deletions(self, writes: Sequence[Write]) -> Iterator[tuple[Deletion, Filter]]:
        """Yield the deletions from stores to which others refer, with the filters for what is deleted."""
        for write in writes:
            if isinstance(write, Delete | DeleteMany) and self._registry.referring(write.store):
                where = _the_one(write) if isinstance(write, Delete) else write.where
                yield Deletion(write.store, self._most, self._referring, self._stamps), where

    def _visible_to(self, principal: Principal) -> Visibility:
        def visible(store: str) -> Filter | None:
            try:
                view = view_of(principal, self._registry.get(store), "GET")
            except NotFound:
                return None
            return None if view is None else view.where

        return visible


def _as_stage(substeps: Substeps) -> Steps:
    yield from substeps
    return NOTHING_WRITTEN


def _procedure(store: str, stages: Sequence[Stage], *, bulk: bool, stamps: tuple[Stamp, ...] = ()) -> list[Procedure]:
    """Return the procedure that goes through the stages one after the other, if there are any."""
    if not stages:
        return []

    def steps() -> Steps:
        for stage in stages:
            yield from stage()
        return NOTHING_WRITTEN

    return [Procedure(store, steps, bulk, stamps=stamps)]


def _changed_by(upserts: Iterable[tuple[str, Upsert]]) -> set[str]:
    """Return the fields that they may set in entities that exist."""
    changed = set[str]()
    for _, upsert in upserts:
        changed.update(upsert.changes)
        if upsert.compute is not None:
            changed.update(upsert.compute.names)
    return changed


def _the_one(write: Update | Delete) -> Filter:
    return And((write.where, Equal(("_id",), write.id)))


def deletes_from(writes: Sequence[Write]) -> list[str]:
    """Return the stores from which writes delete."""
    return [write.store for write in writes if isinstance(write, Delete | DeleteMany)]
