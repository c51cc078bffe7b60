"""Cursors of lists that are sorted by a time, newest first: opaque texts that name an entity, and a direction.

The content is like that of Django REST framework's, in base64: ``p=<time>.<number>``, with ``r=1&`` before it to read
backwards, and ``&u=<stamp>`` behind it, the bound of the walk. A cursor stays valid when its entity is deleted: it
names a position between others.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Final, Self

from hub.dialects.listings.errors import InvalidCursor
from stores.query import Sort
from stores.records import Entity

_CONTENT: Final = re.compile(rb"(r=1&)?p=([0-9]{1,17})\.([0-9]{1,17})(?:&u=([0-9]{1,17}))?")
_LONGEST: Final = 100
_LEAST_ID: Final = "0" * 24
_GREATEST_ID: Final = "f" * 24


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position after the entity with this time and number, or before it if `backwards`. `until`: the greatest
    stamp that was there when the walk began; None if it is not known."""

    time: int
    number: int
    backwards: bool = False
    until: int | None = None

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the cursor in a parameter. Raises InvalidCursor."""
        try:
            content = b64decode(text, validate=True) if len(text) <= _LONGEST else b""
        except (binascii.Error, ValueError):
            raise InvalidCursor(text[:_LONGEST]) from None
        found = _CONTENT.fullmatch(content)
        cursor = None
        if found is not None:
            until = None if found[4] is None else int(found[4])
            cursor = cls(int(found[2]), int(found[3]), found[1] is not None, until)
        if cursor is None or cursor.encode() != text:
            raise InvalidCursor(text[:_LONGEST])
        return cursor

    def encode(self) -> str:
        bound = b"" if self.until is None else b"&u=%d" % self.until
        return b64encode(b"%bp=%d.%d%b" % (b"r=1&" if self.backwards else b"", self.time, self.number, bound)).decode()

    @property
    def after(self) -> tuple[Any, ...]:
        """The sort key after which a list begins in the order of `sort_by`."""
        return self.time, self.number, _GREATEST_ID if self.backwards else _LEAST_ID

    def around(self, entities: list[Entity], field: str) -> tuple[Cursor, Cursor]:
        """Return the cursors that lead on from a page which this one has led to: before it, and after it."""
        if entities:
            return before(entities[0], field), after(entities[-1], field)
        # Everything on that side is gone. The entity that this cursor names, if it is still there, is on the other one.
        if self.backwards:
            return self, Cursor(self.time, self.number + 1)
        return Cursor(self.time, max(0, self.number - 1), backwards=True), self


def before(entity: Entity, field: str) -> Cursor:
    return Cursor(entity[field], entity["number"], backwards=True)


def after(entity: Entity, field: str) -> Cursor:
    return Cursor(entity[field], entity["number"])


def sort_by(field: str, *, backwards: bool = False) -> tuple[Sort, ...]:
    """Return the order of a list: by a time, the newest first; the number decides between equal ones."""
    descending = not backwards
    return Sort((field,), descending), Sort(("number",), descending), Sort(("_id",), descending)
