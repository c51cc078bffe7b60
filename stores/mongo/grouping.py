"""Aggregations for which the server collects what belongs together: it groups the documents by their whole values in
`by`, and each of its groups brings a list of the values at each measured path.

The groups of an entity depend on these whole values alone, so `stores.accumulator` takes all documents of a group
of the server in one step. Lists of values take a fraction of the bytes and the time of documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

from bson import Decimal128

from stores.accumulator import Accumulator, are_numbers, elements_of, values_at
from stores.aggregation import Aggregation
from stores.bounds import Limit
from stores.mongo.codec import Document, entity_of, json_of
from stores.mongo.compile import REVISION, compile_filter, field_name
from stores.mongo.documents import document_groups
from stores.mongo.sizes import LARGE
from stores.paths import Path
from stores.query import Filter
from stores.records import Entity
from stores.steps import PARSE_SHIFT, Spend

MOST_GROUPED: Annotated[int, Limit("aggregation on MongoDB", "groups of the server", "documents are read")] = 10_000
"""Groups of the server. Those of the aggregation are fewer where values are arrays."""

VALUES_AT_ONCE: Final = 2_000
"""Values of one path in one document of the reply: of numbers 26 kB. Decoding a much longer array in one call would
hold the interpreter, and with it the event loop."""

_DEEPEST: Final = 8
"""Segments of a path in the command, which names every prefix of the path several times."""

_MISSING: Final = "$$REMOVE"


class CannotGroup(Exception):
    """The server's groups are too many or too large, or do not say enough of their documents."""


def is_groupable(aggregation: Aggregation) -> bool:
    """Return whether the server can collect the values.

    Not by periods, of which it would have to group all the times; by `_id`, which no two documents have in common; nor
    where the hub shows something else than the value in the document; nor by deep paths. By two paths inside of one
    field an entity would have to be put together from parts of the same arrays. A decimal of another program inside of
    an array or object in `by` counts as equal to a number."""
    by = [dimension.path for dimension in aggregation.by]
    own = [path for path in by if path != (REVISION,)]
    return (
        all(dimension.unit is None for dimension in aggregation.by)
        and all(len(path) <= _DEEPEST for path in aggregation.paths)
        and len({path[0] for path in by}) == len(by)
        and not any(path[0] in ("_id", REVISION) for path in (*own, *aggregation.measured))
    )


def pipeline(where: Filter, aggregation: Aggregation) -> list[Document]:
    """Return the stages of the command. Its documents are ``{"_id": <values in by>, "n": <documents>, "s0": …,
    "part": {"at": 0, "m0": [<values>], "w0": [<arrays inside of the path>]}}``; the next part of the same group is at
    VALUES_AT_ONCE. Without measured paths there is no `part`."""
    group: Document = {"_id": _key(aggregation), "n": {"$sum": 1}}
    # A sum tells whether there is a decimal among the numbers: see `_Group.key`.
    sums = {f"s{n}": {"$sum": _value(dimension.path)} for n, dimension in enumerate(aggregation.by)}
    lists: Document = {}
    for n, path in enumerate(aggregation.measured):
        lists[f"m{n}"] = {"$push": _outside_arrays(path)}
        if len(path) > 1:
            lists[f"w{n}"] = {"$push": _inside_array(path)}
    stages: list[Document] = [
        {"$match": compile_filter(where)},
        {"$group": group | sums | lists},
        {"$limit": MOST_GROUPED + 1},
    ]
    return stages + _parts([*sums], [*lists]) if lists else stages


def _parts(names: Sequence[str], lists: Sequence[str]) -> list[Document]:
    """Return the stages that divide long lists."""
    ends = {"$max": [1, *({"$size": f"${name}"} for name in lists)]}
    part = {name: {"$slice": [f"${name}", "$$this", VALUES_AT_ONCE]} for name in lists}
    parts = {"$map": {"input": {"$range": [0, ends, VALUES_AT_ONCE]}, "in": {"at": "$$this", **part}}}
    return [{"$project": {"n": 1, **dict.fromkeys(names, 1), "part": parts}}, {"$unwind": "$part"}]


def _key(aggregation: Aggregation) -> Any:
    """Return the expression of the values in `by`."""
    if not aggregation.by:
        return None
    if is_plain(aggregation):
        return _value(aggregation.by[0].path)
    key: Document = {}
    for n, dimension in enumerate(aggregation.by):
        key[f"v{n}"] = _value(dimension.path)
        if len(dimension.path) > 1:
            key[f"w{n}"] = _inside_array(dimension.path)
    return key


def is_plain(aggregation: Aggregation) -> bool:
    """Return whether the key is the value of one field."""
    return len(aggregation.by) == 1 and len(aggregation.by[0].path) == 1


def _value(path: Path) -> str:
    return f"${field_name(path)}"


def _outside_arrays(path: Path) -> Any:
    """Return the expression of the value at a path, which is missing if there is an array in the middle."""
    if len(path) == 1:
        return _value(path)
    return {"$cond": [{"$or": [{"$isArray": array} for array in _before(path)]}, _MISSING, _value(path)]}


def _inside_array(path: Path) -> Any:
    """Return the expression of the array in the middle of a path, which is missing if there is none: ``{"at": <number
    of segments>, "is": <the array>}``. Of its elements there is what the path needs."""
    cases = []
    for at, array in enumerate(_before(path), 1):
        is_object = {"$eq": [{"$type": "$$this"}, "object"]}
        element = {"$cond": [is_object, {path[at]: f"$$this.{path[at]}"}, None]}
        found = {"at": at, "is": {"$map": {"input": array, "in": element}}}
        cases.append({"case": {"$isArray": array}, "then": found})
    return {"$switch": {"branches": cases, "default": _MISSING}}


def _before(path: Path) -> Iterator[str]:
    """Yield the values on the way to that of a path. Each stands for what is there only if those before it are no
    arrays."""
    return (_value(path[:n]) for n in range(1, len(path)))


class GroupReader:
    """Adds documents of the reply to an accumulator. `add` raises CannotGroup."""

    def __init__(self, aggregation: Aggregation, accumulator: Accumulator, spend: Spend) -> None:
        self._accumulator = accumulator
        self._spend = spend
        self._by = [dimension.path for dimension in aggregation.by]
        self._is_plain = is_plain(aggregation)
        self._count = 0

    def add(self, rows: Sequence[Any]) -> None:
        sizes = [len(row.raw) for row in rows]
        if sizes and max(sizes) > LARGE:
            raise CannotGroup
        self._spend(sum(sizes) >> PARSE_SHIFT)
        for documents in document_groups(rows):
            for document in documents:
                self._add(document)

    def _add(self, found: Document) -> None:
        part = found.get("part", {})
        count = 0
        if not part.get("at"):
            count = int(found["n"])
            self._count += 1
        # A decimal is shown as a text, but equal to a number for the server, so its group would hide it.
        has_decimal = any(isinstance(found[f"s{n}"], Decimal128) for n in range(len(self._by)))
        if has_decimal or self._count > MOST_GROUPED:
            raise CannotGroup
        read = [self._values(part, n, path) for n, path in enumerate(self._accumulator.measured)]
        self._accumulator.add_alike(self._entity(found["_id"]), count, read)

    def _entity(self, key: Any) -> Entity:
        """Return an entity that has the values in `by` of all those in the group."""
        if self._is_plain:
            return entity_of({self._by[0][0]: key})
        document: Document = {}
        for n, path in enumerate(self._by):
            inside = key.get(f"w{n}")
            document |= _nested(path, key.get(f"v{n}")) if inside is None else _around(path, inside)
        return entity_of(document)

    def _values(self, part: Document, n: int, path: Path) -> Sequence[Any]:
        """Return the values at a measured path."""
        values: list[Any] = part[f"m{n}"]
        if not (are_numbers(values) and math.isfinite(sum(values))):
            values = elements_of(json_of(values), self._spend)
        for inside in part.get(f"w{n}", ()):
            values += values_at(json_of(_around(path, inside)), path, self._spend)
        return values


def _around(path: Path, inside: Document) -> Document:
    """Return a document with the array in the middle of a path (see `_inside_array`)."""
    return _nested(path[: inside["at"]], inside["is"])


def _nested(path: Path, value: Any) -> Document:
    for segment in reversed(path):
        value = {segment: value}
    return value  # type: ignore[no-any-return]
