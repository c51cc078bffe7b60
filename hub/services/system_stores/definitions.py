"""Hooks of the store `stores`. A definition and its storage are created, changed and deleted together. A change of a
definition must not hide, reveal or invalidate the data of entities."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeGuard

from auth.policy import authorize
from auth.principal import Principal
from hub.services.credentials import refuse
from hub.services.data_steps import beginning, next_step, refuse_pending
from hub.services.definition_data import data_writes
from hub.services.entity_count import EntityCount
from hub.services.examination import check_hidden
from hub.services.existing_data import check_data
from hub.services.existing_references import check_references
from hub.services.listings.requirements import check_purpose
from hub.services.reference_defaults import check_defaults
from hub.services.registry import MOST_STORES, RESERVED, StoreRegistry
from hub.services.relation_definitions import (
    check_conditions,
    check_referring,
    check_targets,
    new_targets,
    no_others_refer,
    nothing_refers,
)
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from stores.data_changes import DataChange, DataOperations
from stores.data_definitions import MEMBER, is_in_steps, parse_data, step_size
from stores.definitions import PENDING, PURPOSE, parse_definition
from stores.errors import (
    DataConflict,
    DuplicateValue,
    InvalidEntity,
    NotAsExpected,
    NotFound,
    ParallelArrays,
    StoreError,
    StoreNotEmpty,
    Violation,
)
from stores.field import Field
from stores.field_definitions import TOLERATED
from stores.limits import MOST_VIOLATIONS
from stores.protocol import UNBOUNDED, Definitions, Engine, IdempotencyKey, Update, Write, Written
from stores.query import EVERYTHING, Equal, Query
from stores.records import SYSTEM_NUMBERS, Entity
from stores.schema import StoreDefinition
from stores.superseded import DEFINITIONS

log = logging.getLogger(__name__)

ASSIGNED: Final = frozenset({"retired", PENDING, PURPOSE})
"""Members of a definition that only the hub sets."""


class DefinitionHooks(StoreHooks):
    """`most_matches`: entities that a change of a definition may change."""

    hook_members = frozenset({MEMBER})

    def __init__(self, engine: Engine, registry: StoreRegistry, most_matches: int) -> None:
        super().__init__(engine, registry)
        self._most = most_matches

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        _refuse_purpose(body, {})
        entity = {name: value for name, value in entity.items() if name not in ASSIGNED}
        definition = parse_definition(entity)
        if definition.name in RESERVED:
            raise refuse("name", "This name is reserved.")
        if self._is_defined(definition.name):
            raise DuplicateValue("name")
        if self.registry.is_full():
            raise refuse("name", f"There are {MOST_STORES} stores already, as many as the hub takes.").at("MOST_STORES")
        check_parts(None, self.registry.with_keys(definition))
        check_conditions(self.registry, definition)
        if not definition.relations:
            return Prepared(entity)
        others = await _defined_beside(shared)
        targets = check_targets(self.registry, None, definition, others)
        await check_defaults(self.engine, self.registry, None, definition, DataOperations({}))
        return Prepared(entity, [*targets])

    def _is_defined(self, name: str) -> bool:
        try:
            self.registry.get(name)
        except NotFound:
            return False
        return True

    async def commit_creation(
        self, principal: Principal, entities: Sequence[Entity], writes: Sequence[Write], key: IdempotencyKey | None
    ) -> list[Written]:
        definitions = [*map(parse_definition, entities)]
        try:
            return await self.engine.define(*definitions, writes=writes, by=principal.user_id, key=key)
        except StoreError as error:
            await self._look_again(error)
            for definition in definitions:  # another request may have created a store of this name meanwhile
                await self._put_right(definition.name)
            raise

    async def created(self) -> None:
        await self.registry.refresh()

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        _refuse_purpose(body, before)
        data = body.get(MEMBER)
        if data is not None:
            authorize(principal, self.registry.get(before["name"]), "PATCH")
        if (size := step_size(data)) is not None:
            return await next_step(self.engine, before, body, size)
        refuse_pending(before)
        old = parse_definition(before)
        wanted = parse_definition({**before, **fields, "retired": None})
        retired = retired_by(old, wanted)
        fields = {name: value for name, value in fields.items() if name not in ASSIGNED}
        if retired != old.retired:
            fields["retired"] = [*retired]
        definition = parse_definition({**before, **fields})
        if definition.name != before["name"]:
            raise refuse("name", "A store cannot be renamed.")
        check_parts(self.registry.with_keys(old), self.registry.with_keys(definition))
        check_purpose(self.registry.all(), old, definition)
        check_referring(self.registry, old, definition)
        targets = check_targets(self.registry, old, definition)
        if (definition.compounds, definition.relations) != (old.compounds, old.relations):
            check_conditions(self.registry, definition)
        change = DataChange(parse_data(data, old, definition), definition)
        await check_defaults(self.engine, self.registry, old, definition, change.operations)
        targets += no_others_refer(self.registry, old, definition, change.names.difference(change.operations.fill))
        in_steps = is_in_steps(data) and bool(change.operations)
        if not in_steps:
            check_hidden(old, change.operations)
        most = UNBOUNDED if in_steps else self._most
        rechecks = await check_data(self.engine, old, definition, change, most)
        rechecks += await check_references(self.engine, old, definition, change)
        writes = await data_writes(self.engine, self.registry, old, definition, change, most, in_steps=in_steps)
        if in_steps:
            fields[PENDING] = await beginning(self.engine, definition.name, change)
        # The conditions first: they are about entities as others leave them.
        return Prepared(fields, [*rechecks, *targets, *writes])

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        return [nothing_refers(self.registry, before["name"])]

    async def commit_change(
        self, before: Entity, after: Entity, writes: Sequence[Write], by: str | None, definition: StoreDefinition
    ) -> list[Written]:
        old = parse_definition(before)
        try:
            return await self._define(old, parse_definition(after), writes, by)
        except StoreError as error:
            await self._look_again(error)
            await self._put_right(old.name)
            raise

    async def _look_again(self, error: StoreError) -> None:
        """Read the definitions before the next attempt, if another process may have changed one of them."""
        if isinstance(error, NotAsExpected):
            with suppress(StoreError):
                await self.registry.refresh()

    async def _put_right(self, store: str) -> None:
        """Apply the stored definition again. On storage without transactions, the indexes may belong to a definition
        that was not stored."""
        try:
            for entity in await self.engine.entities("stores", Query(Equal(("name",), store), limit=1)):
                await self.engine.define(parse_definition(entity))
        except StoreError as error:
            log.warning("the indexes of %s may not be what its definition says: %s", store, error)

    async def _define(
        self, old: StoreDefinition, new: StoreDefinition, writes: Sequence[Write], by: str | None
    ) -> list[Written]:
        targets = new_targets(old, new)
        writes = [replace(write, targets=targets) if _is_change(write) else write for write in writes]
        try:
            return await self.engine.define(new, writes=writes, by=by)
        except DuplicateValue as error:
            where = next((index.where for index in new.compounds if index.name == error.key), EVERYTHING)
            entities = EntityCount(*await self.engine.count_duplicates(old.name, *error.fields, where=where))
            if not entities.count:
                raise
            raise DataConflict(shared_values(error.fields, entities)) from error
        except ParallelArrays as error:
            # An entity that has changed since `check_data`, on storage without transactions.
            raise NotAsExpected from error

    async def commit_deletion(
        self, before: Entity, writes: Sequence[Write], by: str | None, definition: Definitions
    ) -> list[Written]:
        try:
            return await self.engine.drop(before["name"], writes, by)
        except StoreNotEmpty:
            raise
        except StoreError:
            # Storage without transactions may already be closed although the store is still defined.
            self.registry.restore_later(before["name"])
            raise

    async def changed(self) -> None:
        await self.registry.refresh()

    async def deleted(self, entity: Entity) -> None:
        await self.registry.refresh()


def _refuse_purpose(body: Entity, before: Entity) -> None:
    """Raise InvalidEntity for a body with another purpose of the store than it has: only the hub gives it one."""
    if PURPOSE in body and (body[PURPOSE] or None) != before.get(PURPOSE):
        raise refuse(PURPOSE, "Only the hub sets it.")


def _is_change(write: Write) -> TypeGuard[Update]:
    """Return whether the write changes a definition."""
    return isinstance(write, Update) and write.store == DEFINITIONS


def shared_values(fields: Sequence[str], entities: EntityCount) -> dict[str, str]:
    """Return the text for each field of a unique index with which entities conflict."""
    if len(fields) == 1:
        return {fields[0]: entities.saying("share", "a value of it with another.")}
    return dict.fromkeys(fields, entities.saying("share", f"values of {', '.join(fields)} with another."))


async def _defined_beside(shared: SharedReads) -> Mapping[str, StoreDefinition | None]:
    """Return the definitions that one request creates, by their names: they may refer to each other. The value is None
    for one that is refused later."""

    async def parsed() -> dict[str, StoreDefinition | None]:
        found: dict[str, StoreDefinition | None] = {}
        for entity in shared.entities:
            name = entity.get("name")
            try:
                found[str(name)] = parse_definition(entity)
            except InvalidEntity:
                found[str(name)] = None
        return found

    return await shared.once("definitions", parsed)


def retired_by(old: StoreDefinition, new: StoreDefinition) -> tuple[str, ...]:
    """Return the names of former hidden fields, which stay hidden although the definition no longer has them."""
    return tuple(name for name in dict.fromkeys([*old.retired, *sorted(old.hidden_fields)]) if name not in new.by_id)


def check_parts(old: StoreDefinition | None, new: StoreDefinition) -> None:
    """Refuse definitions that would search `_id`, reveal values of hidden fields (by search, or by uniqueness, which
    allows guesses), have settings without an effect, or name paths at which no entity has a value, or no text to
    search.

    Entries that an older hub allowed in `old` may stay: they are ignored.
    """
    had = {} if old is None else _refused_parts(old)
    found = {location: text for location, text in _refused_parts(new).items() if location not in had}
    known = frozenset() if old is None else frozenset((part, path) for part, path, _, _ in _idle_paths(old))
    for part, path, location, text in _idle_paths(new):
        if (part, path) not in known:
            found.setdefault(location, text)
    if found:
        raise InvalidEntity(
            [Violation(location, "invalid", text) for location, text in found.items()][:MOST_VIOLATIONS]
        )


def _idle_paths(definition: StoreDefinition) -> Iterator[tuple[str, str, str, str]]:
    """Yield (part of the definition, path, location, reason) of paths at which no entity has a value, or no text to
    search."""
    for location, path in definition.named_paths:
        part = location.partition(".")[0]
        if end := definition.dead_end(path.split(".")):
            yield part, path, location, f"{end.reason}."
        elif part == "search" and (type := _type_without_text(definition, path)):
            yield part, path, location, f"Must not be {path}, which is not text: its type is {type}."


def _type_without_text(definition: StoreDefinition, path: str) -> str:
    """Return the type of the values at a path if none of them can be text; otherwise an empty text."""
    if path in SYSTEM_NUMBERS:
        return "a number"
    field = definition.field_at(path.split("."))
    return "" if field is None or field.may_hold_text else field.typed.type


def _refused_parts(definition: StoreDefinition) -> dict[str, str]:
    """Return the parts of the definition that a new one must not have: {location: reason}."""
    found: dict[str, str] = {}
    for location, field, is_hidden in _all_fields(definition.fields):
        if is_hidden and field.search:
            found[f"{location}.search"] = f"The hidden field {field.id} cannot be searched."
        if is_hidden and field.unique:
            found[f"{location}.unique"] = (
                f"The hidden field {field.id} cannot be unique: refusals would tell its values."
            )
        for name in TOLERATED:
            if getattr(field, name) and name not in field.kind.takes:
                found[f"{location}.{name}"] = f"{field.type} takes no {name}."
    for name, paths in (("search", definition.search), ("unique", definition.unique)):
        for i, path in enumerate(paths):
            if path.split(".", 1)[0] in definition.hidden:
                found[f"{name}.{i}"] = f"{path} is hidden."
    for index in definition.compounds:
        if index.unique:
            found |= {
                f"{index.location}.{location}": f"{'.'.join(path)} is hidden."
                for location, path in index.locations()
                if path[0] in definition.hidden
            }
    if "_id" in definition.search:
        found[f"search.{definition.search.index('_id')}"] = "Must not be _id, which is not text."
    return found


def _all_fields(fields: Sequence[Field], above: str = "", is_hidden: bool = False) -> Iterator[tuple[str, Field, bool]]:
    """Yield (location in the definition, field, whether it is hidden) of the fields and of those inside of objects."""
    for i, field in enumerate(fields):
        location, hides = f"{above}fields.{i}", is_hidden or field.hidden
        yield location, field, hides
        yield from _all_fields(field.fields, f"{location}.", hides)
