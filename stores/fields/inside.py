"""Paths into the values of fields: which of them can lead to a value, by the types of the fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stores.fields.base import FieldSettings
from stores.paths import is_position
from stores.records import SYSTEM_LISTS


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """Why no entity has a value at a path, in words for people. `advice`: how to get there otherwise, if there is a
    way."""

    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}" if self.advice else self.reason


def dead_end(field: FieldSettings, path: Sequence[str]) -> DeadEnd | None:
    """Return why no entity has a value at a path that begins with `field`; None if one may have. Paths lead into
    objects, and into lists of them, with the position of an element or without."""
    in_list = is_list(field)
    for depth, segment in enumerate(path[1:], 1):
        if field.kind.free:
            return None
        if in_list and is_position(segment):
            in_list = False
        elif (inner := field.members.get(segment)) is not None:
            field, in_list = inner, is_list(inner)
        else:
            return _ended(field, ".".join(path[:depth]), segment)
    return None


def dead_end_in_system_field(path: Sequence[str]) -> DeadEnd | None:
    """Return the same for a path that begins with a system field."""
    at_element = path[0] in SYSTEM_LISTS and len(path) == 2 and is_position(path[1])
    return None if len(path) == 1 or at_element else DeadEnd(f"{path[0]} is a system field and has no fields")


def is_list(field: FieldSettings) -> bool:
    return field.many or field.kind.listed


def _ended(field: FieldSettings, location: str, segment: str) -> DeadEnd:
    if field.store:
        reason = f"{location} is a Reference, and a path does not reach into {field.store}"
        return DeadEnd(reason, f"ask {field.store} first, or use expand")
    if field.members:
        return DeadEnd(f"{location} has no field {segment!r}")
    return DeadEnd(f"{location} has no fields, because its type is {field.kind.name}")
