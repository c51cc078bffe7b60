"""The writes of a commit, their outcomes, and the bounds of their bytes.

Writes are not changed after their creation. The most frequent ones are not declared frozen all the same: making a
frozen one takes three to five times as long (1.1 µs for an Update).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Final

import orjson

from stores.bounds import Limit
from stores.computing import Compute
from stores.errors import InvalidQuery, UpsertTooLarge, Violation
from stores.paths import split, value_at
from stores.query import EVERYTHING, NOTHING, And, Equal, Filter
from stores.records import Change, Entity


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
# What is written gets `stamps`; a write that is skipped does not.


@dataclass(frozen=True, slots=True)
class Serial:
    """The next number of a counter, in a field of a new entity: numbers rise from `start`, and none is used twice.
    `counter` is the name of the counter, which all processes share. An entity that has a number already keeps it, and
    the counter goes on above it."""

    field: str
    counter: str
    start: int = 1

    def least(self, entities: Iterable[Entity]) -> int:
        """Return the least number that the counter may give, above those that the entities have already."""
        above: list[int] = [entity[self.field] + 1 for entity in entities if self._has_number(entity)]
        return max([self.start, *above])

    def lacking(self, entities: Iterable[Entity]) -> int:
        """Return how many of the entities have no number."""
        return sum(not self._has_number(entity) for entity in entities)

    def filled(self, entities: Iterable[Entity], first: int) -> list[Entity]:
        """Return the entities, those without a number with the numbers from `first` on."""
        numbers = count(first)
        return [e if self._has_number(e) else {**e, self.field: next(numbers)} for e in entities]

    def _has_number(self, entity: Entity) -> bool:
        return entity.get(self.field) is not None


@dataclass(frozen=True, slots=True)
class Stamp:
    """The time of an entity's last change, in one of its fields: Unix microseconds, taken within the commit.

    `counter` is the name of the last stamp, which all processes share. Each entity that a commit changes gets another
    one, greater than all that were given before: the time, or one more than the last. The commits of one counter take
    effect one after the other, so a reader who has seen a stamp never finds a lower one that is new to it. No stamp is
    below `start`."""

    field: str
    counter: str
    start: int = 0

    def first(self, last: int, now: int) -> int:
        """Return the next stamp after `last`, at the time `now` in Unix microseconds."""
        return max(now, last + 1, self.start)


def stamped_fields(stamps: Sequence[Stamp]) -> frozenset[str]:
    """Return the fields that a write sets if it alters the entity otherwise."""
    return frozenset(stamp.field for stamp in stamps) if stamps else _NO_FIELDS


_NO_FIELDS: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class Insert:
    """Insert `entity`: complete, with its system fields and `_rev` 1, except that it gets the numbers of `serials` that
    it lacks, and `stamps`."""

    store: str
    entity: Entity
    serials: tuple[Serial, ...] = ()
    stamps: tuple[Stamp, ...] = ()

    def goes_with(self, other: Insert) -> bool:
        """Return whether the two can be done by one statement."""
        return (self.store, self.serials, self.stamps) == (other.store, other.serials, other.stamps)


@dataclass(slots=True)
class Update:
    """Merge `changes` (top-level fields) into the entity, atomically. With `replace`, remove every other field except
    the system fields.

    `compute` does not go together with `replace`. In a change of a definition, `targets` are the stores to which it
    refers otherwise than before; None for all to which it refers. Raises NotFound when the entity does not meet
    `where`, StaleRevision when its revision is not in `revs`, and the InvalidEntity of `compute`."""

    store: str
    id: str
    changes: Entity
    where: Filter = EVERYTHING
    revs: Revisions | None = None
    replace: bool = False
    forced: bool = False
    compute: Compute | None = None
    targets: frozenset[str] | None = None
    stamps: tuple[Stamp, ...] = ()


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
    stamps: tuple[Stamp, ...] = ()

    @property
    def met(self) -> Filter:
        """The filter for the entity that it updates."""
        value = value_at(self.entity, self.key)
        return NOTHING if value is None else And((Equal(split(self.key), value), self.where))


MOST_UPSERT_BYTES: Annotated[int, Limit("request", "bytes of entities that upserts meet", "400")] = 67_108_864
"""Bytes of the entities that the upserts of one commit change, as they are stored before. An entity counts as often as
it is met: the outcome of each upsert holds it whole."""


MOST_BULK_BYTES: Annotated[int, Limit("request", "bytes that bulk changes write or delete", "400")] = 268_435_456
"""Bytes that the bulk changes of one commit may write or delete, the consequences of a deletion included: the matches
as they are stored, and the changes once for each. As many may be the fields that a bulk change computes, and what the
procedures of a commit find."""


class BulkBytes:
    """Bytes that `MOST_BULK_BYTES` bounds. The methods raise InvalidQuery."""

    def __init__(self) -> None:
        self.count = 0

    def add_matches(self, matches: int, size: int, changes: Entity | None = None) -> None:
        """Count a bulk change of so many entities, of `size` bytes together."""
        each = 0 if changes is None else len(orjson.dumps(changes))
        self.add(size + matches * each)

    def add(self, size: int) -> None:
        self.count += size
        if self.count > MOST_BULK_BYTES:
            text = f"The entities that match exceed {MOST_BULK_BYTES >> 20} MiB with the changes: narrow the filter."
            raise InvalidQuery("filter", text).at("MOST_BULK_BYTES")


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
    stamps: tuple[Stamp, ...] = ()


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


_PIECE: Final = 1_048_576
"""Bytes that are copied at once."""


@dataclass(slots=True)
class Written:
    """The outcome of one write.

    `entity` is the JSON text of the entity after the write (before it, for a Delete); empty for a bulk change, an
    Expect and a Recheck. `rev` is its revision, `count` the number of entities changed."""

    entity: bytes
    rev: int
    count: int = 1


def pack(written: Sequence[Written]) -> bytes:
    """Return the outcome of a commit as one text: a line of JSON with the length, revision and count of each write, and
    the entities behind it, one after the other."""
    head = orjson.dumps([(len(w.entity), w.rev, w.count) for w in written])
    # Joining bytes lets other threads run, which encoding sixty megabytes does not.
    return b"".join([head, b"\n", *(w.entity for w in written)])


def unpack(packed: bytes) -> list[Written]:
    """Return the outcome of a commit from the text that `pack` made, of this version or an earlier one."""
    if packed.startswith(b'[["') or packed == b"[]":
        return _unpack_lines(packed)
    start = packed.index(b"\n") + 1
    written: list[Written] = []
    for size, rev, changed in orjson.loads(packed[:start]):
        written.append(Written(_slice(packed, start, start + size), rev, changed))
        start += size
    return written


def _slice(text: bytes, start: int, end: int) -> bytes:
    """Return `text[start:end]`, copied piece by piece: a batch is one write of up to a hundred megabytes."""
    if end - start <= _PIECE:
        return text[start:end]
    return b"".join([text[at : min(at + _PIECE, end)] for at in range(start, end, _PIECE)])


def _unpack_lines(packed: bytes) -> list[Written]:
    """Return an outcome that an earlier version has stored, as an array of JSON with one write per line."""
    lines = (orjson.loads(line) for line in packed[1:-1].split(b",\n") if line)
    return [Written(entity.encode(), rev, changed) for entity, rev, changed in lines]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key under which a commit is done once: `key` identifies the request, `fingerprint` its content, `expires` is
    in Unix milliseconds."""

    key: str
    fingerprint: str
    expires: int
