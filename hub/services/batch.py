"""Batches: writes of single entities that are done together, all or none, as if each had been sent alone.

A batch is one procedure of one commit: each write is prepared, checked and made within it, after those before, so that
it may depend on them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from auth.errors import AuthError, Explained
from auth.policy import authorize, reader_of
from auth.principal import Principal
from auth.view import View
from hub.errors import HubError, RequestFailed
from hub.services.batch_answers import Answers, Resolver
from hub.services.data_steps import check_writable
from hub.services.entities import EntityService
from hub.services.preparing import within_commit
from hub.services.registry import StoreRegistry
from hub.services.retrying import against_current_definition
from hub.services.written import text_of
from stores.bounds import Limit
from stores.errors import InvalidQuery, StorageFull, StoreError, Unavailable
from stores.parse_operators import parse_change
from stores.protocol import (
    Delete,
    Engine,
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
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.threads import in_thread
from stores.turns import Turn

MOST_REQUESTS: Annotated[int, Limit("batch", "requests", "400")] = 500

MOST_BATCH_BYTES: Annotated[int, Limit("batch", "bytes of entities that it changes or deletes", "400")] = 67_108_864
"""Bytes of the entities that the requests of a batch change or delete: its answer holds each of them whole."""

LIGHT_REQUESTS: int = 20
LIGHT_BYTES: int = 65_536
"""A batch of more requests, or of more bytes, is done in threads."""

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
        batch = _Batch(self._entities, principal, requests)
        batch.authorize(self.registry)
        if key is not None and (earlier := await self._engine.outcome(key)) is not None:
            return await batch.answers(earlier[0])
        for definition in batch.definitions:
            check_writable(definition)
        with self._entities.group_paths.stamping():
            batch.branch = await self._entities.group_paths.branch_of(principal)
            bulk = len(requests) > LIGHT_REQUESTS or size > LIGHT_BYTES
            procedure = Procedure(requests[0].store, batch.steps, bulk)
            [written] = await self._engine.commit([procedure], principal.user_id, key, batch.definitions)
        return await batch.answers(written)


class _Batch:
    """The requests of one batch, with what their caller may see and do."""

    def __init__(self, entities: EntityService, principal: Principal, requests: Sequence[BatchRequest]) -> None:
        self._entities = entities
        self._principal = principal
        self._requests = requests
        self._views: list[View] = []
        self._refusal: Exception | None = None
        """Why the request after those in `_views` is not allowed."""
        self.branch: Sequence[str] = ()

    def authorize(self, registry: StoreRegistry) -> None:
        """Check the caller's rights, up to the first request that is not allowed. Raises RequestFailed if that is the
        first of all; otherwise one before it may fail for another reason."""
        for index, request in enumerate(self._requests):
            try:
                definition = registry.get(request.store)
                if definition.system:
                    raise Explained("path", f"{definition.name} is administrative: change its entities one by one.")
                for method in request.rights:
                    view = authorize(self._principal, definition, method)
            except (StoreError, AuthError) as error:
                self._refusal = error
                if index == 0:
                    raise RequestFailed(index, error) from error
                return
            self._views.append(view)

    @property
    def definitions(self) -> list[StoreDefinition]:
        return [*{view.store: view.definition for view in self._views}.values()]

    def steps(self) -> Steps:
        """The procedure of the batch. Its outcome stands for those of all requests."""
        answers = Answers()
        outcomes: list[Written] = []
        met = 0
        for index, request in enumerate(self._requests):
            try:
                if index == len(self._views) and self._refusal is not None:
                    raise self._refusal
                written = yield from self._write(index, request, answers)
                met += _met(request, written)
                if met > MOST_BATCH_BYTES:
                    raise _too_large()
                answers.add(text_of(reader_of(self._principal, self._views[index]), written))
            except (Unavailable, StorageFull):
                raise  # not the fault of the request
            except (StoreError, AuthError, HubError) as error:
                raise RequestFailed(index, error) from error
            outcomes.append(written)
        return Written(pack(outcomes), 0, sum(each.count for each in outcomes))

    def _write(self, index: int, request: BatchRequest, answers: Answers) -> Generator[Step, Any, Written]:
        write = yield from self._prepared(request, self._views[index], Resolver(answers, index))
        guarded = self._entities.references.guard(self._principal, [write])
        for procedure in guarded.before:
            yield from procedure.steps()
        written = yield from do(write)
        for procedure in guarded.after:
            yield from procedure.steps()
        return written

    def _prepared(
        self, request: BatchRequest, view: View, resolver: Resolver
    ) -> Generator[Step, Any, Insert | Update | Upsert | Delete]:
        id = resolver.text(request.id) if request.refers else request.id
        body = request.body or {}
        if request.refers and request.body:
            body = resolver.body(body)
            if not isinstance(body, dict):
                raise InvalidQuery("body", "The body must be a JSON object.")
        return (yield from self._writing(request, view, id, body))

    def _writing(
        self, request: BatchRequest, view: View, id: str, body: Entity
    ) -> Generator[Step, Any, Insert | Update | Upsert | Delete]:
        writes, principal = self._entities.writes, self._principal
        match request.method:
            case "POST" if request.upsert:
                fields, operators = parse_change(body)
                compute = writes.computing(view, operators)
                upserting = writes.upserting(principal, view, request.upsert, fields, self.branch, compute)
                return (yield from within_commit(upserting))
            case "POST":
                return (yield from within_commit(writes.creating(principal, view, body, self.branch)))
            case "PATCH":
                fields, operators = parse_change(body)
                compute = writes.computing(view, operators)
                changing = writes.changing(principal, view, id, fields, request.revs, compute)
                return (yield from within_commit(changing))
            case "PUT":
                return (yield from within_commit(writes.replacing(principal, view, id, body, request.revs)))
            case "DELETE":
                return writes.deleting(view, id, request.revs)

    async def answers(self, written: Written) -> list[tuple[bytes, int]]:
        """Return the entities of the outcome of the batch, as the caller may see them now. Raises RequestFailed if a
        request would not be allowed any more."""
        if self._refusal is not None:
            raise RequestFailed(len(self._views), self._refusal)
        text = written.entity.decode()
        is_long = len(text) > LIGHT_BYTES
        outcomes = await in_thread(unpack, text) if is_long else unpack(text)
        texts: list[tuple[bytes, int]] = []
        turn = Turn()
        for view, each in zip(self._views, outcomes, strict=True):
            texts.append((text_of(reader_of(self._principal, view), each), each.rev))
            if turn.is_over:
                await turn.pass_on()
        return texts


def _met(request: BatchRequest, written: Written) -> int:
    """Return the bytes of the entity that a request has met; those of a new one have been sent."""
    return 0 if request.method == "POST" and not request.upsert else len(written.entity)


def _too_large() -> InvalidQuery:
    text = f"The entities that the requests change or delete exceed {MOST_BATCH_BYTES} bytes together: send fewer."
    return InvalidQuery("path", text).at("MOST_BATCH_BYTES")
