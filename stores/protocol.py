"""What an engine is: the one contract that SQLite and MongoDB both fulfil (`tests/conformance` holds them to it).

An engine stores entities and yields their changes. It checks no permissions and no schema: what a caller may see
arrives as part of the filter (`where`), values arrive checked. It commits an entity and its change record together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NoReturn, Protocol

import orjson

from stores.bounds import Limit
from stores.errors import ConsumerStopped, Violation
from stores.query import EVERYTHING, WHOLE, Filter, Projection, Query
from stores.records import Change, Entity, History, Json
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class AllBut:
    """Every revision but these."""

    excluded: frozenset[int]

    def __contains__(self, rev: int) -> bool:
        return rev not in self.excluded


Revisions = frozenset[int] | AllBut
"""The current revisions at which a write is acceptable."""

UNBOUNDED: Final = 2**31 - 1
"""`limit` of a bulk write that must reach every match, however many."""

# Writes. System fields are the caller's, except that engines raise `_rev` by one on every change. A change that would
# alter nothing but `_at` is not made: the revision stays and nothing is recorded, unless the write is `forced`.


@dataclass(frozen=True, slots=True)
class Insert:
    """`entity` is whole, system fields included, `_rev` 1."""

    store: str
    entity: Entity


@dataclass(frozen=True, slots=True)
class Update:
    """Merge `changes` (top-level fields) into the entity, or, with `replace`, leave nothing else but its system
    fields. `where` says who counts as present (else NotFound); `revs`, when given, are the acceptable current
    revisions (else StaleRevision). Atomic."""

    store: str
    id: str
    changes: Entity
    where: Filter = EVERYTHING
    revs: Revisions | None = None
    replace: bool = False
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    store: str
    id: str
    where: Filter = EVERYTHING
    revs: Revisions | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert `entity`, or, if one that meets `where` has the same value at the unique path `key`, merge `changes`
    into it. DuplicateValue when one that does not meet `where` has it. `missing` is what `entity` lacks to be inserted:
    InvalidEntity when it would have to be."""

    store: str
    key: str
    entity: Entity
    changes: Entity
    where: Filter = EVERYTHING
    forced: bool = False
    missing: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateMany:
    """Merge `changes` into every match; TooManyMatches, and nothing done, beyond `limit`."""

    store: str
    where: Filter
    changes: Entity
    limit: int
    forced: bool = False


@dataclass(frozen=True, slots=True)
class DeleteMany:
    store: str
    where: Filter
    limit: int


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition of the whole commit: from `least` to `most` entities of the store meet `where` at this place among
    its writes, else NotAsExpected. Commits that expect something under the same `guard` (default: the store's name)
    take effect one after the other, so each sees what the one before it has left."""

    store: str
    where: Filter
    least: int = 1
    most: int | None = None
    guard: str = ""

    @property
    def enough(self) -> int:
        """How many entities need to be counted."""
        return self.least if self.most is None else self.most + 1

    def holds(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)


Write = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | Expect


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of one write. `entity`: JSON text of the entity as it is now (or was, when deleted); empty after
    a bulk change and for an Expect. `rev` is its revision, `count` the number of entities changed."""

    entity: bytes
    rev: int
    count: int = 1


def pack(written: Sequence[Written]) -> bytes:
    """The outcome of a commit as JSON, one write a line."""
    # Each on its own: one call for all of them would hold the interpreter for as long as that takes.
    lines = (orjson.dumps((w.entity.decode(), w.rev, w.count)) for w in written)
    return b"[" + b",\n".join(lines) + b"]"


def unpack(text: str) -> list[Written]:
    """The outcome of a commit as `pack` made it."""
    items = (item for line in text[1:-1].split(",\n") for item in orjson.loads(f"[{line}]"))
    return [Written(entity.encode(), rev, count) for entity, rev, count in items]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Makes a commit happen once: `key` identifies the request, `fingerprint` its content."""

    key: str
    fingerprint: str
    expires: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as JSON text. `body` is the whole array, or its pieces when it is long. `position` is the feed position
    that the content stands for; `next` is the sort key of the last entity when more follow."""

    position: str
    next: tuple[Json, ...] | None
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Summary:
    """How many entities there are, and the first and last by creation as JSON text (None when there are none)."""

    position: str
    count: int
    first: bytes | None
    last: bytes | None


MOST_HISTORY_ENTRIES: Annotated[int, Limit("request", "entries", "`Link`")] = 1_000
"""Of an audit trail in one answer."""

MOST_HISTORY_BYTES: Annotated[int, Limit("request", "bytes", "`Link`")] = 4_194_304
"""Of values in one page of an audit trail; the entry that exceeds it is still in it."""

MOST_READ_BYTES: Annotated[int, Limit("read of the feed", "bytes", "the next read goes on")] = 8_388_608
"""Of changes in one batch of the feed; the one that exceeds it is still in it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A range of the feed. `position` resumes after it, also when `changes` is empty; `more`: ask again at once."""

    changes: list[Change]
    position: str
    more: bool


class Feed(Protocol):
    """All changes of one database in commit order."""

    async def position(self) -> str:
        """Where the feed stands now."""

    def order(self, position: str) -> bytes:
        """A sort key: of two positions of this database the earlier has the lesser, and a list's position stands
        with the last change that the list has in it. Raises HistoryGone for what is no position of it."""

    async def read(self, since: str, limit: int = 1_000) -> Batch:
        """The changes after `since`. Raises HistoryGone for a position that is unknown, forged, of another database
        or older than what is kept."""

    def follow(self, since: str) -> AsyncIterator[Batch]:
        """Every change after `since`, as it is committed, without end; a batch without changes only brings the
        position up to date. Raises HistoryGone like `read`."""


def is_internal(store: str) -> bool:
    """Whether a store is the hub's own: its changes are neither in the feed nor on record. No user can make one."""
    return store.startswith("_")


ChangeHandler = Callable[[Sequence[Change]], Awaitable[Sequence[Write] | None]]
"""Handles the next changes of the feed, in its order; a ``lost`` one says that some of its store are missing.

The writes that it returns are committed together with the consumer's position, so they take effect once; effects
outside the database may be repeated. It returns None when there is nothing to commit and its work may be repeated
without harm: the position is then stored with the next renewal of the lease."""

MOST_CONSUMER_CHANGES: Annotated[int, Limit("call of a consumer", "changes", "the next call goes on")] = 1_000
MOST_CONSUMER_BYTES: Annotated[int, Limit("call of a consumer", "bytes", "the next call goes on")] = 4_194_304
"""Of changes in memory; a change that is larger comes alone."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer works; every process of a hub gives the same.

    Args:
        since: the position at which a new consumer begins; None: where the feed is when it first runs.
        most_changes: of one call of the handler.
        most_bytes: of the changes of one call, as they are in memory.
        lease_seconds: after which another process takes over from one that has died. A lease is renewed three times in
            that time.
        handle_seconds: that a call of the handler may take; a longer one counts as failed.
        most_attempts: calls of the handler with the same changes before the consumer stops; None: it never does.
        first_pause: seconds before the second attempt; each pause is twice as long as the one before.
        longest_pause: seconds.
    """

    since: str | None = None
    most_changes: int = MOST_CONSUMER_CHANGES
    most_bytes: int = MOST_CONSUMER_BYTES
    lease_seconds: float = 6
    handle_seconds: float = 60
    most_attempts: int | None = 10
    first_pause: float = 0.1
    longest_pause: float = 30


CONSUMER_DEFAULTS: Final = ConsumerOptions()


class Consumer(Protocol):
    """A durable reader of the feed. Its position is stored; of all processes that run it one works at a time."""

    @property
    def name(self) -> str: ...

    @property
    def lag(self) -> float | None:
        """The age in seconds of the oldest change that has not been handled, as far as this process knows; None while
        another process works."""

    @property
    def error(self) -> ConsumerStopped | None:
        """Why the consumer has stopped; None while it runs."""

    async def run(self) -> NoReturn:
        """Handle changes until cancelled, whatever happens to the database meanwhile. Raises ConsumerBehind when the
        feed does not reach back to the position, and ConsumerFailing after `ConsumerOptions.most_attempts`."""

    async def begin_anew(self, since: str | None = None, writes: Sequence[Write] = ()) -> None:
        """Store the position `since` (None: now), and commit `writes` with it. What any process has begun to handle is
        not committed. After ConsumerBehind nothing is done if another process has begun anew already. Raises the errors
        of `Engine.commit`."""


class Engine(Protocol):
    """One database. Methods raise `stores.errors`; Unavailable from any of them while the database is away."""

    shared: bool
    """Whether other programs may write to the database."""

    most_files: int
    """Open files and connections that it may hold at once."""

    def hold_to(self, files: int) -> None:
        """Hold about so many open files and connections at most, where the system allows few; before `open`."""

    @property
    def feed(self) -> Feed:
        """The feed of an open engine."""

    async def open(self) -> None:
        """Connect and make ready. Raises CannotOpen that says what to do."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer."""

    async def constant(self, name: str, value: str, *, replace: bool = False) -> str:
        """The value that the database keeps under `name`: this one if it had none, or with `replace`. Of several
        processes that ask at once, one decides for all."""

    async def kept(self, name: str) -> str | None:
        """The value that the database keeps under `name`; None if it has none."""

    async def define(
        self,
        *definitions: StoreDefinition,
        writes: Sequence[Write] = (),
        by: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> list[Written]:
        """Make or change the storage and the indexes of stores, as far as they are not as wanted, and commit `writes`:
        both or neither where storage is transactional (`shared` engines: the storage first). Raises DuplicateValue when
        a new unique index finds equal values, and the errors of `commit`."""

    async def rename(self, store: str, name: str, writes: Sequence[Write]) -> None:
        """Give a store's storage another name, with its history, and do `writes`; only while no hub runs. It can be
        done again when it was broken off. Raises Conflict when both names are in use."""

    async def drop(self, store: str, writes: Sequence[Write] = (), by: str | None = None) -> list[Written]:
        """Commit `writes` and remove an empty store's storage: both or neither where storage is transactional (`shared`
        engines: the storage last). Raises StoreNotEmpty, and the errors of `commit`."""

    async def get(
        self, store: str, id: str, where: Filter = EVERYTHING, projection: Projection = WHOLE
    ) -> tuple[bytes, int] | None:
        """One entity as JSON text and its revision, or None."""

    async def find(self, store: str, query: Query, projection: Projection = WHOLE) -> Listing: ...

    async def entities(self, store: str, query: Query) -> list[Entity]:
        """The same as values, whole, for callers inside the hub. Bounded by the query's limit."""

    async def summarize(self, store: str, where: Filter, projection: Projection = WHOLE) -> Summary: ...

    async def groups_held(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        """Of these stores and groups the pairs where the store has an entity with that `group`."""

    async def repeated(self, store: str, path: str) -> int:
        """How many entities have a string or a number at the path that another one has too. No array is entered. May
        take as long as the store is large."""

    async def commit(self, writes: Sequence[Write], by: str | None, key: IdempotencyKey | None = None) -> list[Written]:
        """Do all writes or none; returned once durable. With a `key` seen before: the first outcome again, or
        KeyReused when the fingerprint differs. Raises InvalidQuery, NotFound, StaleRevision, NotAsExpected,
        DuplicateValue, InvalidEntity, TooManyMatches, StorageFull, Unavailable."""

    async def history(
        self,
        store: str,
        id: str,
        after: str | None = None,
        limit: int = MOST_HISTORY_ENTRIES,
        fields: frozenset[str] = frozenset(),
    ) -> History:
        """A page of the audit trail of an entity: at most `limit` entries beyond the place `after`, less when their
        values exceed `MOST_HISTORY_BYTES`; `fields` are those wanted in `later`. It holds every change that was
        answered before the call. Raises InvalidQuery for a place that is none."""

    def consumer(self, name: str, handle: ChangeHandler, options: ConsumerOptions = CONSUMER_DEFAULTS) -> Consumer:
        """A consumer of the feed of an open engine. `name` is what its position is stored under."""

    def consumers(self) -> Sequence[Consumer]:
        """Those made since the engine was opened; of several of one name the last."""

    async def sweep(self, now: int) -> None:
        """Housekeeping: retire feed records and idempotency keys that have outlived their time (Unix ms)."""


class Seal(Protocol):
    """Encryption of what a position holds, the same in every process of a hub and after a restart."""

    def seal(self, data: bytes) -> str:
        """URL-safe text, the same for the same data."""

    def unseal(self, text: str) -> bytes:
        """Raises ValueError for what was not sealed so."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds of an engine; the settings of the same names say what they mean. `seal`: for what positions hold of
    entities that their holder may not see; without it they are in clear."""

    feed_retention_hours: float = 72
    feed_retention_mb: float = 1024
    sqlite_log_mb: float = 1024
    reader_threads: int = 4
    chunk_bytes: int = 65_536
    read_timeout: float = 15
    max_slow_reads_per_user: int = 32
    max_entity_bytes: int = 4_194_304
    seal: Seal | None = None
