"""The values that engines and their callers exchange: entities, their identifiers, and the records of their changes."""

from __future__ import annotations

import os
import re
import time as clock
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from sys import getsizeof
from threading import Lock
from typing import Any, Final, Literal

import orjson

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
Entity = dict[str, Any]
Operation = Literal["insert", "update", "delete", "lost"]
"""The kind of a change. ``lost`` is not a change of an entity: it says that changes of its store are missing here."""

SYSTEM_FIELDS: Final = ("_id", "owner", "group", "access", "branch", "time", "_at", "_rev")
"""Assigned by the hub on every entity; `_at` is the last update, `time` the creation, both Unix milliseconds."""

SYSTEM_LISTS: Final = ("access", "branch")
SYSTEM_NUMBERS: Final = ("time", "_at", "_rev")
"""The system fields that hold lists."""

WRITER_FIELD: Final = "_by"
"""The field in which an engine may store the id of the last writer. On every engine it is never shown or queried."""

_SYSTEM = frozenset(SYSTEM_FIELDS)
_ID = re.compile(r"[0-9a-f]{24}\Z")


def concerns_system_fields(changes: Mapping[str, Any]) -> bool:
    """Return whether the changes are of system fields only: they alter who may see the entity, not its content."""
    return changes.keys() <= _SYSTEM


def is_id(value: object) -> bool:
    """Return whether `value` is the text of an ObjectId as the hub writes it: 24 lower-case hexadecimal digits."""
    return isinstance(value, str) and _ID.match(value) is not None


_LAST_COUNT: Final = 0xFFFFFF


class IdSource:
    """Makes ObjectIds that grow within one process, in any thread.

    An id is the second, a random part per process, and a counter that starts again with each second. PyMongo's counter
    does not: at its end the ids of one second would begin again from the lowest. When the counter is full, or the clock
    goes back, the ids run ahead of the clock.
    """

    def __init__(self, clock: Callable[[], float] = clock.time) -> None:
        self._clock = clock
        self._start()

    def _start(self) -> None:
        self._lock = Lock()
        self._random = token_hex(5)
        self._begin(0)
        self._process = os.getpid()  # last, because another thread may come in between

    def new(self) -> str:
        if self._process != os.getpid():
            self._start()  # in a process that was forked: ids of its own
        now = int(self._clock())
        with self._lock:
            if now > self._second:
                self._begin(now)
            elif self._count == _LAST_COUNT:
                self._begin(self._second + 1)
            else:
                self._count += 1
            return f"{self._prefix}{self._count:06x}"

    def _begin(self, second: int) -> None:
        self._second = second
        self._prefix = f"{second:08x}{self._random}"
        self._count = 0


_ids: Final = IdSource()


def new_id() -> str:
    """Return a new ObjectId, greater than all that this process has made before."""
    return _ids.new()


def now_ms() -> int:
    """Return the Unix time in whole milliseconds."""
    return clock.time_ns() // 1_000_000


def now_us() -> int:
    """Return the Unix time in whole microseconds."""
    return clock.time_ns() // 1_000


class Change:
    """One committed change of one entity.

    `before` and `after` are whole entities: `before` is None for an insert, `after` for a delete. A ``lost`` change has
    neither, and no `id`: readers must read the store again.
    `by` is the id of the user who made the change, None when it was made outside the hub. `position` is opaque: it
    resumes the feed right after this change. `size` is the approximate size in memory, in bytes. `commit` is the same
    text for the changes of one commit; None for a change that is alone in its commit, or whose commit is unknown or too
    large (`stores.commits`). `ends_commit`: it is the last one of them.
    """

    __slots__ = (
        "_after",
        "_before",
        "_parsed",
        "by",
        "commit",
        "ends_commit",
        "id",
        "op",
        "position",
        "size",
        "store",
        "time",
    )

    def __init__(
        self,
        position: str,
        op: Operation,
        store: str,
        id: str,
        before: str | Entity | None,
        after: str | Entity | None,
        by: str | None,
        time: int,
        commit: str | None = None,
    ) -> None:
        self.position = position
        self.op = op
        self.store = store
        self.id = id
        self.by = by
        self.time = time
        self.commit = commit
        self.ends_commit = False
        self._before = before
        self._after = after
        self._parsed: Images | None = None
        # `getsizeof`, not `len`: a character takes up to four bytes.
        size = 500
        if isinstance(before, str):
            size += getsizeof(before)
        if isinstance(after, str):
            size += getsizeof(after)
        self.size = size

    def may_have_had(self, text: str) -> bool:
        """Return whether the entity before may contain a text, which JSON writes as it is; without parsing it."""
        before = self._before
        return text in before if isinstance(before, str) else before is not None

    # JSON text is parsed on first access: most changes have no subscriber.
    @property
    def before(self) -> Entity | None:
        return (self._parsed or self._parse())[0]

    @property
    def after(self) -> Entity | None:
        return (self._parsed or self._parse())[1]

    def _parse(self) -> Images:
        parsed = self._parsed = _image(self._before), _image(self._after)
        _parsed_changes.add(self)
        return parsed

    def forget(self) -> None:
        """Drop the parsed images and keep the text."""
        self._parsed = None

    def __repr__(self) -> str:
        return f"Change({self.position}, {self.op} {self.store}/{self.id})"


Images = tuple[Entity | None, Entity | None]


def _image(image: str | Entity | None) -> Entity | None:
    return orjson.loads(image) if isinstance(image, str) else image


class _ParsedChanges:
    """The changes that were parsed last; older ones drop their parsed images. Parsed images take ten times the memory
    of their text, and the bounds on kept changes count the text."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._changes: deque[Change] = deque()
        self._lock = Lock()  # reader threads and the loop add changes

    def add(self, change: Change) -> None:
        with self._lock:
            self._changes.append(change)
            self._bytes += change.size
            while self._bytes > self._most_bytes and len(self._changes) > 1:
                oldest = self._changes.popleft()
                self._bytes -= oldest.size
                oldest.forget()


_parsed_changes: Final = _ParsedChanges(2_097_152)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of an entity's audit trail. `changed` maps a top-level field to (old, new)."""

    time: int
    by: str | None
    op: Operation
    rev: int
    changed: Mapping[str, tuple[Json, Json]]


@dataclass(frozen=True, slots=True)
class History:
    """A page of an entity's audit trail, oldest first.

    `place` is the place of the last entry, and `next` the place after which the next page begins, None at the end.
    `final` is the last state of the entity if it has been deleted. `later` holds the requested fields that entries
    after this page change, with their values at the end of the page."""

    entries: list[HistoryEntry]
    next: str | None
    final: Entity | None
    later: Entity = field(default_factory=dict)
    place: str = ""


def difference(before: Entity | None, after: Entity | None) -> dict[str, tuple[Json, Json]]:
    """Return the top-level fields whose value differs, as (old, new); a missing field counts as null."""
    old, new = before or {}, after or {}
    if not old:
        return {name: (None, value) for name, value in new.items() if name != "_id" and value is not None}
    changed: dict[str, tuple[Json, Json]] = {}
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        # Most values are equal texts and numbers, for which a call of `same` takes longer than all the rest.
        if (a != b or type(a) is not type(b) or type(a) not in _PLAIN) and name != "_id" and not same(a, b):
            changed[name] = (a, b)
    return changed


_PLAIN: Final = frozenset({str, int, float})
"""Types of which equal values are the same JSON value."""


STAMPS: Final = frozenset({"_id", "_rev", "_at"})
"""System fields that are part of every write, whatever it changes."""


def alters(entity: Entity, changes: Entity, replace: bool = False, assigned: Collection[str] = frozenset()) -> bool:
    """Return whether merging `changes` alters the entity; with `replace`, whether replacing all fields but the system
    fields does, and those `assigned` by the engine."""
    for name, value in changes.items():
        if name not in STAMPS and (name not in entity or not same(entity[name], value)):
            return True
    return replace and any(n not in changes and n not in SYSTEM_FIELDS and n not in assigned for n in entity)


def same(a: Json, b: Json) -> bool:
    """Return whether two JSON values are equal. Unlike in Python `true` is not 1; 1 equals 1.0, as everywhere in the
    hub."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if not isinstance(a, dict | list):
        return a == b
    # Values that Python calls different are different, and values with equal texts are equal. The slow comparison value
    # by value is rarely needed.
    return a == b and (orjson.dumps(a) == orjson.dumps(b) or _same_within(a, b))


def _same_within(a: Json, b: Json) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return all(map(same, a, b))
    return same(a, b)
