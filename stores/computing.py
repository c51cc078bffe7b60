"""Changes that are computed from the entity as it is in the commit: operators, prepared for a store and checked.

Engines call a `Compute` in the step that writes its result, so no other write comes in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from stores.errors import InvalidEntity, Violation
from stores.field import Field
from stores.fields.base import Rejected, add_numbers
from stores.limits import MOST_VIOLATIONS, EntityLimits, check_document, nodes_of
from stores.operators import LISTING, SETTING, Operation, Operator, Operators, apply, kind_of
from stores.records import SYSTEM_FIELDS, Entity, Json, same
from stores.schema import StoreDefinition

COSTLY_BYTES: Final = 700
"""Bytes that a value counts for whose check takes long: 0.3 ms."""


@dataclass(frozen=True, slots=True)
class Computed:
    """The top-level fields that a computed change alters, with their new values, and those that it removes."""

    fields: Entity
    removed: frozenset[str] = frozenset()


class Compute(Protocol):
    """A change that depends on the entity. Called in any thread, once or several times for one write; it must not
    alter its argument."""

    @property
    def size(self) -> int:
        """The bytes of what it computes with, about: work takes time in proportion to it and to the entity. A value
        whose check takes long counts as many bytes, also one that the entity may have already."""

    @property
    def names(self) -> frozenset[str]:
        """The top-level fields that it may change. It depends on no others."""

    def __call__(self, entity: Entity) -> Computed:
        """Return what the change makes of an entity. Raises InvalidEntity; then nothing is written."""


def effective(changes: Entity, compute: Compute | None, entity: Entity) -> tuple[Entity, frozenset[str]]:
    """Return the top-level fields that a write sets in an entity, and those that it removes. `changes` are the fields
    that it sets whatever the entity."""
    if compute is None:
        return changes, _NONE
    computed = compute({**entity, **changes})
    return {**changes, **computed.fields}, computed.removed


_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class OperatorChange:
    """The `Compute` of operators. `operators` are those that `prepared` returns.

    The result is checked against the definition, as far as the operators alter it, and against `limits.nodes`.
    `prefix` is put before the fields of errors: the location of the body in an array (``3.``)."""

    operators: Operators
    definition: StoreDefinition
    limits: EntityLimits = field(default_factory=EntityLimits)
    prefix: str = ""

    @property
    def size(self) -> int:
        fields = (self.definition.by_id.get(name) for name in self.operators.names)
        costly = sum(field.most_costly for field in fields if field is not None)
        return self.operators.size + costly * COSTLY_BYTES

    @property
    def names(self) -> frozenset[str]:
        """The top-level fields that it may change."""
        return self.operators.names

    def __call__(self, entity: Entity) -> Computed:
        try:
            return self._computed(entity)
        except InvalidEntity as error:
            if not self.prefix:
                raise
            raise InvalidEntity(placed(error.violations, self.prefix)).at(error.limit_name) from error

    def _computed(self, entity: Entity) -> Computed:
        after = apply(self.operators, entity, self.definition)
        # By name, so that both engines store new fields in the same order.
        names = sorted(self.operators.names)
        fields = {n: after[n] for n in names if n in after and not (n in entity and same(after[n], entity[n]))}
        removed = frozenset(n for n in names if n in entity and n not in after)
        if not fields and not removed:
            return Computed({})
        checked, violations = self.definition.check_changes(fields | dict.fromkeys(removed))
        if violations:
            raise InvalidEntity(violations[:MOST_VIOLATIONS])
        self._check_growth(entity, after, fields)
        return Computed({name: checked[name] for name in fields}, removed)

    def _check_growth(self, entity: Entity, after: Entity, fields: Entity) -> None:
        """Raise InvalidEntity if the change leads to more values than an entity may have."""
        most = self.limits.nodes
        if any(isinstance(value, dict | list) for value in fields.values()):
            nodes = nodes_of(after)
            if nodes > most and nodes > nodes_of(entity):
                raise InvalidEntity([Violation("entity", "too_many", str(most))]).at("max_entity_nodes")


def placed(violations: tuple[Violation, ...] | list[Violation], prefix: str) -> list[Violation]:
    """Return the violations with a prefix before their fields."""
    return [replace(violation, field=prefix + violation.field) for violation in violations]


def prepared(
    operators: Operators, definition: StoreDefinition, hidden: frozenset[str], limits: EntityLimits
) -> tuple[Operators, list[Violation]]:
    """Return the operators with canonical values, and the rules that they break whatever the entity. `hidden` are the
    fields that are never shown to the caller."""
    limits = limits.with_filters(definition.filter_fields)
    violations: list[Violation] = []
    operations: list[Operation] = []
    for operation in operators.operations:
        found = list(_violations(operation, definition, hidden, limits))
        if found:
            violations += found
            if len(violations) >= MOST_VIOLATIONS:
                break
        else:
            operations.append(_canonical(operation, definition))
    return replace(operators, operations=tuple(operations)), violations[:MOST_VIOLATIONS]


def _violations(
    it: Operation, definition: StoreDefinition, hidden: frozenset[str], limits: EntityLimits
) -> Iterator[Violation]:
    top = it.path[0]
    bad = check_document(_holding(it), limits)
    if bad:
        yield from bad
    elif top in SYSTEM_FIELDS or top in definition.serial_names or top == "success":
        yield Violation(it.location, "system")
    elif top.startswith("_"):
        yield Violation(it.location, "reserved")
    elif top not in definition.by_id and (not definition.open or top in definition.hidden):
        yield Violation(it.location, "unknown")
    elif top in hidden and not (it.operator in SETTING and len(it.path) == 1):
        yield Violation(it.location, "invalid", _HIDDEN)
    elif end := definition.dead_end(it.path):
        yield Violation(it.location, "invalid", f"{end.reason}.")
    else:
        yield from _misfits(it, definition)


_HIDDEN: Final = "This field is hidden: $set and $unset of the whole field are the only operators for it."


def _misfits(it: Operation, definition: StoreDefinition) -> Iterator[Violation]:
    """Yield why the value does not fit the operator and the field."""
    try:
        match it.operator:
            case Operator.INC:
                _amount(it, definition.field_at(it.path))
            case Operator.MIN | Operator.MAX if kind_of(it.value) not in ("a number", "text"):
                raise Rejected("type", "a number or text")
    except Rejected as refusal:
        rule, detail = refusal.args
        yield Violation(it.location, rule, detail)
    if it.operator in SETTING and len(it.path) == 1:
        yield from definition.check_changes({it.path[0]: it.value})[1]


def _amount(it: Operation, field: Field | None) -> Json:
    """Return the canonical amount of an `$inc`. Raises Rejected."""
    return add_numbers(0, it.value) if field is None else field.add(0, it.value)


def _holding(it: Operation) -> Entity:
    """Return the smallest entity that has the value of the operation at its path."""
    value: Any = it.value
    for segment in reversed(it.path):
        value = {segment: value}
    made: Entity = value
    return made


def _canonical(it: Operation, definition: StoreDefinition) -> Operation:
    """Return the operation with its value as the field stores it, so that it is compared with what is stored."""
    field = definition.field_at(it.path)
    if field is None or it.value is None:
        return it
    if it.operator is Operator.INC:
        return replace(it, value=_amount(it, field))
    if it.operator in LISTING:
        assert isinstance(it.value, list)
        return replace(it, value=[_element(field, value) for value in it.value])
    if it.operator is Operator.PULL:
        # Like the value of a filter, without the defaults of members that it lacks: it is not written.
        return replace(it, value=field.canonical(it.value))
    return replace(it, value=_as_stored(field, it.value))


def _element(field: Field, value: Json) -> Json:
    """Return an element of a field's list as it is stored."""
    stored = _as_stored(field, [value])
    return stored[0] if isinstance(stored, list) and len(stored) == 1 else value


def _as_stored(field: Field, value: Json) -> Json:
    """Return the canonical form of a value. A value that the field refuses stays as it is: whether it comes to be
    stored depends on the entity, and the check of the result decides."""
    try:
        return field.check(value, field.id)
    except InvalidEntity:
        return value
