"""The engine contract, implemented for SQLite and MongoDB and tested in `tests/conformance`.

An engine stores entities and yields their changes. It checks no permissions and no schema: callers pass the visibility
predicate as part of the filter (`where`) and values that have been checked. An engine commits an entity and its change
record together. The writes (`stores.writes`) and the procedures (`stores.procedures`) are parts of the contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn, Protocol

from stores.aggregation import Aggregated, Aggregation
from stores.bounds import Limit
from stores.errors import ConsumerStopped
from stores.newest import Newest, Texts
from stores.options import CONSUMER_DEFAULTS, ConsumerOptions
from stores.procedures import (
    EntityKey,
    Find,
    InsertMany,
    Lock,
    Procedure,
    Step,
    StepOutcome,
    Steps,
    Take,
    Write,
    do,
    find,
    take,
)
from stores.query import EVERYTHING, WHOLE, Filter, Projection, Query
from stores.records import Change, Entity, History, Json
from stores.schema import StoreDefinition
from stores.throttling import ThrottleCounts
from stores.writes import (
    MOST_BULK_BYTES,
    MOST_UPSERT_BYTES,
    UNBOUNDED,
    AllBut,
    BulkBytes,
    Delete,
    DeleteMany,
    Expect,
    IdempotencyKey,
    Insert,
    Recheck,
    Revisions,
    Serial,
    Update,
    UpdateMany,
    Upsert,
    UpsertBytes,
    Written,
    pack,
    unpack,
)

__all__ = [
    "MOST_BULK_BYTES",
    "MOST_HISTORY_BYTES",
    "MOST_HISTORY_ENTRIES",
    "MOST_READ_BYTES",
    "MOST_UPSERT_BYTES",
    "UNBOUNDED",
    "AllBut",
    "Batch",
    "BeforeLong",
    "BulkBytes",
    "ChangeHandler",
    "Consumer",
    "Definitions",
    "Delete",
    "DeleteMany",
    "Engine",
    "EntityKey",
    "Expect",
    "Feed",
    "Find",
    "IdempotencyKey",
    "Insert",
    "InsertMany",
    "Listing",
    "Lock",
    "Procedure",
    "Recheck",
    "Revisions",
    "Serial",
    "Step",
    "StepOutcome",
    "Steps",
    "Summary",
    "Take",
    "Update",
    "UpdateMany",
    "Upsert",
    "UpsertBytes",
    "Write",
    "Written",
    "do",
    "find",
    "is_internal",
    "pack",
    "take",
    "unpack",
]

Definitions = StoreDefinition | Sequence[StoreDefinition] | None
"""The definition on which the values of a commit rely, or several: one for each store."""

BeforeLong = Callable[[], Awaitable[None] | None]
"""Takes a slot for a long list. An awaitable if it must wait for that; the engine holds nothing meanwhile."""


@dataclass(slots=True)  # not frozen: see `stores.writes`
class Listing:
    """A list as JSON text.

    `body` is the whole array, or an iterator of its pieces when it is long; each piece ends with an entity, or with the
    array. `position` is the feed position of the content. `next` is the sort key of the last entity when more follow.
    """

    position: str
    next: tuple[Json, ...] | None
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Summary:
    """The number of entities, and the first and the last by creation as JSON text (None when there are none)."""

    position: str
    count: int
    first: bytes | None
    last: bytes | None


MOST_HISTORY_ENTRIES: Annotated[int, Limit("request", "entries", "`Link`")] = 1_000
"""Entries of an audit trail in one answer."""

MOST_HISTORY_BYTES: Annotated[int, Limit("request", "bytes", "`Link`")] = 4_194_304
"""Bytes of values in one page of an audit trail. The page ends with the entry that exceeds them."""

MOST_READ_BYTES: Annotated[int, Limit("read of the feed", "bytes", "the next read goes on")] = 8_388_608
"""Bytes of changes in one batch of the feed. The batch ends with the change that exceeds them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A range of the feed. `position` resumes after it, even when `changes` is empty. `more`: further changes wait, so
    read again at once."""

    changes: list[Change]
    position: str
    more: bool


class Feed(Protocol):
    """All changes of one database in commit order."""

    async def position(self) -> str:
        """Return the current position of the feed."""

    def order(self, position: str) -> bytes:
        """Return a sort key by which positions of this database compare: an earlier one has a lesser key. A list's
        position has the key of the last change that the list contains. Raises HistoryGone when `position` is not a
        position of this database."""

    def place(self, position: str) -> str:
        """Return the place in audit trails (`after` of `Engine.history`) that corresponds to a position: the entries
        after it are of changes after the position. Raises HistoryGone like `order`."""

    async def read(self, since: str, limit: int = 1_000, *, whole: bool = False) -> Batch:
        """Return the changes after `since`. With `whole`, the batch goes on beyond `limit` to the end of the last
        change's commit; without, that commit may be cut, and its changes are not marked in full. Raises HistoryGone for
        a position that is unknown, forged, of another database, or older than the oldest change kept."""

    def follow(self, since: str) -> AsyncIterator[Batch]:
        """Yield every change after `since` as it is committed, without end. A batch without changes only advances the
        position; no commit that has a number is cut by the end of one. Raises HistoryGone for the same positions as
        `read`."""


def is_internal(store: str) -> bool:
    """Return whether a store is the hub's own. Its changes are neither in the feed nor in the history, and no user can
    create one."""
    return store.startswith("_")


ChangeHandler = Callable[[Sequence[Change]], Awaitable[Sequence[Write] | None]]
"""Handles the next changes of the feed, in its order. A ``lost`` change means that changes of its store are missing.

The returned writes are committed together with the consumer's position, so they take effect once; effects outside the
database may be repeated. The handler returns None when there is nothing to commit and its work may be repeated without
harm: the position is then stored with the next renewal of the lease."""


class Consumer(Protocol):
    """A durable reader of the feed. Its position is stored, and one process at a time works for it."""

    @property
    def name(self) -> str: ...

    @property
    def lag(self) -> float | None:
        """The age in seconds of the oldest unhandled change that this process has read; None while another process
        works."""

    @property
    def error(self) -> ConsumerStopped | None:
        """The error with which the consumer has stopped; None while it runs."""

    async def run(self) -> NoReturn:
        """Handle changes until cancelled, also across outages of the database. Raises ConsumerBehind when the feed
        does not reach back to the position, and ConsumerFailing after `ConsumerOptions.most_attempts`."""

    async def restart_at(self, since: str | None = None, writes: Sequence[Write] = ()) -> None:
        """Store the position `since` (None: now), and commit `writes` with it. Batches that a process is handling now
        are not committed. After ConsumerBehind it does nothing if another process has restarted it already. Raises the
        errors of `Engine.commit`."""


class Engine(Protocol):
    """One database. Methods raise `stores.errors`; any of them raises Unavailable while the database does not
    answer."""

    shared: bool
    """Whether other programs may write to the database."""

    throttles: ThrottleCounts
    """The counts of calls by which APIs limit their callers, the same in all processes of a hub."""

    most_files: int
    """The most files and connections that it has open at once."""

    def limit_files(self, files: int) -> None:
        """Limit open files and connections to about `files`, on systems that allow few. Call it before `open`."""

    @property
    def feed(self) -> Feed:
        """The feed of an open engine."""

    async def open(self) -> None:
        """Connect and prepare the database. Raises CannotOpen, whose text says what to do."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Check that the database answers. Raises Unavailable when it does not."""

    async def stored_constant(self, name: str, value: str, *, replace: bool = False) -> str:
        """Return the value stored under `name`; store `value` first if there was none, or with `replace`. Without
        `replace`, all processes that call it at once get the same value."""

    async def read_constant(self, name: str) -> str | None:
        """Return the value stored under `name`, or None."""

    async def define(
        self,
        *definitions: StoreDefinition,
        writes: Sequence[Write] = (),
        by: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> list[Written]:
        """Create or change the storage and the indexes of stores where they differ from the definitions, and commit
        `writes`: both or neither where storage is transactional (`shared` engines: the storage first, except indexes
        that go, which go last). Raises DuplicateValue when a new unique index finds equal values, ParallelArrays
        where a new compound index finds an entity that it cannot hold and storage is not transactional, CannotOpen
        when a `rename` was interrupted, and the errors of `commit`."""

    async def rename(self, store: str, name: str, writes: Sequence[Write]) -> None:
        """Rename a store's storage and its history, and do `writes`. Only while no hub runs. Can be repeated after an
        interruption. Raises Conflict when both names are in use."""

    async def drop(self, store: str, writes: Sequence[Write] = (), by: str | None = None) -> list[Written]:
        """Commit `writes` and remove an empty store's storage: both or neither where storage is transactional (`shared`
        engines: the storage last). Raises StoreNotEmpty, and the errors of `commit`."""

    async def get(
        self, store: str, id: str, where: Filter = EVERYTHING, projection: Projection = WHOLE
    ) -> tuple[bytes, int] | None:
        """Return an entity as JSON text, and its revision; or None."""

    async def find(
        self, store: str, query: Query, projection: Projection = WHOLE, before_long: BeforeLong | None = None
    ) -> Listing:
        """Return a page. `before_long` is called before a long list takes anything that lasts, and may refuse it."""

    async def entities(self, store: str, query: Query, most_bytes: int | None = None) -> list[Entity]:
        """Return the result of `find` as Python values without a projection, for callers inside the hub. The query's
        limit bounds it. With `most_bytes`, the entity with which their JSON text has so many bytes is the last one."""

    async def newest(self, store: str, wanted: Newest, projection: Projection = WHOLE) -> Texts:
        """Return the newest entities for each of several values. Where the path is indexed, it takes time in proportion
        to the answer. Raises ReadTooLarge."""

    async def summarize(self, store: str, where: Filter, projection: Projection = WHOLE) -> Summary: ...

    async def aggregate(self, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
        """Return the groups of the entities that match `where` (see `stores.accumulator`). Raises InvalidQuery for
        groups that are too many or too large."""

    async def count(
        self, store: str, where: Filter = EVERYTHING, counts: Callable[[Entity], bool] | None = None
    ) -> int:
        """Return the number of entities that match `where`, and that `counts` accepts if it is given; it is called in
        threads. For the hub's own jobs: takes time in proportion to the size of the store, and `read_timeout` does not
        end it."""

    async def groups_in_use(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        """Return the pairs of these stores and groups for which the store has an entity with that `group`."""

    async def count_duplicates(self, store: str, *paths: str, where: Filter = EVERYTHING) -> tuple[int, str]:
        """Return how many of the entities that meet `where` share their strings or numbers at all the paths with
        another one of them, and the least `_id` of these (empty if there are none). Arrays are not entered. Takes time
        in proportion to the size of the store."""

    async def commit(
        self,
        writes: Sequence[Write],
        by: str | None,
        key: IdempotencyKey | None = None,
        definition: Definitions = None,
    ) -> list[Written]:
        """Do all writes or none, and return once they are durable. A `key` that was used before returns the first
        outcome again, or raises KeyReused when the fingerprint differs. `definition` is the one against which the
        caller has checked the values; raises DefinitionChanged when this process has replaced it by the time of the
        commit. Raises InvalidQuery, UpsertTooLarge, NotFound, StaleRevision, NotAsExpected, DuplicateValue,
        InvalidEntity, TooManyMatches, StorageFull, Unavailable."""

    async def outcome(self, key: IdempotencyKey) -> list[Written] | None:
        """Return the outcome of the commit that was done with this key; None if there was none, or if it is so recent
        that it cannot be read yet. Raises KeyReused when the fingerprint differs."""

    async def history(
        self,
        store: str,
        id: str,
        after: str | None = None,
        limit: int = MOST_HISTORY_ENTRIES,
        fields: frozenset[str] = frozenset(),
    ) -> History:
        """Return a page of the audit trail of an entity: at most `limit` entries after the place `after`, fewer when
        their values exceed `MOST_HISTORY_BYTES`. The trail contains every change whose commit returned before the call.
        `fields` are the fields wanted in `History.later`. Raises InvalidQuery when `after` is not a place."""

    def consumer(self, name: str, handle: ChangeHandler, options: ConsumerOptions = CONSUMER_DEFAULTS) -> Consumer:
        """Return a consumer of the feed of an open engine. Its position is stored under `name`."""

    def consumers(self) -> Sequence[Consumer]:
        """Return the consumers made since the engine was opened, the last one of each name."""

    async def sweep(self, now: int) -> None:
        """Retire feed records and idempotency keys whose time is over at `now` (Unix ms)."""
