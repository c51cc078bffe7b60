"""`stores.protocol.Engine` on a MongoDB replica set, composed of the parts of this package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import pymongo

from stores.aggregation import Aggregated, Aggregation
from stores.consumer import LeasedConsumer
from stores.errors import StoreError, Unavailable
from stores.mongo import history, structure
from stores.mongo.aggregates import aggregate
from stores.mongo.commits import Committer
from stores.mongo.connection import LEAST_SOCKETS, SOCKETS, Connection
from stores.mongo.consumer import MongoConsumerState
from stores.mongo.errors import store_errors
from stores.mongo.feed import MongoFeed
from stores.mongo.history import HistoryKeeper
from stores.mongo.idempotency import earlier_outcome, forget_expired
from stores.mongo.newest import NewestReader
from stores.mongo.orphans import end_orphans, orphans_ended
from stores.mongo.reading import Reader
from stores.mongo.throttling import MongoThrottles
from stores.newest import Newest, Texts
from stores.options import CONSUMER_DEFAULTS, ConsumerOptions, EngineOptions
from stores.protocol import (
    MOST_HISTORY_ENTRIES,
    BeforeLong,
    ChangeHandler,
    Consumer,
    Definitions,
    Feed,
    IdempotencyKey,
    Listing,
    Summary,
    Write,
    Written,
)
from stores.query import EVERYTHING, WHOLE, Filter, Projection, Query
from stores.records import Entity, History
from stores.schema import StoreDefinition
from stores.starting import when_available
from stores.tasks import run_each
from stores.throttling import ThrottleCounts

log = logging.getLogger(__name__)

_PING_SECONDS = 3
_FINISH_SECONDS = 1.0
"""Seconds that `close` waits for commits in progress. Requests have had their own time to finish before."""
_FAREWELL_SECONDS = 1
"""Seconds for each step of `close` that ends leases, sessions and cursors in the server."""


class MongoEngine:
    """See `stores.protocol.Engine`. `url` is a MongoDB connection string; its path names the database (default:
    ``hub``)."""

    feed: Feed
    throttles: ThrottleCounts
    shared = True
    most_files = SOCKETS

    def __init__(self, url: str, options: EngineOptions) -> None:
        self._connection = Connection(url, options.read_timeout, options.seal, options.max_slow_reads_per_user)
        self.feed = self._feed = MongoFeed(self._connection)
        self._reader = Reader(self._connection, options.chunk_bytes)
        self._newest = NewestReader(self._connection)
        self._committer = Committer(self._connection, self._feed, options.max_entity_bytes)
        self._history = HistoryKeeper(self._connection, self._feed, self._consumer_state(history.ID))
        self._consumers: dict[str, LeasedConsumer] = {}
        self.throttles = MongoThrottles(self._connection)

    def limit_files(self, files: int) -> None:
        self._connection.sockets = max(LEAST_SOCKETS, min(SOCKETS, files))

    async def open(self) -> None:
        await when_available(self._open)

    async def _open(self) -> None:
        await self._connection.open()
        try:
            await end_orphans(self._connection)
            async with orphans_ended(self._connection):
                await structure.prepare(self._connection)
            await self._history.start()
            self._consumers[self._history.consumer.name] = self._history.consumer
        except BaseException:
            await self._connection.close()
            raise

    async def close(self) -> None:
        self._consumers.clear()
        await self._committer.finish(_FINISH_SECONDS)
        # If the server does not answer, its own time limits end whatever is left open.
        with pymongo.timeout(_FAREWELL_SECONDS):
            await self._history.stop()
        with pymongo.timeout(_FAREWELL_SECONDS):
            await self._connection.close()

    async def ping(self) -> None:
        with store_errors(), pymongo.timeout(_PING_SECONDS):
            await self._connection.command({"ping": 1})

    async def stored_constant(self, name: str, value: str, *, replace: bool = False) -> str:
        with store_errors():
            return await self._connection.stored_constant(name, value, replace=replace)

    async def read_constant(self, name: str) -> str | None:
        with store_errors():
            return await self._connection.read_constant(name)

    async def define(
        self,
        *definitions: StoreDefinition,
        writes: Sequence[Write] = (),
        by: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> list[Written]:
        async with orphans_ended(self._connection):
            return await self._define(definitions, writes, by, key)

    async def _define(
        self,
        definitions: Sequence[StoreDefinition],
        writes: Sequence[Write],
        by: str | None,
        key: IdempotencyKey | None,
    ) -> list[Written]:
        unwanted = {d.name: await structure.make(self._connection, d) for d in definitions}
        written = await self._committer.commit(writes, by, key) if writes else []
        for definition in definitions:
            self._reader.note_indexes(definition)
        for store, indexes in unwanted.items():
            try:
                await structure.drop_indexes(self._connection, store, indexes)
            except StoreError as error:
                if not writes:
                    raise
                log.warning("%s has indexes that its definition does not have any more: %s", store, error)
        return written

    async def rename(self, store: str, name: str, writes: Sequence[Write]) -> None:
        async with orphans_ended(self._connection):
            await structure.rename(self._connection, store, name)
        await self._committer.commit_with(
            writes, "rename", lambda session: structure.end_renaming(self._connection, store, session)
        )

    async def drop(self, store: str, writes: Sequence[Write] = (), by: str | None = None) -> list[Written]:
        # Closed first: otherwise an entity that another process creates during this commit would be lost.
        async with orphans_ended(self._connection):
            await structure.close(self._connection, store)
        try:
            written = await self._committer.commit(writes, by, None) if writes else []
        except Unavailable:
            raise  # it may have been committed
        except StoreError:
            await structure.reopen(self._connection, store)
            raise
        try:
            await structure.leave(self._connection, store)
        except StoreError as error:
            log.warning("the collection of %s, which is no store any more, is left: %s", store, error)
        return written

    async def get(
        self, store: str, id: str, where: Filter = EVERYTHING, projection: Projection = WHOLE
    ) -> tuple[bytes, int] | None:
        return await self._reader.get(store, id, where, projection)

    async def find(
        self, store: str, query: Query, projection: Projection = WHOLE, before_long: BeforeLong | None = None
    ) -> Listing:
        return await self._reader.find(store, query, projection, before_long)

    async def entities(self, store: str, query: Query, most_bytes: int | None = None) -> list[Entity]:
        return await self._reader.entities(store, query, most_bytes)

    async def newest(self, store: str, wanted: Newest, projection: Projection = WHOLE) -> Texts:
        return await self._newest.read(store, wanted, projection)

    async def summarize(self, store: str, where: Filter, projection: Projection = WHOLE) -> Summary:
        return await self._reader.summarize(store, where, projection)

    async def aggregate(self, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
        return await aggregate(self._connection, store, where, aggregation)

    async def count(
        self, store: str, where: Filter = EVERYTHING, counts: Callable[[Entity], bool] | None = None
    ) -> int:
        return await self._reader.count(store, where, counts)

    async def groups_in_use(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        return await self._reader.groups_in_use(stores, groups)

    async def count_duplicates(self, store: str, *paths: str, where: Filter = EVERYTHING) -> tuple[int, str]:
        return await self._reader.count_duplicates(store, paths, where)

    async def commit(
        self,
        writes: Sequence[Write],
        by: str | None,
        key: IdempotencyKey | None = None,
        definition: Definitions = None,
    ) -> list[Written]:
        return await self._committer.commit(writes, by, key, definition)

    async def outcome(self, key: IdempotencyKey) -> list[Written] | None:
        return await earlier_outcome(self._connection, key)

    async def history(
        self,
        store: str,
        id: str,
        after: str | None = None,
        limit: int = MOST_HISTORY_ENTRIES,
        fields: frozenset[str] = frozenset(),
    ) -> History:
        return await self._history.read(store, id, after, limit, fields)

    def consumer(self, name: str, handle: ChangeHandler, options: ConsumerOptions = CONSUMER_DEFAULTS) -> Consumer:
        state = self._consumer_state(f"consumer:{name}")
        self._consumers[name] = consumer = LeasedConsumer(name, handle, options, state)
        return consumer

    def _consumer_state(self, id: str) -> MongoConsumerState:
        return MongoConsumerState(self._connection, self._feed, self._committer, id)

    def consumers(self) -> Sequence[Consumer]:
        return list(self._consumers.values())

    async def sweep(self, now: int) -> None:
        connection = self._connection
        await run_each(partial(structure.remove_dropped, connection), partial(forget_expired, connection, now))
