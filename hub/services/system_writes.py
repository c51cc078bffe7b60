"""Writes to system stores. Their hooks depend on the current entity, and each write is in force before it is
answered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import orjson

from auth.policy import reader_of
from auth.principal import Principal
from auth.resolver import Resolver
from auth.view import View
from hub.http.errors import BadRequest
from hub.services.group_paths import GroupPathKeeper
from hub.services.move_notes import note_of
from hub.services.operators import as_fields
from hub.services.reference_keeper import ReferenceKeeper
from hub.services.retrying import retry_on_current, retry_unexpected
from hub.services.shared_reads import SharedReads
from hub.services.stamping import serials_of, stamp_change
from hub.services.system_stores.base import Prepared, StoreHooks
from hub.services.violations import of_item
from hub.services.written import text_of, texts_of
from stores.computing import OperatorChange
from stores.errors import DuplicateValue
from stores.protocol import Delete, Engine, Expect, IdempotencyKey, Insert, Revisions, Update, Write, Written
from stores.records import Entity
from stores.turns import Turn

ASSIGNED = frozenset({"user", "prefix", "digest", "last_used", "address", "agent"})
"""Fields of system stores that the hub assigns. A replacement keeps them."""


class SystemStoreWrites:
    """Creates, changes and deletes entities of system stores, as JSON text and revision. The caller has checked scopes
    and schema."""

    def __init__(
        self,
        engine: Engine,
        resolver: Resolver,
        hooks: dict[str, StoreHooks],
        group_paths: GroupPathKeeper,
        references: ReferenceKeeper,
    ) -> None:
        self._engine = engine
        self._resolver = resolver
        self._hooks = hooks
        self._group_paths = group_paths
        self._references = references

    def check_key(self, store: str) -> None:
        """Raise BadRequest if creations in the store cannot be repeated by an idempotency key."""
        if not self._hooks[store].repeatable:
            raise BadRequest("Idempotency-Key", "A secret is not kept, so this answer cannot be repeated.")

    async def create(
        self,
        principal: Principal,
        view: View,
        bodies: Sequence[Entity],
        entities: list[Entity],
        key: IdempotencyKey | None,
        *,
        indexed: bool = False,
    ) -> list[tuple[bytes, int]]:
        """Create entities. With `indexed`, the hooks' errors contain the position of the invalid body."""
        store, hooks = view.store, self._hooks[view.store]

        async def attempt() -> tuple[list[Prepared], list[Written]]:
            await hooks.check_number(principal, entities)
            prepared = await prepare_all(hooks, principal, bodies, entities, indexed=indexed)
            also = await _accompanying(prepared)
            await self._resolver.confirm(principal)
            serials = serials_of(view.definition)
            writes: list[Write] = [Insert(store, p.fields, serials) for p in prepared]
            writes += also
            with _named_as_sent(hooks):
                made = [p.fields for p in prepared]
                written = await hooks.commit_creation(principal, made, writes, key)
            return prepared, written[: len(prepared)]

        prepared, written = await retry_unexpected(attempt)
        await hooks.created()
        return await _revealed(await texts_of(reader_of(principal, view), written), prepared)

    async def change(
        self,
        principal: Principal,
        view: View,
        id: str,
        body: Entity,
        fields: Entity,
        revs: Revisions | None,
        compute: OperatorChange | None = None,
        *,
        emptied: Collection[str] = (),
    ) -> tuple[bytes, int]:
        """Merge `fields` into the entity, and empty those of its members that are in `emptied`."""
        store, hooks = view.store, self._hooks[view.store]

        note = note_of(id)

        async def attempt(before: Entity) -> tuple[tuple[bytes, int], bool | None, bool]:
            with self._group_paths.stamping() as stamping:
                # As if their results had been sent: the hooks judge values. The write requires this revision.
                computed = as_fields(compute, before, fields)
                sent = body | computed
                # Not those without a value: null in place of a missing member would be a change.
                empty = {name: None for name in emptied if before.get(name) is not None}
                allowed = view.writable(stamp_change(empty | fields | computed), sent, before)
                prepared = await hooks.change(principal, before, sent, allowed)
                await self._resolver.confirm(principal)
                moves = hooks.moves(prepared)
                update = Update(store, id, prepared.fields, view.where, frozenset({before["_rev"]}))
                guarded = self._references.guard(principal, [update])
                writes = [*guarded.writes, *prepared.more_writes, *([note] if moves else ())]
                moving = self._group_paths.moving(id, note.entity["_id"]) if moves else nullcontext()
                with _named_as_sent(hooks), moving:
                    after = before | prepared.fields
                    committed = await hooks.commit_change(before, after, writes, principal.user_id, view.definition)
            [written] = guarded.outcomes(committed)
            answer = text_of(reader_of(principal, view), written), written.rev
            forgets = _has_effect(before, written, prepared) and hooks.alters_principals(prepared)
            return answer, stamping.overlapped if moves else None, forgets

        answer, overlapped, forgets = await retry_on_current(self._engine, store, id, view.where, revs, attempt)
        # In force before the answer is sent, not when the feed brings the change: the next request must see it.
        if forgets:
            self._resolver.forget_entity(store, id)
        await hooks.changed()
        if overlapped is not None:
            await self._group_paths.finish_move(id, principal.user_id, note.entity["_id"], overlapped=overlapped)
        return answer

    async def delete(self, principal: Principal, view: View, id: str, revs: Revisions | None) -> tuple[bytes, int]:
        store, hooks = view.store, self._hooks[view.store]

        async def attempt(before: Entity) -> tuple[Entity, Written]:
            also = await hooks.delete(principal, before)
            await self._resolver.confirm(principal)
            delete = Delete(store, id, view.where, frozenset({before["_rev"]}))
            guarded = self._references.guard(principal, [delete])
            writes = [*guarded.writes, *also]
            relied_on = self._references.relied_on([view.definition], [store])
            written = await hooks.commit_deletion(before, writes, principal.user_id, relied_on)
            return before, guarded.outcomes(written)[0]

        before, written = await retry_on_current(self._engine, store, id, view.where, revs, attempt)
        self._resolver.forget_entity(store, id)
        await hooks.deleted(before)
        return text_of(reader_of(principal, view), written), written.rev


def _has_effect(before: Entity, written: Written, prepared: Prepared) -> bool:
    """Return whether the write altered the entity, or wrote anything beside it."""
    return written.rev != before["_rev"] or any(not isinstance(write, Expect) for write in prepared.more_writes)


async def prepare_all(
    hooks: StoreHooks, principal: Principal, bodies: Sequence[Entity], entities: Sequence[Entity], *, indexed: bool
) -> list[Prepared]:
    """Run the hooks of each creation. On SQLite they read on the event loop, so other tasks run in between. With
    `indexed`, an error contains the position of its body."""
    prepared: list[Prepared] = []
    turn, shared = Turn(), SharedReads(entities)
    for body, entity in zip(bodies, entities, strict=True):
        with of_item(len(prepared) if indexed else None):
            prepared.append(await hooks.create(principal, body, entity, shared))
        if turn.is_over:
            await turn.pass_on()
    return prepared


async def _accompanying(prepared: Sequence[Prepared]) -> list[Write]:
    """Return the writes that accompany the creations: first the changes, then the expectations, each once."""
    changes: list[Write] = []
    expected: dict[Expect, None] = {}
    turn = Turn()
    for each in {id(p.more_writes): p.more_writes for p in prepared}.values():  # thousands may share one list
        changes += [write for write in each if not isinstance(write, Expect)]
        expected |= dict.fromkeys(write for write in each if isinstance(write, Expect))
        if turn.is_over:
            await turn.pass_on()
    return [*changes, *expected]


async def _revealed(texts: list[tuple[bytes, int]], prepared: Sequence[Prepared]) -> list[tuple[bytes, int]]:
    """Return the entities with the members that only their creator sees, once."""
    if not any(p.reveal for p in prepared):
        return texts
    shown: list[tuple[bytes, int]] = []
    turn = Turn()
    for (text, rev), p in zip(texts, prepared, strict=True):
        shown.append((orjson.dumps(orjson.loads(text) | p.reveal), rev))
        if turn.is_over:
            await turn.pass_on()
    return shown


@contextmanager
def _named_as_sent(hooks: StoreHooks) -> Iterator[None]:
    """Report a duplicate value under the field that the caller sent, not under the field derived from it."""
    try:
        yield
    except DuplicateValue as error:
        raise DuplicateValue(hooks.sent_as.get(error.field, error.field), error.index) from error
