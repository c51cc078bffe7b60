"""Writes references as `hub import` reads them: `customer:number` is the number of the customer that `customer` refers
to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hub.cli.client import Client
from hub.cli.definitions import ID, REFERENCE, Document, Fields, fault_of_key, members
from hub.cli.output import Failure, grouped
from hub.cli.targets import Key, Targets, is_single
from stores.records import Entity, Json


@dataclass(frozen=True, slots=True)
class NamedReference:
    """A reference at `path` that is written as what `key` shows of its target. `column`: the column of a table that
    holds it, which is the list if the reference is inside a list of objects. `replaces`: whether it is written instead
    of what the reference holds, and not beside it."""

    path: str
    key: Key
    column: str
    replaces: bool

    @property
    def member(self) -> str:
        """The name that it has in its object."""
        return f"{self.path.rpartition('.')[2]}:{self.key.shown}"

    def holders(self, entity: Entity) -> Iterator[Entity]:
        """Yield the objects in an entity that have the reference."""
        *above, name = self.path.split(".")
        found: list[Any] = [entity]
        for segment in above:
            inner = [each[segment] for each in found if isinstance(each, dict) and segment in each]
            found = [item for value in inner for item in (value if isinstance(value, list) else [value])]
        yield from (each for each in found if isinstance(each, dict) and name in each)

    def values_in(self, holder: Entity) -> list[Any]:
        """Return the values of the reference in an object."""
        value = holder[self.path.rpartition(".")[2]]
        return value if isinstance(value, list) else [value]


class NamedReferences:
    """The references among the fields `asked` of an export that are written by unique fields of their targets.

    Raises Failure for a field by which no entity can be looked up."""

    def __init__(self, client: Client, fields: Fields, asked: Sequence[str]) -> None:
        self._targets = Targets(client, as_seen=True)
        self._lost = 0
        self._first = ""
        self._found = {name: each for name in asked if (each := _named(fields, name, asked))}

    @property
    def columns(self) -> frozenset[str]:
        """The names of columns that are those of references in the entity or in its objects."""
        return frozenset(name for name, each in self._found.items() if each.column == name)

    def column_of(self, name: str) -> str:
        """Return the column of a table that holds a field that is asked for."""
        return self._found[name].column if name in self._found else name

    def path_of(self, name: str) -> str:
        """Return the path at which the hub has a field that is asked for."""
        return self._found[name].path if name in self._found else name

    async def put(self, page: Sequence[Entity]) -> None:
        """Write the references of a page of entities so, in place. Those whose targets, or their values, the caller
        does not see are left out, and counted."""
        await self._look_up(page)
        named = [*self._found.values()]
        for entity in page:
            for each in named:
                for holder in [*each.holders(entity)]:
                    self._put(each, entity, holder)
            for each in named:
                if each.replaces:
                    for holder in [*each.holders(entity)]:
                        del holder[each.path.rpartition(".")[2]]

    def check_complete(self) -> None:
        """Raise Failure if references were left out."""
        if self._lost:
            count, verb = ("1 reference", "is") if self._lost == 1 else (f"{grouped(self._lost)} references", "are")
            raise Failure(f"{count} to entities without a value that you may see {verb} left out: first {self._first}")

    async def _look_up(self, page: Sequence[Entity]) -> None:
        wanted: dict[Key, list[Json]] = {}
        for each in self._found.values():
            if not each.key.is_stored:
                values = (
                    value for entity in page for holder in each.holders(entity) for value in each.values_in(holder)
                )
                wanted.setdefault(each.key, []).extend(value for value in values if is_single(value))
        await self._targets.look_up(wanted)

    def _shown(self, key: Key, value: Json) -> Json:
        if key.is_stored or value is None:
            return value
        return self._targets.shown(key, value) if is_single(value) else None

    def _put(self, each: NamedReference, entity: Entity, holder: Entity) -> None:
        values = each.values_in(holder)
        shown = [self._shown(each.key, value) for value in values]
        found = [value for value, had in zip(shown, values, strict=True) if value is not None or had is None]
        if lost := len(values) - len(found):
            self._first = self._first or f"{each.path}:{each.key.shown} of {entity['_id']}"
            self._lost += lost
        if isinstance(holder[each.path.rpartition(".")[2]], list):
            holder[each.member] = found
        elif found:
            holder[each.member] = found[0]


def _named(fields: Fields, name: str, asked: Sequence[str]) -> NamedReference | None:
    """Return the reference that a name such as `customer:number` asks for; None if it asks for a field. Raises
    Failure."""
    path, colon, shown = name.partition(":")
    documents = members(fields.documents)
    if not colon or _found_at(documents, name.split(".")):
        return None
    *_, reference = _found_at(documents, path.split(".")) or [{}]
    if reference.get("type") != REFERENCE:
        return None
    if fault := fault_of_key(fields.keys.get(reference["store"], {}), reference["store"], shown):
        raise Failure(f"--only {name}: {fault}")
    key = Key(reference["store"], reference.get("by") or ID, shown)
    return NamedReference(path, key, _column(documents, path) or name, path not in asked)


def _found_at(inner: Document, segments: Sequence[str]) -> list[Document]:
    """Return the fields on the way to a path, the last of which is there; empty without such a field."""
    found: list[Document] = []
    for segment in segments:
        if segment not in inner:
            return []
        found.append(inner[segment])
        inner = inner[segment]["members"]
    return found


def _column(documents: Document, path: str) -> str:
    """Return the path of the list of objects around a field; empty if there is none."""
    segments = path.split(".")
    above = _found_at(documents, segments)[:-1]
    depth = next((i for i, each in enumerate(above, 1) if each.get("many")), 0)
    return ".".join(segments[:depth])
