"""Entities of every store: create, read, list, change, delete, share. For every dialect, the service applies the
caller's View, the schema, system fields and the store's hooks; the engine does the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from auth.errors import Explained
from auth.policy import reader_of
from auth.positions import bind
from auth.principal import Principal
from auth.resolver import Resolver
from auth.view import View
from hub.services.body_checker import BodyChecker
from hub.services.credentials import refuse
from hub.services.data_steps import check_writable
from hub.services.entity_history import visible_history
from hub.services.entity_writes import (
    EntityWrites,
    change_to,
    check_upsert_path,
    checked_id,
    file_field,
    files_to,
    inserts_of,
    revision_of,
    upserts_of,
)
from hub.services.file_changes import FileChange
from hub.services.file_keeper import FileKeeper
from hub.services.group_paths import GroupPathKeeper
from hub.services.id_lists import distinct_ids
from hub.services.operators import computing, computing_all
from hub.services.preparing import prepare
from hub.services.reference_keeper import ReferenceKeeper, deletes_from
from hub.services.registry import StoreRegistry
from hub.services.repetitions import as_seen_now
from hub.services.retrying import against_current_definition, retry_stale
from hub.services.sharing import share_entity
from hub.services.stamping import stamp_change, stamps_of
from hub.services.system_stores.base import StoreHooks
from hub.services.system_writes import ASSIGNED, SystemStoreWrites
from hub.services.violations import indexed_errors, raise_violations
from hub.services.written import is_forced, shown_texts, text_of, texts_of
from stores.aggregation import Aggregated, Aggregation
from stores.errors import DuplicateValue, InvalidQuery, NotFound, RefusedEntity, Violation
from stores.field import Field
from stores.limits import EntityLimits
from stores.long_lists import LongLists
from stores.operators import NO_OPERATORS, Operators
from stores.protocol import (
    MOST_HISTORY_ENTRIES,
    DeleteMany,
    Engine,
    IdempotencyKey,
    Listing,
    Revisions,
    Summary,
    Update,
    UpdateMany,
    Write,
    Written,
)
from stores.query import WHOLE, Filter, Projection, Query
from stores.records import SYSTEM_FIELDS, Entity, History
from stores.schema import StoreDefinition

ONE_BY_ONE: Final = "{name} is a system store: change its entities one by one."
"""Refusal of bulk changes, upserts and batches, with the store's name."""


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """`items`: entities in one array. `matches`: entities that one bulk change may affect."""

    items: int = 10_000
    matches: int = 100_000
    entity: EntityLimits = field(default_factory=EntityLimits)


class EntityService:
    def __init__(
        self,
        engine: Engine,
        registry: StoreRegistry,
        resolver: Resolver,
        hooks: dict[str, StoreHooks],
        limits: WriteLimits,
        long_lists: LongLists,
    ) -> None:
        self._engine = engine
        self.registry = registry
        self._hooks = hooks
        self._limits = limits
        self._long_lists = long_lists
        self.group_paths = GroupPathKeeper(engine, registry)
        self._bodies = BodyChecker(limits.entity, self.group_paths)
        self.writes = EntityWrites(self._bodies, limits.entity)
        self.references = ReferenceKeeper(registry, limits.matches, [FileKeeper(registry)])
        self._system = SystemStoreWrites(engine, resolver, hooks, self.group_paths, self.references)

    # Reading. A projection selects the fields to show.

    async def get(self, principal: Principal, store: str, id: str, projection: Projection) -> tuple[bytes, int]:
        """Return JSON text and revision. Raises NotFound, for an invisible entity as well."""
        view = self.registry.authorized(principal, store, "GET")
        found = await self._engine.get(store, checked_id(id), view.where, view.shown(projection))
        if found is None:
            raise NotFound(f"no {store}/{id}")
        return found

    async def find(self, principal: Principal, store: str, query: Query, projection: Projection = WHOLE) -> Listing:
        view = self._view(principal, store, "GET")
        # `dataclasses.replace` would take several times as long.
        query = Query(view.narrowed(query.where), query.sort, query.offset, query.limit, query.after)
        slot = self._long_lists.slot(principal.user_id)
        try:
            listing = await self._engine.find(store, query, view.shown(projection), slot.enter)
        except BaseException:
            slot.leave()
            raise
        body = listing.body if isinstance(listing.body, bytes) else slot.released_after(listing.body)
        return Listing(bind(listing.position, view.digest), listing.next, body)

    async def summarize(self, principal: Principal, store: str, where: Filter, projection: Projection) -> Summary:
        view = self._view(principal, store, "GET")
        summary = await self._engine.summarize(store, view.narrowed(where), view.shown(projection))
        return replace(summary, position=bind(summary.position, view.digest))

    async def aggregate(self, principal: Principal, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
        """Return the groups of the visible entities that match `where`."""
        view = self._view(principal, store, "GET")
        found = await self._engine.aggregate(store, view.narrowed(where), aggregation)
        return replace(found, position=bind(found.position, view.digest))

    async def history(
        self, principal: Principal, store: str, id: str, after: str | None = None, limit: int = MOST_HISTORY_ENTRIES
    ) -> History:
        """Return a page of the entity's audit trail.

        It contains the entries after which the entity was visible under the current rules, without fields that are
        hidden now. Raises NotFound for an entity that is invisible, or was when it was deleted.
        """
        view = self._view(principal, store, "GET")
        return await visible_history(self._engine, self.registry, view, id, after, limit)

    # Writing one or several.

    @against_current_definition
    async def create(
        self,
        principal: Principal,
        store: str,
        bodies: Sequence[Entity],
        key: IdempotencyKey | None = None,
        *,
        indexed: bool = False,
        keeps_serials: bool = False,
    ) -> list[tuple[bytes, int]]:
        """Insert all entities or none; return their JSON texts and revisions. With `indexed`, errors contain the
        position of the invalid body: ``3.price``. With `keeps_serials`, entities keep the serial numbers in bodies."""
        view = self._allowed(principal, store, "POST")
        definition = view.definition
        if key is not None and (earlier := await self._earlier(principal, view, len(bodies), key)) is not None:
            return earlier
        check_writable(definition)
        with indexed_errors(indexed), self.group_paths.stamping():
            shape = definition.keeping_serials if keeps_serials else definition
            entities = await self._bodies.new_entities(principal, shape, bodies, indexed)
            if definition.system:
                return await self._system.create(principal, view, bodies, entities, key, indexed=indexed)
            written = await self._commit(principal, inserts_of(view, entities), key, definition, indexed=indexed)
            return await texts_of(reader_of(principal, view), written)

    @against_current_definition
    async def upsert(
        self,
        principal: Principal,
        store: str,
        path: str,
        bodies: Sequence[Entity],
        key: IdempotencyKey | None = None,
        *,
        operators: Sequence[Operators] = (),
        indexed: bool = False,
        keeps_serials: bool = False,
    ) -> list[tuple[bytes, int]]:
        """Insert each body, or update the visible entity with the same value at `path`, which must be unique. All or
        none. The `operators` of each body belong to the update: they do nothing to an entity that is inserted. With
        `keeps_serials`, an entity that is inserted keeps the serial numbers in its body."""
        self._allowed(principal, store, "POST")
        view = self._allowed(principal, store, "PATCH")  # it may insert, and it may change
        definition = view.definition
        self._not_system(definition)
        check_upsert_path(view, path, keeps_serials=keeps_serials)
        if key is not None and (earlier := await self._earlier(principal, view, len(bodies), key)) is not None:
            return earlier
        check_writable(definition)
        with indexed_errors(indexed), self.group_paths.stamping():
            missing: list[tuple[Violation, ...]] = []
            shape = definition.keeping_serials if keeps_serials else definition
            entities = await self._bodies.new_entities(principal, shape, bodies, indexed, missing)
            changes = await self._bodies.upsert_changes(definition, bodies)
            computes = await computing_all(view, operators, self._limits.entity, len(bodies), indexed)
            writes = await upserts_of(principal, view, path, entities, changes, missing, computes)
            return await texts_of(
                reader_of(principal, view), await self._commit(principal, writes, key, definition, indexed=indexed)
            )

    @against_current_definition
    async def change(
        self,
        principal: Principal,
        store: str,
        id: str,
        body: Entity,
        revs: Revisions | None,
        operators: Operators = NO_OPERATORS,
    ) -> tuple[bytes, int]:
        """Merge `body` into the entity, and apply the operators to it."""
        view = self._view(principal, store, "PATCH", mends=principal.admin)
        compute = await computing(view, operators, self._limits.entity) if operators else None
        if view.definition.system:
            preparation = self.writes.changed_fields(principal, view, id, self._entity_part(store, body))
            fields = await prepare(preparation, self._engine)
            return await self._system.change(principal, view, id, body, fields, revs, compute)
        checked = self.writes.changed_at_once(view, id, body)
        if checked is None:
            checked = await prepare(self.writes.changed_fields(principal, view, id, body), self._engine)
        update = change_to(principal, view, id, checked, revs, compute)
        [written] = await self._commit(principal, [update], None, view.definition)
        return text_of(reader_of(principal, view), written), written.rev

    @against_current_definition
    async def replace(
        self, principal: Principal, store: str, id: str, body: Entity, revs: Revisions | None
    ) -> tuple[bytes, int]:
        """Replace the entity, except system fields and hidden fields that `body` does not mention."""
        view = self._view(principal, store, "PUT")

        async def attempt() -> tuple[bytes, int]:
            if view.definition.system:
                return await self._replace_system(principal, view, id, body, revs)
            update = await prepare(self.writes.replacing(principal, view, id, body, revs), self._engine)
            return await self._update(principal, view, update)

        return await retry_stale(revs, attempt)

    @against_current_definition
    async def delete(self, principal: Principal, store: str, id: str, revs: Revisions | None) -> tuple[bytes, int]:
        """Delete the entity; return its last state."""
        view = self._view(principal, store, "DELETE", mends=principal.admin)
        delete = self.writes.deleting(view, id, revs)
        if view.definition.system:
            return await self._system.delete(principal, view, id, revs)
        [written] = await self._commit(principal, [delete], None, view.definition)
        return text_of(reader_of(principal, view), written), written.rev

    @against_current_definition
    async def change_files(
        self,
        principal: Principal,
        store: str,
        id: str,
        field: str,
        make: Callable[[Field], FileChange],
        revs: Revisions | None,
        more: Sequence[Write] = (),
    ) -> tuple[bytes, int]:
        """Make the change of files in a field, together with other writes of the hub. Raises NotFound if the store has
        no such field of files, and the errors of a change."""
        view = self._view(principal, store, "PATCH")
        compute = make(file_field(view, field))
        update = files_to(principal, view, id, compute, revs)
        [written, *_] = await self._commit(principal, [update, *more], None, view.definition)
        return text_of(reader_of(principal, view), written), written.rev

    @against_current_definition
    async def create_with_file(
        self, principal: Principal, store: str, id: str, body: Entity, file: Entity, more: Sequence[Write]
    ) -> tuple[bytes, int]:
        """Insert an entity with this id and with a file in one of its fields, together with other writes of the hub.
        Raises the errors of `create`."""
        view = self._view(principal, store, "POST")
        with self.group_paths.stamping():
            [made] = await self._bodies.new_entities(principal, view.definition, [body], indexed=False)
            writes = [*inserts_of(view, [{**made, "_id": id, **file}]), *more]
            written = await self._commit(principal, writes, None, view.definition)
            return text_of(reader_of(principal, view), written[0]), written[0].rev

    async def share(
        self, principal: Principal, store: str, id: str, users: object, revs: Revisions | None = None
    ) -> tuple[bytes, int]:
        """Set the entity's access list. Only its owner and administrators may. Deleted users can stay in the list, so
        that every list that was shown can be sent back."""
        view = self._view(principal, store, "PUT")
        if view.definition.system and not self._hooks[store].shared:
            raise Explained("access", f"Entities of {store} cannot be shared.")
        return await share_entity(self._engine, principal, view, checked_id(id), self._user_ids(users), revs)

    # Bulk changes.

    @against_current_definition
    async def change_matches(
        self, principal: Principal, store: str, where: Filter, body: Entity, operators: Operators = NO_OPERATORS
    ) -> int | None:
        """Return the number of changed entities; None for a writer whose scopes do not allow reading them."""
        view = self._view(principal, store, "PATCH")
        self._not_system(view.definition)
        raise_violations([Violation(name, "system") for name in body if name in SYSTEM_FIELDS])
        fields = await self._bodies.bulk_changes(view.definition, body)
        compute = await computing(view, operators, self._limits.entity)
        reader, where = reader_of(principal, view), view.narrowed(where)
        forced = is_forced(reader, fields, compute)
        stamps = stamps_of(view.definition)
        write = UpdateMany(store, where, stamp_change(fields), self._limits.matches, forced, compute, stamps)
        return await self._count(principal, reader, write, view.definition)

    @against_current_definition
    async def delete_matches(self, principal: Principal, store: str, where: Filter) -> int | None:
        """Return the number of deleted entities; None for a writer whose scopes do not allow reading them."""
        view = self._view(principal, store, "DELETE")
        self._not_system(view.definition)
        write = DeleteMany(store, view.narrowed(where), self._limits.matches)
        return await self._count(principal, reader_of(principal, view), write, view.definition)

    # Helpers.

    def _view(self, principal: Principal, store: str, method: str, *, mends: bool = False) -> View:
        """Return the principal's View. Raises NotFound and Forbidden, and DataChanging for a write that must wait,
        unless it `mends`."""
        view = self._allowed(principal, store, method)
        if method != "GET":
            check_writable(view.definition, mends=mends)
        return view

    def _allowed(self, principal: Principal, store: str, method: str) -> View:
        """Return the principal's View, also where a write must wait: it may have been made before."""
        return self.registry.authorized(principal, store, method)

    async def _earlier(
        self, principal: Principal, view: View, count: int, key: IdempotencyKey
    ) -> list[tuple[bytes, int]] | None:
        """Return the answer to a request that was carried out before, None if it was not. It is looked up before the
        bodies are checked: what they depend on may have changed since, first of all by that request itself."""
        system = view.definition.system
        if system:
            self._system.check_key(view.store)
        written = await self._engine.outcome(key)
        if written is None:
            return None
        if system:
            await self._hooks[view.store].created()  # what was created is in force when it is answered
        reader = reader_of(principal, view)
        made = [(reader, each) for each in _made(written)[:count]]
        return await shown_texts(await as_seen_now(self._engine, made))

    def _entity_part(self, store: str, body: Entity) -> Entity:
        """Return the body without the members that only the store's hooks use."""
        mine = self._hooks[store].hook_members if store in self._hooks else None
        return {n: v for n, v in body.items() if n not in mine} if mine else body

    async def _commit(
        self,
        principal: Principal,
        writes: Sequence[Write],
        key: IdempotencyKey | None = None,
        definition: StoreDefinition | None = None,
        *,
        indexed: bool = False,
    ) -> list[Written]:
        """Commit writes with the procedures that keep references true, and return their outcomes. With a `key`, all are
        creations or upserts."""
        if not self.references.concern_references(writes):
            written = await self._engine.commit(writes, principal.user_id, key, definition)
            return written if key is None else _made(written)
        guarded = await self.references.guarded(principal, writes, indexed=indexed)
        try:
            relied_on = definition and self.references.relied_on([definition], deletes_from(writes))
            written = await self._engine.commit(guarded.writes, principal.user_id, key, relied_on)
        except (DuplicateValue, RefusedEntity) as error:
            error.index -= len(guarded.before)  # the position among the writes, not in the commit
            raise
        return guarded.outcomes(written) if key is None else _made(written)

    async def _update(self, principal: Principal, view: View, write: Update) -> tuple[bytes, int]:
        [written] = await self._commit(principal, [write], None, view.definition)
        return text_of(reader_of(principal, view), written), written.rev

    async def _count(
        self, principal: Principal, reader: View | None, write: Write, definition: StoreDefinition
    ) -> int | None:
        [written] = await self._commit(principal, [write], None, definition)
        return None if reader is None else written.count

    async def _replace_system(
        self, principal: Principal, view: View, id: str, body: Entity, revs: Revisions | None
    ) -> tuple[bytes, int]:
        replaced = self.writes.replaced_fields(principal, view, id, self._entity_part(view.store, body))
        made = await prepare(replaced, self._engine)
        if made.before is not None:
            revs = revision_of(made.before, revs)
        kept = view.hidden | view.definition.serial_names | ASSIGNED
        emptied = view.definition.by_id.keys() - kept - made.fields.keys()
        return await self._system.change(principal, view, id, body, made.fields, revs, emptied=emptied)

    def _user_ids(self, users: object) -> list[str]:
        if not isinstance(users, list) or len(users) > self._limits.items:
            raise refuse("access", "Must be a list of user ids.")
        return distinct_ids("users", "access", users)

    @staticmethod
    def _not_system(definition: StoreDefinition) -> None:
        if definition.system:
            raise InvalidQuery("store", ONE_BY_ONE.format(name=definition.name))


def _made(written: Sequence[Written]) -> list[Written]:
    """Return the outcomes of creations and upserts, without those of checks and of what goes with them. The commit that
    is stored for an idempotency key may have others than this one would have, if it used another definition.
    """
    return [each for each in written if each.entity]
