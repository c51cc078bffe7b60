"""The engine contract, implemented for SQLite and MongoDB and tested in `tests/conformance`.

An engine stores entities and yields their changes. It checks no permissions and no schema: callers pass the visibility
predicate as part of the filter (`where`) and values that have been checked. An engine commits an entity and its change
record together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn, Protocol

import orjson

from stores.aggregation import Aggregated, Aggregation
from stores.bounds import Limit
from stores.computing import Compute
from stores.errors import ConsumerStopped, InvalidQuery, UpsertTooLarge, Violation
from stores.newest import Newest, Texts
from stores.options import CONSUMER_DEFAULTS, ConsumerOptions
from stores.paths import split, value_at
from stores.query import EVERYTHING, NOTHING, WHOLE, And, Equal, Filter, Projection, Query
from stores.records import Change, Entity, History, Json
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class AllBut:
    """Every revision but these."""

    excluded: frozenset[int]

    def __contains__(self, rev: int) -> bool:
        return rev not in self.excluded


Revisions = frozenset[int] | AllBut
"""The revisions of the entity at which a write is accepted."""

UNBOUNDED: Final = 2**31 - 1
"""`limit` of a bulk write that must change all matches, whatever their number."""

# Writes. The caller sets the system fields; only `_rev` is the engine's: it raises it by one on every change. An engine
# skips a change that would alter nothing but `_at`: the revision stays and nothing is recorded, unless the write is
# `forced`. `compute` computes further changes from the entity as it is in the commit, with `changes` merged into it.


@dataclass(frozen=True, slots=True)
class Serial:
    """The next number of a counter, in a field of a new entity: numbers rise from `start`, and none is used twice.
    `counter` is the name of the counter, which all processes share."""

    field: str
    counter: str
    start: int = 1


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert `entity`: complete, with its system fields and `_rev` 1, except that it gets the numbers of `serials`."""

    store: str
    entity: Entity
    serials: tuple[Serial, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """Merge `changes` (top-level fields) into the entity, atomically. With `replace`, remove every other field except
    the system fields.

    `compute` does not go together with `replace`. Raises NotFound when the entity does not meet `where`, StaleRevision
    when its revision is not in `revs`, and the InvalidEntity of `compute`."""

    store: str
    id: str
    changes: Entity
    where: Filter = EVERYTHING
    revs: Revisions | None = None
    replace: bool = False
    forced: bool = False
    compute: Compute | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    store: str
    id: str
    where: Filter = EVERYTHING
    revs: Revisions | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert `entity`, or, if an entity that meets `where` has the same value at the unique path `key`, merge `changes`
    into that one.

    `missing` are the required fields that `entity` lacks; `serials` are numbers that it gets. `compute` belongs to the
    merge: an entity that is inserted stays as it is. Raises DuplicateValue when an entity that does not meet `where`
    has the value, and InvalidEntity when `entity` would be inserted and `missing` is not empty."""

    store: str
    key: str
    entity: Entity
    changes: Entity
    where: Filter = EVERYTHING
    forced: bool = False
    missing: tuple[Violation, ...] = ()
    serials: tuple[Serial, ...] = ()
    compute: Compute | None = None

    @property
    def met(self) -> Filter:
        """The filter for the entity that it updates."""
        value = value_at(self.entity, self.key)
        return NOTHING if value is None else And((Equal(split(self.key), value), self.where))


MOST_UPSERT_BYTES: Annotated[int, Limit("request", "bytes of entities that upserts meet", "400")] = 67_108_864
"""Bytes of the entities that the upserts of one commit change, as they are stored before. An entity counts as often as
it is met: the outcome of each upsert holds it whole."""


MOST_BULK_BYTES: Annotated[int, Limit("request", "bytes that a bulk change writes or deletes", "400")] = 268_435_456
"""Bytes that one bulk change may write or delete: the matches as they are stored, and its body once for each; besides,
the fields that it computes."""


def check_bulk_bytes(matches: int, size: int, changes: Entity | None = None) -> None:
    """Raise InvalidQuery if a bulk change of `matches` entities, of `size` bytes together, would write too much."""
    each = 0 if changes is None else len(orjson.dumps(changes))
    if size + matches * each > MOST_BULK_BYTES:
        raise _bulk_too_large()


def _bulk_too_large() -> InvalidQuery:
    text = f"The entities that match, with the changes, exceed {MOST_BULK_BYTES >> 20} MiB: narrow the filter."
    return InvalidQuery("filter", text).at("MOST_BULK_BYTES")


class BulkBytes:
    """The bytes of the fields that a computed bulk change sets."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, fields: Entity) -> None:
        """Count the fields of one entity. Raises InvalidQuery."""
        self._bytes += len(orjson.dumps(fields))
        if self._bytes > MOST_BULK_BYTES:
            raise _bulk_too_large()


class UpsertBytes:
    """The bytes of the entities that the upserts of one commit meet."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count an entity. Raises UpsertTooLarge."""
        self._bytes += size
        if self._bytes > MOST_UPSERT_BYTES:
            raise UpsertTooLarge(MOST_UPSERT_BYTES)


@dataclass(frozen=True, slots=True)
class UpdateMany:
    """Merge `changes` into every match, one by one in order of creation if there is a `compute`. Raises TooManyMatches,
    and changes nothing, for more than `limit` matches, and the InvalidEntity of `compute`."""

    store: str
    where: Filter
    changes: Entity
    limit: int
    forced: bool = False
    compute: Compute | None = None


@dataclass(frozen=True, slots=True)
class DeleteMany:
    store: str
    where: Filter
    limit: int


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition of the whole commit: from `least` to `most` entities of the store meet `where` when the writes before
    this one are done. Raises NotAsExpected otherwise.

    Commits with the same `guard` (default: the store's name) take effect one after the other, so each sees the result
    of the one before."""

    store: str
    where: Filter
    least: int = 1
    most: int | None = None
    guard: str = ""

    @property
    def count_limit(self) -> int:
        """The number of entities at which counting may stop."""
        return self.least if self.most is None else self.most + 1

    def holds(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)


@dataclass(frozen=True, slots=True)
class Recheck:
    """A condition of the whole commit: `check` accepts the changes of the database since the feed position `since`, up
    to the commit, and raises otherwise. It runs in a thread, once for each part of them. Raises NotAsExpected when the
    feed does not reach back to `since`.

    On MongoDB a write of another process may commit after the check and before this commit."""

    store: str
    since: str
    check: Callable[[Sequence[Change]], None]


@dataclass(frozen=True, slots=True)
class Find:
    """A step of a Procedure that reads: at most `limit` matches by creation, as they are within the commit. With `only`
    the entities have only these top-level fields, beside `_id`."""

    store: str
    where: Filter
    limit: int
    only: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """A step of a Procedure that orders it with others: of two commits that lock the same key, at least one of them as
    `exclusive`, one sees the result of the other. Lock before reading what the key protects."""

    keys: tuple[str, ...]
    exclusive: bool = False


Place = tuple[str, str, Any]
"""A store, a path and a value that one entity has there."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """Writes that depend on what the commit finds, or on the outcome of writes before them.

    `steps` begins the procedure, once for each attempt of the commit. The generator yields its steps: for a write it
    gets the Written, for a Find the list of entities, for a Lock None. A StoreError of a step is raised in it, and
    fails the commit, as any error does; the procedure may raise another one that explains it. It returns the Written
    that stands for it in the outcome of the commit.

    `store`: the store that it mainly writes to. `bulk`: it may write or search for long. What is known of it before:
    `places` of entities that it changes, and about how many bytes it writes (`size`)."""

    store: str
    steps: Callable[[], Steps]
    bulk: bool = False
    places: tuple[Place, ...] = ()
    size: int = 0


Write = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | Expect | Recheck | Procedure
Step = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | Find | Lock


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of one write.

    `entity` is the JSON text of the entity after the write (before it, for a Delete); empty for a bulk change, an
    Expect and a Recheck. `rev` is its revision, `count` the number of entities changed."""

    entity: bytes
    rev: int
    count: int = 1


Steps = Generator[Step, Any, Written]


def do(write: Insert | Update | Delete | Upsert | UpdateMany | DeleteMany) -> Generator[Step, Any, Written]:
    """Do a write in a procedure: ``written = yield from do(Insert(…))``."""
    written: Written = yield write
    return written


def find(
    store: str, where: Filter, limit: int, only: tuple[str, ...] | None = None
) -> Generator[Step, Any, list[Entity]]:
    """Read in a procedure: ``entities = yield from find(…)``."""
    entities: list[Entity] = yield Find(store, where, limit, only)
    return entities


def pack(written: Sequence[Written]) -> bytes:
    """Return the outcome of a commit as JSON, one write per line."""
    # One call per write: a single call for all of them would hold the interpreter until it ends.
    lines = (orjson.dumps((w.entity.decode(), w.rev, w.count)) for w in written)
    return b"[" + b",\n".join(lines) + b"]"


def unpack(text: str) -> list[Written]:
    """Return the outcome of a commit from the text that `pack` made."""
    items = (item for line in text[1:-1].split(",\n") for item in orjson.loads(f"[{line}]"))
    return [Written(entity.encode(), rev, count) for entity, rev, count in items]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key under which a commit is done once: `key` identifies the request, `fingerprint` its content, `expires` is
    in Unix milliseconds."""

    key: str
    fingerprint: str
    expires: int


Definitions = StoreDefinition | Sequence[StoreDefinition] | None
"""The definition on which the values of a commit rely, or several: one for each store."""

BeforeLong = Callable[[], Awaitable[None] | None]
"""Takes a place for a long list. An awaitable if it must wait for that; the engine holds nothing meanwhile."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as JSON text.

    `body` is the whole array, or an iterator of its pieces when it is long; each piece ends with an entity, or with the
    array. `position` is the feed position of the
    content. `next` is the sort key of the last entity when more follow."""

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
        """The age in seconds of the oldest unhandled change that this process knows of; None while another process
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

    async def entities(self, store: str, query: Query) -> list[Entity]:
        """Return the result of `find` as Python values without a projection, for callers inside the hub. The query's
        limit bounds it."""

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

    async def groups_held(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        """Return the pairs of these stores and groups for which the store has an entity with that `group`."""

    async def count_duplicates(self, store: str, *paths: str, where: Filter = EVERYTHING) -> int:
        """Return how many of the entities that meet `where` share their strings or numbers at all the paths with
        another one of them. Arrays are not entered. Takes time in proportion to the size of the store."""

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
