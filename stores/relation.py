"""Relations between stores: the fields of type Reference, and the values in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from stores.fields.base import FieldSettings
from stores.paths import Path
from stores.records import Entity, Json

Value = str | int
OnDelete = Literal["refuse", "clear", "cascade"]
ON_DELETE: Final[tuple[OnDelete, ...]] = ("refuse", "clear", "cascade")


@dataclass(frozen=True, slots=True)
class Relation:
    """Entities of `store` refer to entities of `target`: `path` leads to the value of their `by`, or to a list of them
    with `many`. It may lead through objects and lists of objects. `defaults` are the values that the definition itself
    may put there."""

    store: str
    path: Path
    target: str
    by: str = "_id"
    many: bool = False
    on_delete: OnDelete = "refuse"
    defaults: frozenset[Value] = field(default=frozenset(), compare=False, repr=False)

    @property
    def field(self) -> str:
        """The top-level field that holds the references."""
        return self.path[0]

    def locations(self, entity: Entity) -> Iterator[tuple[str, Value]]:
        """Yield each value that the entity refers to with its location, such as ``lines.2.product``."""
        return _locations(entity, self.path, "")

    def values(self, entity: Entity) -> frozenset[Value]:
        return values_along(entity, self.path)

    def replace(self, entity: Entity, replacement: Callable[[Value], Any]) -> None:
        """Put in the place of each value that the entity refers to what `replacement` returns for it."""
        name = self.path[0]
        if len(self.path) == 1 and type(value := entity.get(name)) is str:  # the usual case, in a fifth of the time
            entity[name] = replacement(value)
        else:
            _replace(entity, self.path, replacement)

    def cleared(self, entity: Entity, gone: Collection[Value]) -> Json:
        """Return the top-level field without references to `gone`: null instead, or a list without them."""
        return _cleared(entity[self.field], self.path[1:], gone)


def values_along(entity: Entity, path: Path) -> frozenset[Value]:
    """Return the references at a path, which may lead through objects and lists, and end in a list."""
    if len(path) == 1 and type(value := entity.get(path[0])) is str:  # the usual case, in a fifth of the time
        return frozenset((value,))
    return frozenset(value for _, value in _locations(entity, path, ""))


def default_references(fields: Sequence[FieldSettings], path: Path) -> Iterator[tuple[str, frozenset[Value]]]:
    """Yield the locations of the defaults that fill a reference (``fields.0.default``), with the values that they put
    there: its own default, and those of the objects around it."""
    prefix = ""
    for depth, name in enumerate(path):
        number, found = next((i, each) for i, each in enumerate(fields) if each.id == name)
        prefix = f"{prefix}fields.{number}."
        if found.default is not None:
            yield f"{prefix}default", values_along({name: found.canonical(found.default)}, path[depth:])
        fields = found.fields


def key_types(fields: Iterable[FieldSettings]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each field by which references refer, as (store, field), and its type, which is empty where it is not
    known. A key that is a reference by a key itself leads to further ones."""
    for each in fields:
        if each.store and each.by:
            yield (each.store, each.by), "" if each.key is None else each.key.kind.name
        yield from key_types(each.fields if each.key is None else (each.key,))


def _locations(value: Json, path: Path, prefix: str) -> Iterator[tuple[str, Value]]:
    if isinstance(value, list):
        for number, element in enumerate(value):
            yield from _locations(element, path, f"{prefix}{number}." if path else f"{prefix}.{number}")
    elif path:
        if isinstance(value, dict) and path[0] in value:
            name, rest = path[0], path[1:]
            yield from _locations(value[name], rest, f"{prefix}{name}." if rest else f"{prefix}{name}")
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield prefix, value


def _replace(value: Any, path: Path, replacement: Callable[[Value], Any]) -> Any:
    if isinstance(value, list):
        for number, element in enumerate(value):
            value[number] = _replace(element, path, replacement)
    elif path:
        if isinstance(value, dict) and path[0] in value:
            value[path[0]] = _replace(value[path[0]], path[1:], replacement)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        return replacement(value)
    return value


def _cleared(value: Json, path: Path, gone: Collection[Value]) -> Json:
    if isinstance(value, list):
        if path:
            return [_cleared(element, path, gone) for element in value]
        return [element for element in value if isinstance(element, dict | list) or element not in gone]
    if path:
        if not isinstance(value, dict) or path[0] not in value:
            return value
        return {**value, path[0]: _cleared(value[path[0]], path[1:], gone)}
    return None if not isinstance(value, dict) and value in gone else value
