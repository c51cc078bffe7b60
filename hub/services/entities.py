"""Entities of every store: create, read, list, change, delete, share. For every dialect, the service applies the
caller's View, the schema, system fields and the store's hooks; the engine does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from auth.errors import Explained
from auth.policy import authorize, reader_of
from auth.positions import bind
from auth.principal import Principal
from auth.resolver import Resolver
from auth.view import View
from hub.services import expectations as expect
from hub.services.body_checker import BodyChecker
from hub.services.credentials import refuse
from hub.services.group_paths import GroupPathKeeper
from hub.services.references import distinct_ids, missing_ids, unknown
from hub.services.registry import StoreRegistry
from hub.services.replacement import ASSIGNED, Replacement
from hub.services.retrying import against_current_definition, retry_on_current, retry_unexpected
from hub.services.stamping import clean, stamp_change
from hub.services.system_stores.base import StoreHooks
from hub.services.system_writes import SystemStoreWrites
from hub.services.violations import Checked, indexed_errors, raise_violations
from hub.services.written import is_forced, text_of, texts_of
from stores.errors import InvalidQuery, NotFound, Violation
from stores.limits import EntityLimits
from stores.long_lists import LongLists
from stores.matcher import compile_filter, matches
from stores.protocol import (
    MOST_HISTORY_ENTRIES,
    Delete,
    DeleteMany,
    Engine,
    IdempotencyKey,
    Insert,
    Listing,
    Revisions,
    Summary,
    Update,
    UpdateMany,
    Upsert,
    Write,
)
from stores.query import WHOLE, And, Equal, Filter, Projection, Query, leaves
from stores.records import SYSTEM_FIELDS, Entity, History, HistoryEntry, is_id
from stores.schema import StoreDefinition
from stores.trail import images
from stores.turns import Turn


@dataclass(frozen=True, slots=True)
class Bounds:
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
        bounds: Bounds,
        long_lists: LongLists,
    ) -> None:
        self._engine = engine
        self.registry = registry
        self._hooks = hooks
        self._bounds = bounds
        self._long_lists = long_lists
        self.group_paths = GroupPathKeeper(engine, registry)
        self._bodies = BodyChecker(bounds.entity, self.group_paths)
        self._system = SystemStoreWrites(engine, resolver, hooks, self.group_paths)

    # Reading. A projection selects the fields to show.

    async def get(self, principal: Principal, store: str, id: str, projection: Projection) -> tuple[bytes, int]:
        """Return JSON text and revision. Raises NotFound, for an invisible entity as well."""
        view = self._view(principal, store, "GET")
        found = await self._engine.get(store, _checked_id(id), view.where, view.shown(projection))
        if found is None:
            raise NotFound(f"no {store}/{id}")
        return found

    async def find(self, principal: Principal, store: str, query: Query, projection: Projection = WHOLE) -> Listing:
        view = self._view(principal, store, "GET")
        # Not `dataclasses.replace`, which takes several times as long.
        query = Query(view.narrowed(query.where), query.sort, query.offset, query.limit, query.after)
        place = self._long_lists.place(principal.user_id)
        try:
            listing = await self._engine.find(store, query, view.shown(projection), place.enter)
        except BaseException:
            place.leave()
            raise
        body = listing.body if isinstance(listing.body, bytes) else place.held_by(listing.body)
        return Listing(bind(listing.position, view.digest), listing.next, body)

    async def summarize(self, principal: Principal, store: str, where: Filter, projection: Projection) -> Summary:
        view = self._view(principal, store, "GET")
        summary = await self._engine.summarize(store, view.narrowed(where), view.shown(projection))
        return replace(summary, position=bind(summary.position, view.digest))

    async def history(
        self, principal: Principal, store: str, id: str, after: str | None = None, limit: int = MOST_HISTORY_ENTRIES
    ) -> History:
        """Return a page of the entity's audit trail.

        It contains the entries after which the entity was visible under the current rules, without fields that are
        hidden now. Raises NotFound for an entity that is invisible, or was when it was deleted.
        """
        view = self._view(principal, store, "GET")
        where = view.where
        present = await self._engine.entities(store, Query(And((where, Equal(("_id",), _checked_id(id)))), limit=1))
        needed = frozenset(leaf.path[0] for leaf in leaves(where))
        page = await self._engine.history(store, id, after, limit, needed)
        end = present[0] if present else page.final
        if end is None or not (present or (matches(where, end) and await self._is_of_this_life(store, id))):
            raise NotFound(f"no {store}/{id}")
        sees = compile_filter(where)
        shown: list[HistoryEntry] = []
        turn = Turn()
        for entry, image in images(page.entries, end | page.later, needed):
            if sees(image):
                shown.append(replace(entry, changed={n: c for n, c in entry.changed.items() if view.shows(n)}))
            if turn.is_over:
                await turn.pass_on()
        return replace(page, entries=shown[::-1])

    async def _is_of_this_life(self, store: str, id: str) -> bool:
        """Return whether a deleted entity belonged to the store's current definition, not to an earlier store of its
        name."""
        definition = self.registry.id_of(store)
        if definition is None:
            return True
        beginning = await self._engine.history("stores", definition, limit=1)
        if not beginning.entries or beginning.entries[0].op != "insert":
            return True  # the definition is older than the recorded history
        return bool((await self._engine.history(store, id, beginning.place, 1)).entries)

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
    ) -> list[tuple[bytes, int]]:
        """Insert all entities or none; return their JSON texts and revisions. With `indexed`, errors contain the
        position of the invalid body: ``3.price``."""
        view = self._view(principal, store, "POST")
        definition = view.definition
        if key is not None and (earlier := await self._earlier(principal, view, len(bodies), key)) is not None:
            return earlier
        with indexed_errors(indexed), self.group_paths.stamping():
            entities = await self._bodies.new_entities(principal, definition, bodies, indexed)
            if definition.system:
                return await self._system.create(principal, view, bodies, entities, key)
            writes = [Insert(store, entity) for entity in entities]
            written = await self._engine.commit(writes, principal.user_id, key, definition)
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
        indexed: bool = False,
    ) -> list[tuple[bytes, int]]:
        """Insert each body, or update the visible entity with the same value at `path`, which must be unique. All or
        none."""
        self._view(principal, store, "POST")
        view = self._view(principal, store, "PATCH")  # it may insert, and it may change
        definition, reader = view.definition, reader_of(principal, view)
        self._not_system(definition)
        if path not in definition.unique_paths or path.split(".")[0] in view.hidden:
            raise InvalidQuery("upsert", f"{path!r} is not a unique field of {store}")
        if key is not None and (earlier := await self._earlier(principal, view, len(bodies), key)) is not None:
            return earlier
        with indexed_errors(indexed), self.group_paths.stamping():
            missing: list[tuple[Violation, ...]] = []
            entities = await self._bodies.new_entities(principal, definition, bodies, indexed, missing)
            changes = await self._bodies.upsert_changes(definition, bodies)
            writes = [
                Upsert(store, path, e, c, view.where, is_forced(reader, c), m)
                for e, c, m in zip(entities, changes, missing, strict=True)
            ]
            return await texts_of(reader, await self._engine.commit(writes, principal.user_id, key, definition))

    @against_current_definition
    async def change(
        self, principal: Principal, store: str, id: str, body: Entity, revs: Revisions | None
    ) -> tuple[bytes, int]:
        """Merge `body` into the entity."""
        view = self._view(principal, store, "PATCH")
        cleaned, violations = clean(self._entity_part(store, body), self._bounds.entity, _checked_id(id))
        fields, more = view.definition.check_changes(cleaned)
        if violations or more:
            check = self._bodies.check_of_parts(view.definition.check_changes)
            checked = Checked(view, cleaned, violations + more, check)
            kept = await self._sent_back(principal, id, checked)
            # Do not write unchanged invalid fields: a concurrent writer may be correcting them.
            fields = {name: value for name, value in fields.items() if name not in kept}
        if view.definition.system:
            return await self._system.change(principal, view, id, body, fields, revs)
        reader = reader_of(principal, view)
        update = Update(store, id, stamp_change(fields), view.where, revs, forced=is_forced(reader, fields))
        return await self._update(principal, reader, update, view.definition)

    @against_current_definition
    async def replace(
        self, principal: Principal, store: str, id: str, body: Entity, revs: Revisions | None
    ) -> tuple[bytes, int]:
        """Replace the entity, except system fields and hidden fields that `body` does not mention."""
        view = self._view(principal, store, "PUT")
        cleaned, violations = clean(self._entity_part(store, body), self._bounds.entity, _checked_id(id))
        fields, more = view.definition.check_new(cleaned)
        unknown = view.hidden_fields - cleaned.keys()  # unknown to the caller: they stay as they are
        violations += [v for v in more if v.field not in unknown]
        replacement = Replacement(principal, view, id, body, fields, unknown)
        if not violations:
            return await self._replace(replacement, revs)
        check = self._bodies.check_of_parts(view.definition.check_new, unknown)
        checked = Checked(view, cleaned, violations, check)
        fields |= await self._sent_back(principal, id, checked)

        async def attempt(before: Entity) -> tuple[bytes, int]:
            checked.kept(before)  # fields that a concurrent writer has corrected must not be overwritten
            return await self._replace(replacement, frozenset({before["_rev"]}))

        return await retry_on_current(self._engine, store, id, view.where, revs, attempt)

    async def delete(self, principal: Principal, store: str, id: str, revs: Revisions | None) -> tuple[bytes, int]:
        """Delete the entity; return its last state."""
        view = self._view(principal, store, "DELETE")
        _checked_id(id)
        if view.definition.system:
            return await self._system.delete(principal, view, id, revs)
        [written] = await self._engine.commit([Delete(store, id, view.where, revs)], principal.user_id)
        return text_of(reader_of(principal, view), written), written.rev

    async def share(
        self, principal: Principal, store: str, id: str, users: object, revs: Revisions | None = None
    ) -> tuple[bytes, int]:
        """Set the entity's access list. Only its owner and administrators may. Deleted users can stay in the list, so
        that every list that was shown can be sent back."""
        view = self._view(principal, store, "PUT")
        if view.definition.system and not self._hooks[store].shared:
            raise Explained("access", f"Entities of {store} cannot be shared.")
        _checked_id(id)
        mine = view.where if principal.admin else view.narrowed(Equal(("owner",), principal.user_id))

        access = self._user_ids(users)

        async def attempt() -> tuple[bytes, int]:
            if await missing_ids(self._engine, "users", access):
                return await retry_on_current(self._engine, store, id, mine, revs, keep_missing)
            return await commit(revs, access)

        async def keep_missing(before: Entity) -> tuple[bytes, int]:
            missing = dict.fromkeys(await missing_ids(self._engine, "users", access))
            if added := missing.keys() - set(before.get("access") or ()):
                raise unknown("users", "access", min(added))
            return await commit(frozenset({before["_rev"]}), [user for user in access if user not in missing])

        async def commit(revs: Revisions | None, existing: list[str]) -> tuple[bytes, int]:
            update = Update(store, id, stamp_change({"access": access}), mine, revs)
            written = await self._engine.commit([update, *expect.users_exist(existing)], principal.user_id)
            return text_of(reader_of(principal, view), written[0]), written[0].rev

        try:
            return await retry_unexpected(attempt)
        except NotFound:
            if await self._engine.get(store, id, view.where) is None:
                raise
            raise Explained("access", "Only its owner and administrators can share an entity.") from None

    # Bulk changes.

    @against_current_definition
    async def change_matches(self, principal: Principal, store: str, where: Filter, body: Entity) -> int | None:
        """Return the number of changed entities; None for a writer whose scopes do not allow reading them."""
        view = self._view(principal, store, "PATCH")
        self._not_system(view.definition)
        raise_violations([Violation(name, "system") for name in body if name in SYSTEM_FIELDS])
        fields = self._bodies.bulk_changes(view.definition, body)
        reader, where = reader_of(principal, view), view.narrowed(where)
        write = UpdateMany(store, where, stamp_change(fields), self._bounds.matches, is_forced(reader, fields))
        return await self._count(principal, reader, write, view.definition)

    async def delete_matches(self, principal: Principal, store: str, where: Filter) -> int | None:
        """Return the number of deleted entities; None for a writer whose scopes do not allow reading them."""
        view = self._view(principal, store, "DELETE")
        self._not_system(view.definition)
        write = DeleteMany(store, view.narrowed(where), self._bounds.matches)
        return await self._count(principal, reader_of(principal, view), write)

    # Helpers.

    def _view(self, principal: Principal, store: str, method: str) -> View:
        """Return the principal's View. Raises NotFound and Forbidden."""
        return authorize(principal, self.registry.get(store), method)

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
        return await texts_of(reader_of(principal, view), written[:count])

    async def _sent_back(self, principal: Principal, id: str, checked: Checked) -> Entity:
        """Raise InvalidEntity for the violations, except in fields sent back unchanged; return those fields."""
        view = checked.view
        if reader_of(principal, view) is None:
            raise_violations(checked.violations)
        found = await self._engine.entities(view.store, Query(And((view.where, Equal(("_id",), id))), limit=1))
        if not found:
            raise_violations(checked.violations)
        return checked.kept(found[0])

    def _entity_part(self, store: str, body: Entity) -> Entity:
        """Return the body without the members that only the store's hooks use."""
        mine = self._hooks[store].hook_members if store in self._hooks else None
        return {n: v for n, v in body.items() if n not in mine} if mine else body

    async def _update(
        self, principal: Principal, reader: View | None, write: Update, definition: StoreDefinition
    ) -> tuple[bytes, int]:
        [written] = await self._engine.commit([write], principal.user_id, None, definition)
        return text_of(reader, written), written.rev

    async def _count(
        self, principal: Principal, reader: View | None, write: Write, definition: StoreDefinition | None = None
    ) -> int | None:
        [written] = await self._engine.commit([write], principal.user_id, None, definition)
        return None if reader is None else written.count

    async def _replace(self, it: Replacement, revs: Revisions | None) -> tuple[bytes, int]:
        principal, view, fields = it.principal, it.view, it.fields
        if view.definition.system:
            emptied = {n: None for n in view.definition.by_id if n not in view.hidden and n not in ASSIGNED}
            return await self._system.change(principal, view, it.id, it.body, emptied | fields, revs)
        if view.hidden_fields:
            return await self._replace_around_hidden(it, revs)
        reader = reader_of(principal, view)
        update = Update(view.store, it.id, stamp_change(fields), view.where, revs, True, is_forced(reader, fields))
        return await self._update(principal, reader, update, view.definition)

    async def _replace_around_hidden(self, it: Replacement, revs: Revisions | None) -> tuple[bytes, int]:
        store, where, reader = it.view.store, it.view.where, reader_of(it.principal, it.view)
        forced = is_forced(reader, it.fields.keys() - it.unknown)

        async def attempt(before: Entity) -> tuple[bytes, int]:
            kept = {n: before[n] for n in it.unknown if n in before}
            seen = frozenset({before["_rev"]})
            update = Update(store, it.id, stamp_change(it.fields | kept), where, seen, True, forced)
            return await self._update(it.principal, reader, update, it.view.definition)

        return await retry_on_current(self._engine, store, it.id, where, revs, attempt)

    def _user_ids(self, users: object) -> list[str]:
        if not isinstance(users, list) or len(users) > self._bounds.items:
            raise refuse("access", "Must be a list of user ids.")
        return distinct_ids("users", "access", users)

    @staticmethod
    def _not_system(definition: StoreDefinition) -> None:
        if definition.system:
            raise InvalidQuery("store", f"{definition.name} is administrative: change its entities one by one")


def _checked_id(id: str) -> str:
    """Return the id. Raises NotFound if it is malformed."""
    if not is_id(id):
        raise NotFound(f"{id!r} is not an id")
    return id
