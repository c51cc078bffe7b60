"""The possible values at a path of an entity, by the definition of its store and the rules of system fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from stores.field import Field
from stores.fields.base import Checker, Rejected
from stores.fields.inside import is_list
from stores.fields.settings import item_checker, most_items, spans_of
from stores.fields.spans import IDS, SCALARS, Span
from stores.numbers import with_whole_numbers
from stores.paths import Path
from stores.records import SYSTEM_FIELDS, SYSTEM_LISTS, Json, is_id
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class Possible:
    """The possible values at a path.

    `spans` hold all scalars. `fits` returns whether a value that is not null may be there, also as an element of a
    list. `null`: null may be there, or nothing; `always`: something is there in every entity. `lists`: lists may be
    there, and `most` is the most values of one, where it is known; `objects`: their elements may have fields. `single`:
    there is one scalar, null or nothing.
    """

    spans: tuple[Span, ...]
    fits: Callable[[Json], bool]
    null: bool = True
    always: bool = False
    lists: bool = False
    most: int | None = None
    objects: bool = False
    single: bool = False


def _anything(_: Json) -> bool:
    return True


ANYTHING: Final = Possible(SCALARS, _anything, lists=True, objects=True)
_ID: Final = Possible((IDS,), is_id, always=True, single=True)
_GREATEST: Final = 2**63 - 1


def _is_id_or_list(value: Json) -> bool:
    return all(map(is_id, value)) if isinstance(value, list) else is_id(value)


def _counts(value: Json) -> bool:
    whole = with_whole_numbers(value)
    return type(whole) is int and 0 <= whole <= _GREATEST


_IDS: Final = Possible((IDS,), _is_id_or_list, null=False, always=True, lists=True)
_NUMBER: Final = Possible((Span(0, _GREATEST),), _counts, null=False, always=True, single=True)
_SYSTEM: Final = {
    "_id": replace(_ID, null=False),
    "owner": _ID,
    "group": _ID,
    "access": _IDS,
    "branch": _IDS,
    "time": _NUMBER,
    "_at": _NUMBER,
    "_rev": _NUMBER,
}
_ELEMENT: Final = replace(_ID, null=False)


def possible_at(definition: StoreDefinition, path: Path, within: Path = ()) -> Possible:
    """Return the possible values at a path. With `within` it begins in an element of the list at that path; if it is
    empty, it means the element itself."""
    whole = within + path
    if whole[0] in SYSTEM_FIELDS:
        return _in_system_field(path, within)
    field = definition.field_at(whole)
    if field is None or field.kind.free:
        return _untyped(definition, path, within, field)
    spans = spans_of(field)
    if spans is None:
        return replace(_typed(definition, field, SCALARS, path, within), objects=True, single=False)
    return _typed(definition, field, spans, path, within)


def _in_system_field(path: Path, within: Path) -> Possible:
    if (within or path)[0] not in SYSTEM_LISTS:
        return ANYTHING if within or len(path) > 1 else _SYSTEM[path[0]]
    if within:
        return _ELEMENT
    return _SYSTEM[path[0]] if len(path) == 1 else replace(_ID, null=False, always=False, single=False)


def _untyped(definition: StoreDefinition, path: Path, within: Path, field: Field | None) -> Possible:
    """Return the possible values at a path without a type. Where a unique index is, there are no lists and no
    booleans."""
    if within:
        return ANYTHING
    dotted = ".".join(path)
    if dotted in definition.scalar_paths:
        scalars = tuple(span for span in SCALARS if not isinstance(span.low, bool))
        null = field is None or not field.required
        return Possible(scalars, lambda value: not isinstance(value, bool | list | dict), null, single=True)
    return replace(ANYTHING, lists=not any(p.startswith(f"{dotted}.") for p in definition.scalar_paths))


def _typed(definition: StoreDefinition, field: Field, spans: tuple[Span, ...], path: Path, within: Path) -> Possible:
    whole = within + path
    steps = [definition.field_at(whole[:end]) for end in range(len(within) + 1, len(whole) + 1)]
    # A position names an element of the list that its field is, and so does the empty path.
    in_element = not path or (len(whole) > 1 and definition.field_at(whole[:-1]) is field)
    through_lists = any(step is not None and is_list(step) for step in steps)
    filled = all(step is not None and step.required for step in steps)
    return Possible(
        spans=spans,
        fits=_fits(field, in_element=in_element),
        null=not filled,
        always=filled and not any(step is not None and is_list(step) for step in steps[:-1]) and not in_element,
        lists=is_list(field) and not in_element,
        most=most_items(field) if field.many else field.max_items,
        objects=bool(field.members),
        single=not through_lists and not field.members,
    )


def _fits(field: Field, *, in_element: bool) -> Callable[[Json], bool]:
    """Return whether a value may be in a field: as a whole, unless it is an element, or as an element of a list."""
    check: Checker = item_checker(field)
    whole: Checker = field.checker
    may_be_empty = not field.required or is_list(field)

    def fits(value: Any) -> bool:
        value = with_whole_numbers(value)  # in filters, 1.0 equals 1
        if value == "" and not may_be_empty:
            return False
        if isinstance(value, list):
            return not in_element and _passes(whole, value)
        return _passes(check, [value] if field.kind.listed else value)

    return fits


def _passes(check: Checker, value: Any) -> bool:
    try:
        check(value)
    except Rejected:
        return False
    return True
