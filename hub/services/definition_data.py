"""The writes that change the entities of a store together with its definition, and that begin its serial numbers and
stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hub.services.examination import too_large, too_long, too_many
from hub.services.registry import StoreRegistry
from hub.services.stamping import serials_of, stamp_change, stamps_of
from stores.data_changes import NOTHING_TO_DO, DataChange, DataOperations
from stores.errors import ComputedTooLong, DataConflict, InvalidQuery, NotAsExpected, TooManyMatches
from stores.fields.references import LARGEST_START
from stores.fields.stamps import LARGEST_EXISTING_STAMP
from stores.presence import has_none, has_value
from stores.protocol import Engine, Procedure, Recheck, Serial, Stamp, Steps, UpdateMany, Write, do, find, take
from stores.query import Or
from stores.records import Change, Entity
from stores.reference_checks import NOTHING_WRITTEN, FieldChange, check_keys
from stores.relation import Relation
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of a serial field, or of stamps: the counter gives no number below `serial.start`, nor any that the
    `former` counter of the field has given."""

    serial: Serial | Stamp
    former: Serial | None = None


async def data_writes(
    engine: Engine,
    registry: StoreRegistry,
    old: StoreDefinition,
    new: StoreDefinition,
    change: DataChange,
    most: int,
    *,
    in_steps: bool,
) -> list[Write]:
    """Return the writes of a change of a definition that concern its entities, at most `most` of them. If they change
    `in_steps`, serial numbers and stamps alone begin. Raises DataConflict then for values that others may refer to."""
    operations = change.operations
    beginnings, rechecks = await _beginnings(engine, old, new, change)
    if not operations and not beginnings:
        return []
    keys = change.names.difference(operations.fill)  # nothing refers to a value that is not there
    named = [
        relation
        for relation in registry.referring(new.name)
        # References within the store follow the new name of a key.
        if relation.by in keys and not (relation.store == new.name and relation.by in operations.rename)
    ]
    if in_steps:
        if named:
            texts = {each.by: f"{each.store} refers to it: its values cannot change in steps." for each in named}
            raise DataConflict(texts)
        operations = NOTHING_TO_DO
    procedure = DataProcedure(new, operations, beginnings, named, most)
    return [*rechecks, Procedure(new.name, procedure.steps, bulk=bool(operations), stamps=stamps_of(new))]


@dataclass(frozen=True, slots=True)
class DataProcedure:
    """The steps that change the entities. `named` are relations of other entities that refer to fields which change."""

    definition: StoreDefinition
    operations: DataOperations
    beginnings: Sequence[Beginning]
    named: Sequence[Relation]
    most: int

    def steps(self) -> Steps:
        """Raises DataConflict for too many entities, and for values that others refer to."""
        try:
            return (yield from self._steps())
        except TooManyMatches as error:
            raise too_many(self.definition, self.operations, self.most) from error
        except InvalidQuery as error:
            if error.limit_name != "MOST_BULK_BYTES":
                raise
            raise too_large(self.definition, self.operations) from error
        except ComputedTooLong as error:
            raise too_long(self.definition, self.operations, error.seconds) from error

    def _steps(self) -> Steps:
        numbers: dict[str, Mapping[str, int]] = {}
        for beginning in self.beginnings:
            serial = beginning.serial
            if isinstance(serial, Stamp):
                yield from take(serial, 0)
                continue
            if beginning.former is not None:
                serial = replace(serial, start=max(serial.start, (yield from take(beginning.former, 0))))
            entities: list[Entity] = []
            if serial.field in self.operations.fill:
                where = has_none((serial.field,))
                entities = yield from find(self.definition.name, where, self.most + 1, (), in_order=True)
                if len(entities) > self.most:
                    raise TooManyMatches(self.most)
            first = yield from take(serial, len(entities))
            numbers[serial.field] = {entity["_id"]: first + index for index, entity in enumerate(entities)}
        if not self.operations:
            return NOTHING_WRITTEN
        change = DataChange(self.operations, self.definition, numbers)
        store, where = self.definition.name, change.concerned
        if self.named:
            yield from check_keys(FieldChange(store, where, {}, change, self.most + 1), self.named)
        stamps = stamps_of(self.definition)
        return (yield from do(UpdateMany(store, where, stamp_change({}), self.most, compute=change, stamps=stamps)))


async def _beginnings(
    engine: Engine, old: StoreDefinition, new: StoreDefinition, change: DataChange
) -> tuple[list[Beginning], list[Write]]:
    """Return the serial fields that are filled, and those that begin, stamps included, above all numbers that entities
    have, with the condition that none of them has got a greater one by the commit. Raises DataConflict."""
    serials, filled = serials_of(new), change.operations.fill
    going_on = [Beginning(each) for each in serials if each.field in old.serial_names and each.field in filled]
    wanted: list[Serial | Stamp] = [each for each in serials if each.field not in old.serial_names]
    wanted += [
        each
        for each in stamps_of(new)
        # Under another name they go on: the counter belongs to the definition.
        if change.operations.source_of(each.field) not in old.stamp_names
    ]
    if not wanted:
        return going_on, []
    since = await engine.feed.position()
    largest = {each.field: await _largest(engine, new.name, each.field, change) for each in wanted}
    mosts = {each.field: LARGEST_EXISTING_STAMP if isinstance(each, Stamp) else LARGEST_START for each in wanted}
    if beyond := {name: number for name, number in largest.items() if number > mosts[name]}:
        text = "An entity has the number {} in it, above which no others are left."
        raise DataConflict({name: text.format(number) for name, number in beyond.items()})

    def recheck(changes: Sequence[Change]) -> None:
        for each in changes:
            entity = each.after if each.store == new.name else None
            if entity is not None and any(_number(entity, n, change) > most for n, most in largest.items()):
                raise NotAsExpected

    former = {each.field: each for each in serials_of(old)}
    beginnings = [
        Beginning(
            replace(each, start=max(each.start, largest[each.field] + 1)),
            former.get(change.operations.sources.get(each.field, "")),
        )
        for each in wanted
    ]
    return [*going_on, *beginnings], [Recheck(new.name, since, recheck)]


async def _largest(engine: Engine, store: str, field: str, change: DataChange) -> int:
    """Return the largest number that an entity will have in the field, before it is filled; -1 if there is none."""
    numbers = [-1]

    def note(entity: Entity) -> bool:
        numbers[0] = max(numbers[0], _number(entity, field, change))
        return True

    await engine.count(store, Or(tuple(has_value((name,)) for name in _holders(field, change))), note)
    return numbers[0]


def _holders(field: str, change: DataChange) -> tuple[str, ...]:
    """Return the names at which entities hold the values of a field now: in an open store also the new one."""
    return tuple({change.operations.source_of(field), field})


def _number(entity: Entity, field: str, change: DataChange) -> int:
    if all(entity.get(name) is None for name in _holders(field, change)):
        return -1
    number = change.applied(entity).get(field)
    return number if isinstance(number, int) and not isinstance(number, bool) else -1
