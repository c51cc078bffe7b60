"""Writes of one entity for a caller: checked, stamped, and bound to what the caller may see. Both single writes and
batches prepare theirs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from auth.policy import reader_of
from auth.principal import Principal
from auth.view import View
from hub.services.body_checker import BodyChecker
from hub.services.file_changes import FileChange
from hub.services.operators import change_of
from hub.services.preparing import BodyCheck, Preparation
from hub.services.stamping import clean, serials_of, stamp_change, stamp_new, stamps_of
from hub.services.violations import Checked, raise_violations
from hub.services.written import is_forced
from stores.computing import OperatorChange
from stores.errors import InvalidEntity, InvalidQuery, NotFound, StaleRevision, Violation
from stores.field import Field
from stores.limits import MOST_VIOLATIONS, EntityLimits, nodes_of
from stores.operators import Operators
from stores.protocol import Delete, Find, Insert, Revisions, Update, Upsert
from stores.query import And, Equal
from stores.records import Entity, is_id
from stores.turns import Turn


@dataclass(frozen=True, slots=True)
class Replacement:
    """The checked fields of a body that replaces an entity. `unknown` are hidden and read-only fields that the body
    does not mention, and serial numbers: they keep their values. `before` is the entity where the checks had to look at
    it."""

    fields: Entity
    unknown: frozenset[str]
    before: Entity | None = None


class EntityWrites:
    """Prepares writes. `limits` are the bounds of each entity."""

    def __init__(self, bodies: BodyChecker, limits: EntityLimits) -> None:
        self._bodies = bodies
        self._limits = limits

    def creating(self, principal: Principal, view: View, body: Entity, branch: Sequence[str]) -> Preparation[Insert]:
        """Prepare a new entity. `branch` is the chain of the principal's group."""
        new = yield from self._bodies.new_body(view.definition, body)
        raise_violations(new.violations)
        return inserts_of(view, [stamp_new(new.fields, principal, branch)])[0]

    def upserting(
        self,
        principal: Principal,
        view: View,
        path: str,
        body: Entity,
        branch: Sequence[str],
        compute: OperatorChange | None = None,
    ) -> Preparation[Upsert]:
        """Prepare a new entity, or the change of the one with the same value at `path`. `view` is that for PATCH."""
        check_upsert_path(view, path)
        new = yield from self._bodies.new_body(view.definition, body)
        raise_violations(new.mistakes)
        changes = yield from self._bodies.upsert_change(view.definition, body)
        made = stamp_new(new.fields, principal, branch)
        return upsert_of(principal, view, path, made, changes, new.missing, compute)

    def changing(
        self,
        principal: Principal,
        view: View,
        id: str,
        body: Entity,
        revs: Revisions | None,
        compute: OperatorChange | None = None,
    ) -> Preparation[Update]:
        """Prepare the change of an entity."""
        fields = yield from self.changed_fields(principal, view, id, body)
        return change_to(principal, view, id, fields, revs, compute)

    def changed_at_once(self, view: View, id: str, body: Entity) -> Entity | None:
        """Return what `changed_fields` returns, without a preparation, which most changes do not need. None if bodies
        of the store may take long to check, or if this one breaks a rule."""
        definition = view.definition
        if definition.checked_at_once < inf:
            return None
        cleaned, violations = clean(body, self._bodies.limits_of(definition), checked_id(id))
        fields, more = definition.check_changes(cleaned)
        return None if violations or more else fields

    def changed_fields(self, principal: Principal, view: View, id: str, body: Entity) -> Preparation[Entity]:
        """Return the checked fields of a body that changes an entity."""
        definition = view.definition
        cleaned, violations = clean(body, self._bodies.limits_of(definition), checked_id(id))
        fields, more = yield BodyCheck(definition, definition.check_changes, cleaned)
        if violations or more:
            check = self._bodies.check_of_parts(definition, definition.check_changes)
            mistakes = Checked(view, cleaned, violations + more, check)
            before = yield from self._present(principal, id, mistakes)
            kept = mistakes.kept(before)
            # Do not write unchanged invalid fields: a concurrent writer may be correcting them.
            fields = {name: value for name, value in fields.items() if name not in kept}
        changed: Entity = fields
        return changed

    def replacing(
        self, principal: Principal, view: View, id: str, body: Entity, revs: Revisions | None
    ) -> Preparation[Update]:
        """Prepare the replacement of an entity. If it depends on the entity as it is, the update is bound to the
        entity's revision. Raises NotFound and StaleRevision then."""
        made = yield from self.replaced_fields(principal, view, id, body)
        fields, reader, before = made.fields, reader_of(principal, view), made.before
        definition = view.definition
        if made.unknown and before is None:
            before = yield from self._find(view, id)
            if before is None:
                raise NotFound(f"no {view.store}/{id}")
        forced = is_forced(reader, fields.keys() - made.unknown)
        if before is not None:
            fields = fields | {name: before[name] for name in made.unknown if name in before}
            revs = revision_of(before, revs)
        stamps = stamps_of(definition)
        return Update(view.store, id, stamp_change(fields), view.where, revs, True, forced, stamps=stamps)

    def replaced_fields(self, principal: Principal, view: View, id: str, body: Entity) -> Preparation[Replacement]:
        """Return the checked fields of a body that replaces an entity, except system fields and hidden fields that it
        does not mention."""
        definition = view.definition
        cleaned, violations = clean(body, self._bodies.limits_of(definition), checked_id(id))
        fields, more = yield BodyCheck(definition, definition.check_new, cleaned)
        # Unknown to the caller, or not the caller's to set: they stay as they are.
        unknown = ((view.hidden_fields | view.readonly) - cleaned.keys()) | definition.serial_names
        violations += [v for v in more if v.field not in unknown]
        if not violations:
            return Replacement(fields, unknown)
        check = self._bodies.check_of_parts(definition, definition.check_new, unknown)
        mistakes = Checked(view, cleaned, violations, check)
        before = yield from self._present(principal, id, mistakes)
        return Replacement(fields | mistakes.kept(before), unknown, before)

    def computing(self, view: View, operators: Operators) -> OperatorChange | None:
        """Return what the operators of a body compute, None without operators. Raises InvalidEntity."""
        return change_of(view, operators, self._limits) if operators else None

    def check_values(self, body: Entity) -> None:
        """Raise InvalidEntity for a body with more values than an entity may have, as parsers of bodies do."""
        if nodes_of(body) > self._limits.nodes:
            raise InvalidEntity([Violation("body", "too_many", str(self._limits.nodes))]).at("max_entity_nodes")

    @staticmethod
    def deleting(view: View, id: str, revs: Revisions | None) -> Delete:
        return Delete(view.store, checked_id(id), view.where, revs)

    def _present(self, principal: Principal, id: str, mistakes: Checked) -> Preparation[Entity]:
        """Return the entity, whose fields the body may send back. Raises InvalidEntity if the caller may not read
        it."""
        if reader_of(principal, mistakes.view) is None:
            raise_violations(mistakes.violations)
        found = yield from self._find(mistakes.view, id)
        if found is None:
            raise InvalidEntity(mistakes.violations[:MOST_VIOLATIONS])
        return found

    @staticmethod
    def _find(view: View, id: str) -> Preparation[Entity | None]:
        found = yield Find(view.store, And((view.where, Equal(("_id",), id))), 1)
        return found[0] if found else None


def change_to(
    principal: Principal, view: View, id: str, fields: Entity, revs: Revisions | None, compute: OperatorChange | None
) -> Update:
    forced = is_forced(reader_of(principal, view), fields, compute)
    fields, stamps = stamp_change(fields), stamps_of(view.definition)
    return Update(view.store, id, fields, view.where, revs, forced=forced, compute=compute, stamps=stamps)


def file_field(view: View, name: str) -> Field:
    """Return a field of files. Raises NotFound."""
    field = view.definition.file_fields.get(name)
    if field is None:
        raise NotFound(f"{view.store} has no field {name!r} of files")
    return field


def files_to(principal: Principal, view: View, id: str, change: FileChange, revs: Revisions | None) -> Update:
    forced, stamps = is_forced(reader_of(principal, view), change.names), stamps_of(view.definition)
    fields = stamp_change({})
    return Update(view.store, checked_id(id), fields, view.where, revs, forced=forced, compute=change, stamps=stamps)


def inserts_of(view: View, entities: Sequence[Entity]) -> list[Insert]:
    store, serials, stamps = view.store, serials_of(view.definition), stamps_of(view.definition)
    return [Insert(store, entity, serials, stamps) for entity in entities]


def upsert_of(
    principal: Principal,
    view: View,
    path: str,
    entity: Entity,
    changes: Entity,
    missing: tuple[Violation, ...],
    compute: OperatorChange | None = None,
) -> Upsert:
    forced = is_forced(reader_of(principal, view), changes, compute)
    serials, stamps = serials_of(view.definition), stamps_of(view.definition)
    return Upsert(view.store, path, entity, changes, view.where, forced, missing, serials, compute, stamps)


async def upserts_of(
    principal: Principal,
    view: View,
    path: str,
    entities: Sequence[Entity],
    changes: Sequence[Entity],
    missing: Sequence[tuple[Violation, ...]],
    computes: Sequence[OperatorChange | None],
) -> list[Upsert]:
    """Return the upserts of an array, and let other tasks run in between."""
    writes: list[Upsert] = []
    turn = Turn()
    for entity, change, lacks, compute in zip(entities, changes, missing, computes, strict=True):
        writes.append(upsert_of(principal, view, path, entity, change, lacks, compute))
        if turn.is_over:
            await turn.pass_on()
    return writes


def check_upsert_path(view: View, path: str, *, keeps_serials: bool = False) -> None:
    """Raise InvalidQuery if entities of the store cannot be upserted by this path. With `keeps_serials`, bodies may
    have serial numbers."""
    if path in view.definition.serial_names:
        if keeps_serials:
            return
        raise InvalidQuery("upsert", f"{path!r} is assigned by the hub: an upsert by it needs keep=serials")
    if path in view.definition.stamp_names:
        raise InvalidQuery("upsert", f"{path!r} is assigned by the hub")
    if path not in view.definition.upsert_paths or path.split(".")[0] in view.hidden:
        raise InvalidQuery("upsert", f"{path!r} is not a unique field of {view.store}")


def revision_of(before: Entity, revs: Revisions | None) -> frozenset[int]:
    """Return the revision of the entity. Raises StaleRevision if it is not in `revs`."""
    rev: int = before["_rev"]
    if revs is not None and rev not in revs:
        raise StaleRevision(rev)
    return frozenset({rev})


def checked_id(id: str) -> str:
    """Return the id. Raises NotFound if it is malformed."""
    if not is_id(id):
        raise NotFound(f"{id!r} is not an id")
    return id
