"""Batches: writes of single entities that are done together, all or none, as if each had been sent alone.

A batch is one procedure of one commit: each write is prepared, checked and made within it, after those before, so that
it may depend on them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

from auth.errors import AuthError, Explained
from auth.policy import reader_of
from auth.principal import Principal
from auth.system_stores import SYSTEM_STORES
from auth.view import View
from hub.http.errors import HubError, RequestFailed
from hub.services.batch_answers import Answers, ReferenceResolver
from hub.services.data_steps import check_writable
from hub.services.entities import ONE_BY_ONE, EntityService
from hub.services.operators import checks_of
from hub.services.preparing import LoopShare, Preparation, TooMuchForLoop, is_on_loop, within_commit
from hub.services.registry import StoreRegistry
from hub.services.repetitions import as_seen_now
from hub.services.retrying import against_current_definition
from hub.services.stamping import stamps_of
from hub.services.written import Shown, shown_texts, text_of
from stores.bounds import Limit
from stores.errors import DataChanging, InvalidQuery, StorageFull, StoreError, Unavailable
from stores.parse_operators import parse_change
from stores.paths import value_at
from stores.protocol import (
    Delete,
    Engine,
    EntityKey,
    IdempotencyKey,
    Insert,
    Procedure,
    Revisions,
    Step,
    Steps,
    Update,
    Upsert,
    Written,
    do,
    pack,
    unpack,
)
from stores.records import Entity, is_id
from stores.schema import StoreDefinition
from stores.threads import in_thread

MOST_REQUESTS: Annotated[int, Limit("batch", "requests", "400")] = 500

MOST_BATCH_BYTES: Annotated[int, Limit("batch", "bytes of entities, beyond those of its body", "400")] = 67_108_864
"""Bytes of the entities that the requests of a batch make, change or delete, as far as they exceed its body: its answer
holds each of them whole. References and defaults make large entities of small bodies."""

LIGHT_REQUESTS: Final = 20
LIGHT_BYTES: Final = 65_536
"""A batch of more requests, or of more bytes, is done in threads."""

END_OF_REVISIONS: Final = 10**18
"""Revisions that a request names are lower, as in an If-Match header: MongoDB has no integers beyond 64 bits."""

_SHOWN_AT_ONCE: Final = 262_144
"""Bytes of entities of which the answers are made on the event loop."""

Method = Literal["POST", "PATCH", "PUT", "DELETE"]
METHODS: tuple[Method, ...] = ("POST", "PATCH", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch. `refers`: its body or `id` has references; `upsert`: the unique path of an upsert."""

    method: Method
    store: str
    id: str = ""
    body: Entity | None = None
    upsert: str = ""
    revs: Revisions | None = None
    refers: bool = False

    @property
    def rights(self) -> tuple[Method, ...]:
        """The methods that it needs. The write is bound to what the last one allows."""
        return ("POST", "PATCH") if self.upsert else (self.method,)

    @property
    def key(self) -> EntityKey | None:
        """The key of the entity that it changes, as far as it is known before the requests before it are done."""
        if is_id(self.id):
            return self.store, "_id", self.id
        value = value_at(self.body, self.upsert) if self.upsert and self.body else None
        is_key = isinstance(value, str | int) and not isinstance(value, bool)  # True would equal 1
        return (self.store, self.upsert, value) if is_key else None


class BatchService:
    def __init__(self, engine: Engine, registry: StoreRegistry, entities: EntityService) -> None:
        self._engine = engine
        self.registry = registry
        self._entities = entities

    @against_current_definition
    async def run(
        self, principal: Principal, requests: Sequence[BatchRequest], size: int, key: IdempotencyKey | None
    ) -> list[tuple[bytes, int]]:
        """Carry out the requests, all or none; return the JSON texts and revisions of their entities. `size`: bytes of
        the requests. Raises RequestFailed for the first request that fails."""
        batch = _Batch(self._entities, principal, requests, size)
        batch.authorize(self.registry)
        if key is not None and (earlier := await self._engine.outcome(key)) is not None:
            return await shown_texts(await as_seen_now(self._engine, await batch.outcomes(earlier[0])))
        with self._entities.group_paths.stamping():
            batch.branch = await self._entities.group_paths.branch_of(principal)
            written = await self._commit(batch, principal, key)
        return await shown_texts(await batch.outcomes(written))

    async def _commit(self, batch: _Batch, principal: Principal, key: IdempotencyKey | None) -> Written:
        """Carry out the batch, on the event loop if it turns out to be light."""
        relied_on = self._entities.references.relied_on(batch.definitions, batch.deletes_from)
        if batch.may_be_light:
            with suppress(TooMuchForLoop):
                [written] = await self._engine.commit([batch.procedure(bulk=False)], principal.user_id, key, relied_on)
                return written
        [written] = await self._engine.commit([batch.procedure(bulk=True)], principal.user_id, key, relied_on)
        return written


class _Batch:
    """The requests of one batch, of `size` bytes, with what their caller may see and do."""

    def __init__(
        self, entities: EntityService, principal: Principal, requests: Sequence[BatchRequest], size: int
    ) -> None:
        self._entities = entities
        self._principal = principal
        self._requests = requests
        self._size = size
        self._views: list[View] = []
        self._refusal: Exception | None = None
        """Why the request after those in `_views` is not allowed."""
        self.branch: Sequence[str] = ()

    def authorize(self, registry: StoreRegistry) -> None:
        """Check the caller's rights, up to the first request that is not allowed. Raises RequestFailed if that is the
        first of all; otherwise one before it may fail for another reason."""
        for index, request in enumerate(self._requests):
            try:
                self._views.append(self._authorized(registry, request))
            except (StoreError, AuthError) as error:
                self._refusal = error.with_traceback(None)  # which would keep this object, and the bodies
                if index == 0:
                    raise RequestFailed(index, error) from error
                return

    def _authorized(self, registry: StoreRegistry, request: BatchRequest) -> View:
        """Return the caller's View for the request's last method. Raises the errors of `StoreRegistry.authorized`, and
        Explained for a system store."""
        if request.store in SYSTEM_STORES:
            raise Explained("path", ONE_BY_ONE.format(name=request.store))
        return [registry.authorized(self._principal, request.store, method) for method in request.rights][-1]

    @property
    def definitions(self) -> list[StoreDefinition]:
        return [*{view.store: view.definition for view in self._views}.values()]

    @property
    def _stores(self) -> set[str]:
        return {request.store for request in self._requests}

    @property
    def deletes_from(self) -> set[str]:
        return {request.store for request in self._requests if request.method == "DELETE"}

    @property
    def may_be_light(self) -> bool:
        return len(self._requests) <= LIGHT_REQUESTS and self._size <= LIGHT_BYTES

    def procedure(self, *, bulk: bool) -> Procedure:
        """Return the procedure of the batch. Its outcome contains those of all requests. Without `bulk`, it raises
        TooMuchForLoop if it takes long."""
        steps = partial(self._steps, bounded=not bulk)
        keys = tuple(key for request in self._requests if (key := request.key) is not None)
        stamps = {stamp: None for definition in self.definitions for stamp in stamps_of(definition)}
        stamps |= dict.fromkeys(self._entities.references.stamps_of_consequences(self.deletes_from))
        stamps |= dict.fromkeys(self._entities.references.stamps_of_rules(self._stores))
        return Procedure(self._requests[0].store, steps, bulk, keys, self._size, tuple(stamps))

    def _steps(self, *, bounded: bool) -> Steps:
        share = LoopShare(bounded=bounded and is_on_loop())
        answers = Answers(share)
        outcomes: list[Written] = []
        met = 0
        for index, request in enumerate(self._requests):
            try:
                if index == len(self._views) and self._refusal is not None:
                    raise self._refusal
                written = yield from self._write(index, request, answers)
                met += len(written.entity)
                if met > MOST_BATCH_BYTES + self._size:
                    raise _too_large()
                share.spend(len(written.entity), _SHOWN_AT_ONCE)
                answers.add(text_of(reader_of(self._principal, self._views[index]), written), written.rev)
            except (Unavailable, StorageFull, TooMuchForLoop) as error:
                if isinstance(error, DataChanging):
                    raise RequestFailed(index, error) from error
                raise  # not the fault of the request
            except (StoreError, AuthError, HubError) as error:
                raise RequestFailed(index, error) from error
            outcomes.append(written)
        return Written(pack(outcomes), 0, sum(each.count for each in outcomes))

    def _write(self, index: int, request: BatchRequest, answers: Answers) -> Generator[Step, Any, Written]:
        view = self._views[index]
        check_writable(view.definition, mends=self._principal.admin and request.method in ("PATCH", "DELETE"))
        write = yield from self._prepared(request, view, ReferenceResolver(answers, index), answers.share)
        guarded = self._entities.references.guard(self._principal, [write])
        for procedure in guarded.before:
            yield from procedure.steps()
        [own] = guarded.own
        assert isinstance(own, Insert | Update | Upsert | Delete), "a write of one entity"
        written = yield from do(own)
        for procedure in guarded.after:
            yield from procedure.steps()
        return written

    def _prepared(
        self, request: BatchRequest, view: View, resolver: ReferenceResolver, share: LoopShare
    ) -> Generator[Step, Any, Insert | Update | Upsert | Delete]:
        id = resolver.text(request.id) if request.refers else request.id
        body = request.body or {}
        if request.refers and request.body:
            body = resolver.body(body)
            if not isinstance(body, dict):
                raise InvalidQuery("body", "The body must be a JSON object.")
            self._entities.writes.check_values(body)
        if request.method == "DELETE":
            return self._entities.writes.deleting(view, id, request.revs)
        return (yield from within_commit(self._writing(request, view, id, body, share), share))

    def _writing(
        self, request: BatchRequest, view: View, id: str, body: Entity, share: LoopShare
    ) -> Preparation[Insert | Update | Upsert]:
        writes, principal = self._entities.writes, self._principal
        if request.method == "PUT":
            return (yield from writes.replacing(principal, view, id, body, request.revs))
        if request.method == "POST" and not request.upsert:
            return (yield from writes.creating(principal, view, body, self.branch))
        fields, operators = parse_change(body)
        share.spend(checks_of(operators), view.definition.checked_at_once)
        compute = writes.computing(view, operators)
        if compute is not None:
            share.spend(compute.size, LIGHT_BYTES)
        if request.upsert:
            return (yield from writes.upserting(principal, view, request.upsert, fields, self.branch, compute))
        return (yield from writes.changing(principal, view, id, fields, request.revs, compute))

    async def outcomes(self, written: Written) -> list[Shown]:
        """Return the outcomes of the requests, with the views by which their entities are shown. Raises RequestFailed
        if a request would not be allowed any more."""
        if self._refusal is not None:
            raise RequestFailed(len(self._views), self._refusal)
        is_long = len(written.entity) > LIGHT_BYTES
        outcomes = await in_thread(unpack, written.entity) if is_long else unpack(written.entity)
        return [(reader_of(self._principal, view), each) for view, each in zip(self._views, outcomes, strict=True)]


def _too_large() -> InvalidQuery:
    text = f"The entities of the requests exceed the body by more than {MOST_BATCH_BYTES} bytes: send fewer."
    return InvalidQuery("path", text).at("MOST_BATCH_BYTES")
