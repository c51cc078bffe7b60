"""Replaces what rows refer to: `customer:number` has the number of a customer, the reference needs its `_id`.

The values of a batch of rows are looked up together. A row that refers to nothing is refused, like one that the hub
refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hub.cli.cells import Absent, pick
from hub.cli.client import Client
from hub.cli.definitions import ID, REFERENCE, Document, Fields, fault_of_key, field_of, members, references
from hub.cli.rows import Row
from hub.cli.tables import Refusal
from hub.cli.targets import Key, Targets, is_single
from stores.records import Entity, Json


class Unknown(Exception):
    """Nothing can be referred to by this value. The text says why."""


@dataclass(frozen=True, slots=True)
class ReferenceMember:
    """A member of a row, or of an object in it, that refers to entities: `holder[name]` becomes `holder[field]`.
    `path` leads to it."""

    holder: Entity
    name: str
    field: str
    path: str
    key: Key
    many: bool

    @property
    def values(self) -> list[Any]:
        value = self.holder[self.name]
        return value if self.many and isinstance(value, list) else [value]

    def put(self, values: list[Json]) -> None:
        """Replace the values. Raises Unknown if the reference has a value of its own."""
        if self.name == self.field:
            return
        is_list = self.many and self.holder[self.name] is not None
        del self.holder[self.name]
        if self.field in self.holder:
            raise Unknown(f"{self.field} has a value already")
        self.holder[self.field] = values if is_list else values[0]


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row that refers to entities, with the members that do."""

    number: int
    entity: Entity
    members: list[ReferenceMember]

    def closed(self) -> Row:
        return Row(self.number, orjson.dumps(self.entity))


class Lookups:
    """Looks up the references of an import into the store of `fields`."""

    def __init__(self, client: Client, fields: Fields, refuse: Callable[[Sequence[Refusal]], None]) -> None:
        self.targets = Targets(client)
        self.fields = fields
        self.refuse = refuse
        self._inner = members(fields.documents)
        self._own_keys = [*fields.keys.get(fields.store, ())]
        starts = [start for each in references(fields.documents) for start in self._starts(each)]
        self._pattern = re.compile(b"|".join(starts)) if starts else None

    async def parts(self, rows: Sequence[Row]) -> AsyncIterator[list[Row]]:
        """Yield the rows in parts to be sent one after the other, with what their references hold, and refuse the
        others. There is one part, unless a row refers to an earlier one of the same store."""
        part: list[Row | OpenRow] = []
        sent: set[tuple[str, Json]] = set()
        for row in map(self._opened, rows):
            if isinstance(row, OpenRow) and self._refers_to(row, sent):
                yield await self._closed(part)
                part, sent = [], set()
            part.append(row)
            if self._own_keys:
                entity = row.entity if isinstance(row, OpenRow) else orjson.loads(row.body)
                sent.update(self._named(entity))
        if part:
            yield await self._closed(part)

    def _starts(self, reference: Document) -> Iterator[bytes]:
        """Yield how the names of members begin, in JSON, that refer to entities."""
        name = re.escape(orjson.dumps(reference["id"])[:-1])
        yield name + b":"
        if self._is_own(reference):
            yield name + b'"'

    def _is_own(self, reference: Document) -> bool:
        """Return whether the reference holds a value of another row, perhaps of the same file."""
        return reference["store"] == self.fields.store and bool(reference.get("by"))

    def _opened(self, row: Row) -> Row | OpenRow:
        if self._pattern is None or not self._pattern.search(row.body):
            return row
        entity = orjson.loads(row.body)
        found = [*self._members(entity, self._inner)]
        return OpenRow(row.number, entity, found) if found else row

    def _members(self, value: Entity, inner: Mapping[str, Document], above: str = "") -> Iterator[ReferenceMember]:
        for name, item in value.items():
            each = inner.get(name)
            if each is None:
                head, colon, path = name.partition(":")
                each = inner.get(head, {}) if colon and path else {}
                if each.get("type") == REFERENCE:
                    key = Key(each["store"], path, each.get("by") or ID)
                    yield ReferenceMember(value, name, head, above + name, key, bool(each.get("many")))
            elif each["type"] == REFERENCE:
                if self._is_own(each):
                    key = Key(each["store"], each["by"], each["by"])
                    yield ReferenceMember(value, name, name, above + name, key, bool(each.get("many")))
            elif each["members"] and isinstance(item, dict):
                yield from self._members(item, each["members"], f"{above}{name}.")
            elif each["members"] and isinstance(item, list):
                for number, part in enumerate(item):
                    if isinstance(part, dict):
                        yield from self._members(part, each["members"], f"{above}{name}.{number}.")

    # Rows that refer to rows of the same file.

    def _refers_to(self, row: OpenRow, sent: set[tuple[str, Json]]) -> bool:
        own = [member for member in row.members if member.key.store == self.fields.store]
        return any(
            (member.key.path, self._canonical(member.key, value)) in sent
            for member in own
            for value in member.values
            if is_single(value)
        )

    def _named(self, entity: Entity) -> Iterator[tuple[str, Json]]:
        """Yield the values by which others may refer to an entity."""
        for path in self._own_keys:
            value = pick(entity, path)
            if not isinstance(value, Absent) and is_single(value):
                yield path, self._canonical(Key(self.fields.store, path, path), value)

    # Looking up.

    async def _closed(self, part: Sequence[Row | OpenRow]) -> list[Row]:
        """Return the rows with what their references hold, and refuse the others."""
        await self._look_up([row for row in part if isinstance(row, OpenRow)])
        rows: list[Row] = []
        refusals: list[Refusal] = []
        for row in part:
            if isinstance(row, OpenRow):
                faults = [*self._faults(row)]
                refusals += faults
                if faults:
                    continue
                row = row.closed()
            rows.append(row)
        if refusals:
            self.refuse(refusals)
        return rows

    def _faults(self, row: OpenRow) -> Iterator[Refusal]:
        """Replace what the row refers to. Yield a refusal for each member that refers to nothing."""
        for member in row.members:
            try:
                member.put([self._stored(member.key, value) for value in member.values])
            except Unknown as error:
                yield Refusal(row.number, member.path, str(error))

    def _stored(self, key: Key, value: Any) -> Json:
        """Return the value that the reference stores for a value of the file. Raises Unknown."""
        if value is None or (key.is_stored and key.path not in self._keys(key)):
            return value  # type: ignore[no-any-return]
        if fault := fault_of_key(self._keys(key), key.store, key.path):
            raise Unknown(fault)
        if not is_single(value):
            raise Unknown("not a single value")
        if key.is_stored:
            return value  # type: ignore[no-any-return]
        stored = self.targets.shown(key, self._canonical(key, value))
        if stored is None:
            raise Unknown(f"no entity of {key.store} has the {key.path} {json.dumps(value, ensure_ascii=False)}")
        return stored

    def _keys(self, key: Key) -> Mapping[str, Document]:
        return self.fields.keys.get(key.store, {})

    def _canonical(self, key: Key, value: Json) -> Json:
        """Return the value as it is stored in the target."""
        each = field_of(str(self._keys(key).get(key.path, {}).get("type")))
        return value if each is None else each.canonical(value)

    async def _look_up(self, rows: Sequence[OpenRow]) -> None:
        """Look up the values that are not known yet."""
        wanted: dict[Key, list[Json]] = {}
        for member in (member for row in rows for member in row.members):
            if not member.key.is_stored and member.key.path in self._keys(member.key):
                values = [self._canonical(member.key, value) for value in member.values if is_single(value)]
                wanted.setdefault(member.key, []).extend(values)
        await self.targets.look_up(wanted)
