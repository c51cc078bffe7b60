"""The values that cross the store boundary: entities, their identifiers, and the records of their changes."""

from __future__ import annotations

import re
import time as clock
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from threading import Lock
from typing import Any, Final, Literal

import orjson
from bson import ObjectId

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
Entity = dict[str, Any]
Operation = Literal["insert", "update", "delete", "lost"]
"""What a change did. ``lost`` is no change of an entity: from here on those of its store are not known in full."""

SYSTEM_FIELDS: Final = ("_id", "owner", "group", "access", "branch", "time", "_at", "_rev")
"""Assigned by the hub on every entity; `_at` is the last update, `time` the creation, both Unix milliseconds."""

WRITER_FIELD: Final = "_by"
"""Where an engine may keep who wrote an entity last. No entity shows it, and no query asks for it, on any engine."""

_SYSTEM = frozenset(SYSTEM_FIELDS)
_ID = re.compile(r"[0-9a-f]{24}\Z")


def concerns_system_fields(changes: Mapping[str, Any]) -> bool:
    """Whether the changes are of nothing else: of who may see the entity, not of what it holds."""
    return changes.keys() <= _SYSTEM


def is_id(value: object) -> bool:
    """Whether `value` is the text of an ObjectId in the one spelling that the hub gives out: 24 lower-case hex."""
    return isinstance(value, str) and _ID.match(value) is not None


def new_id() -> str:
    """A fresh ObjectId: seconds, a random part per process, and a counter, so it grows within one process."""
    return str(ObjectId())


def now_ms() -> int:
    """Unix time in whole milliseconds."""
    return clock.time_ns() // 1_000_000


class Change:
    """One committed change of one entity.

    `before` and `after` are whole entities, None where there is none (before an insert, after a delete). A ``lost`` one
    has neither, and no `id`: whoever followed the store must read it anew.
    `by` is the id of the user who made it, None when it was made outside the hub. `position` is opaque: it
    resumes the feed right after this change. `size` is what it takes in memory, in bytes, about.
    """

    __slots__ = ("_after", "_before", "_parsed", "by", "id", "op", "position", "size", "store", "time")

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
    ) -> None:
        self.position = position
        self.op = op
        self.store = store
        self.id = id
        self.by = by
        self.time = time
        self._before = before
        self._after = after
        self._parsed: Images | None = None
        # Not the length of the texts: a character takes up to four bytes.
        size = 500
        if isinstance(before, str):
            size += getsizeof(before)
        if isinstance(after, str):
            size += getsizeof(after)
        self.size = size

    # JSON text is parsed only when somebody looks: most changes pass by without a subscriber.
    @property
    def before(self) -> Entity | None:
        return (self._parsed or self._parse())[0]

    @property
    def after(self) -> Entity | None:
        return (self._parsed or self._parse())[1]

    def _parse(self) -> Images:
        parsed = self._parsed = _image(self._before), _image(self._after)
        _looked_at.add(self)
        return parsed

    def forget(self) -> None:
        """Keep no more than the text."""
        self._parsed = None

    def __repr__(self) -> str:
        return f"Change({self.position}, {self.op} {self.store}/{self.id})"


Images = tuple[Entity | None, Entity | None]


def _image(image: str | Entity | None) -> Entity | None:
    return orjson.loads(image) if isinstance(image, str) else image


class _LookedAt:
    """The changes that hold their images parsed, the newest: as objects they take ten times the memory of their text,
    and whoever keeps changes counts the text."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._changes: deque[Change] = deque()
        self._lock = Lock()  # of reader threads and the loop

    def add(self, change: Change) -> None:
        with self._lock:
            self._changes.append(change)
            self._bytes += change.size
            while self._bytes > self._most_bytes and len(self._changes) > 1:
                oldest = self._changes.popleft()
                self._bytes -= oldest.size
                oldest.forget()


_looked_at: Final = _LookedAt(2_097_152)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of an entity's audit trail. `changed` maps a top-level field to (old, new)."""

    time: int
    by: str | None
    op: Operation
    rev: int
    changed: Mapping[str, tuple[Json, Json]]


@dataclass(frozen=True, slots=True)
class History:
    """A page of an entity's audit trail, oldest first. `next` is the place to go on after, None at the end; `place` is
    that of the last entry. `final` is the entity as it was at the end of the whole trail if it has been deleted.
    `later` has, of the fields asked for, those that entries beyond this page change, as they were at its end."""

    entries: list[HistoryEntry]
    next: str | None
    final: Entity | None
    later: Entity = field(default_factory=dict)
    place: str = ""


def difference(before: Entity | None, after: Entity | None) -> dict[str, tuple[Json, Json]]:
    """Top-level fields whose value differs, as (old, new); a missing field counts as null."""
    old, new = before or {}, after or {}
    names = dict.fromkeys([*old, *new])
    return {n: (old.get(n), new.get(n)) for n in names if n != "_id" and not same(old.get(n), new.get(n))}


STAMPS: Final = frozenset({"_id", "_rev", "_at"})
"""System fields that a write brings along, whatever it changes."""


def alters(entity: Entity, changes: Entity, replace: bool = False) -> bool:
    """Whether merging `changes`, or with `replace` putting them in place of all but the system fields, alters the
    entity."""
    for name, value in changes.items():
        if name not in STAMPS and (name not in entity or not same(entity[name], value)):
            return True
    return replace and any(n not in changes and n not in SYSTEM_FIELDS for n in entity)


def same(a: Json, b: Json) -> bool:
    """JSON equality: unlike Python's, `true` is not 1 (but 1 is 1.0, as everywhere in the hub)."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if not isinstance(a, dict | list):
        return a == b
    # What differs in Python differs, and what has the same text is the same: rarely each value has to be looked at.
    return a == b and (orjson.dumps(a) == orjson.dumps(b) or _same_within(a, b))


def _same_within(a: Json, b: Json) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return all(map(same, a, b))
    return same(a, b)
