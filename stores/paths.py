"""The values that a dotted path reaches inside an entity, through objects and arrays, as in MongoDB.

Source: MongoDB's `matcher/path.cpp` (matching) and `index/btree_key_generator.cpp` (sorting). Property tests compare
this module with MongoDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from stores.errors import InvalidQuery
from stores.ordering import MISSING_LEAF
from stores.records import Entity
from stores.steps import Spend, free

Path = tuple[str, ...]

MISSING: Final = object()
"""The value of a path that leads nowhere; equality treats it as null."""


def split(path: str) -> Path:
    return tuple(path.split("."))


def is_position(segment: str) -> bool:
    """Return whether the segment of a path may be the position of an element in an array: ASCII digits. Others, such
    as `²`, are digits for Python too, but names in a database."""
    return segment.isascii() and segment.isdigit()


def value_at(entity: Mapping[str, Any], path: str) -> Any:
    """Return the scalar at a dotted path through objects, or None."""
    value: Any = entity
    for segment in path.split("."):
        value = value.get(segment) if isinstance(value, Mapping) else None
    return None if isinstance(value, dict | list) else value


ELEMENT_STEPS: Final = 4
"""The cost in steps of one element of an array in the middle of a path."""


def elements(entity: Entity, path: Path, *, into_leaf: bool = True, spend: Spend = free) -> Iterator[Any]:
    """Yield the values at `path`. A condition on `path` holds when it holds for one of them.

    In an array in the middle of the path, the path continues in each element that is an object, and in the element that
    a numeric segment names. An array at the end yields its elements and then itself, or only itself when `into_leaf` is
    False. `spend` is called with the cost of each array.
    """
    node: Any = entity
    for depth, segment in enumerate(path):
        if not isinstance(node, dict) or segment not in node:
            yield MISSING
            return
        node = node[segment]
        if isinstance(node, list):
            yield from _in_array(node, path[depth + 1 :], into_leaf, spend)
            return
    yield node


def _in_array(array: list[Any], rest: Path, into_leaf: bool, spend: Spend) -> Iterator[Any]:
    if not rest:
        if into_leaf:
            spend(2 * len(array))
            yield from array
        yield array
        return
    spend(ELEMENT_STEPS * len(array))
    for position, element in enumerate(array):
        if isinstance(element, dict):
            yield from elements(element, rest, into_leaf=into_leaf, spend=spend)
        if rest[0] == str(position):
            yield from _at_position(element, rest[1:], into_leaf, spend)


def _at_position(element: Any, rest: Path, into_leaf: bool, spend: Spend) -> Iterator[Any]:
    if not rest:  # an array that a numeric segment names is one value, not many
        yield element
    elif isinstance(element, dict):
        yield from elements(element, rest, into_leaf=into_leaf, spend=spend)
    elif isinstance(element, list):
        yield from _in_array(element, rest, into_leaf, spend)


def sort_values(entity: Entity, paths: Sequence[Path]) -> Iterator[tuple[Any, ...]]:
    """Yield every combination of the entity's values at `paths`. The entity sorts by the lowest of them.

    Raises InvalidQuery when two paths lead into different arrays of the entity, as MongoDB does.
    """
    return _combinations(entity, list(paths), [None] * len(paths))


def plain_values(entity: Entity, paths: Sequence[Path]) -> tuple[Any, ...] | None:
    """Return the entity's values at `paths` if there is no array on any of them, the usual case; otherwise None."""
    values: list[Any] = []
    for path in paths:
        value = entity.get(path[0]) if len(path) == 1 else _until_array(entity, path)[0]
        if isinstance(value, list):
            return None
        values.append(value)
    return tuple(values)


def values_at(entity: Entity, path: Path) -> list[Any]:
    """Return the values by which the entity can be sorted on one path."""
    found: list[Any] = []
    _gather(entity, path, found)
    return found


def _gather(node: Any, path: Path, found: list[Any]) -> None:
    value, rest = _until_array(node, path)
    if not isinstance(value, list):
        found.append(value)
    elif not rest:
        found += value or [MISSING_LEAF]
    else:
        for element in value or [None]:
            if isinstance(element, dict):
                _gather(element, rest, found)
            else:
                found.append(None)


def _combinations(node: Entity, open_paths: list[Path | None], values: list[Any]) -> Iterator[tuple[Any, ...]]:
    array: list[Any] | None = None
    inside: list[int] = []
    for i, path in enumerate(open_paths):
        if path is None:
            continue
        value, rest = _until_array(node, path)
        if not isinstance(value, list):
            values[i], open_paths[i] = value, None
            continue
        if array is not None and array is not value:
            raise InvalidQuery("sort", "cannot sort by two different arrays of one entity")
        array, open_paths[i] = value, rest
        inside.append(i)
    if array is None:
        yield tuple(values)
        return
    for element in array or [MISSING_LEAF]:
        yield from _combinations(*_enter(element, inside, list(open_paths), list(values)))


def _enter(
    element: Any, inside: list[int], open_paths: list[Path | None], values: list[Any]
) -> tuple[Entity, list[Path | None], list[Any]]:
    for i in inside:
        if open_paths[i] == ():
            values[i], open_paths[i] = element, None
    return (element if isinstance(element, dict) else {}), open_paths, values


def _until_array(node: Any, path: Path) -> tuple[Any, Path]:
    """Follow `path` to its value (None if there is none), or to the first array and the rest of the path."""
    for depth, segment in enumerate(path):
        if not isinstance(node, dict):
            return None, ()
        node = node.get(segment)
        if isinstance(node, list):
            return node, path[depth + 1 :]
    return node, ()


def parallel_arrays(entity: Entity, paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return two of the paths that lead into different arrays of the entity, the later one first, or None. An entity
    with such paths cannot be sorted by them, and no index over both can hold it."""
    return _parallel(entity, [(path, path) for path in paths])


def _parallel(node: Any, open_paths: Sequence[tuple[Path, Path]]) -> tuple[Path, Path] | None:
    """See `parallel_arrays`. Each path comes with the part of it that begins at `node`."""
    array: list[Any] | None = None
    first: Path = ()
    inside: list[tuple[Path, Path]] = []
    for path, part in open_paths:
        value, rest = _until_array(node, part)
        if not isinstance(value, list):
            continue
        if array is None:
            array, first = value, path
        elif array is not value:
            return path, first
        if rest:
            inside.append((path, rest))
    if array is None or len(inside) < 2:
        return None
    elements = (element for element in array if isinstance(element, dict))
    return next((found for element in elements if (found := _parallel(element, inside)) is not None), None)


def traverses_array(entity: Entity, path: Path) -> bool:
    """Return whether there is an array on `path` or at its end."""
    return isinstance(_until_array(entity, path)[0], list)


def is_single(entity: Entity, path: str) -> bool:
    """Return whether a unique index would hold one value of the entity at most: no object, array or boolean."""
    value: Any = entity
    for segment in path.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(segment)
    return not isinstance(value, dict | list | bool)
