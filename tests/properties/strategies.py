"""Strategies of entities and queries: few names and values, so that filters match, including unusual ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from stores import query
from stores.parse import parse_filter
from stores.query import ContainsFolded, Equal, Filter, In, Or, Projection, Query, Sort
from stores.records import Entity, Json

QUOTED = "q\" \\'[0]é😀"
TOP = ["a", "b", "c", QUOTED]
INNER = ["a", "b", "0", "1", "ü x"]
INDEXED = ("a", "b", "a.b", "b.a", QUOTED)
USERS = [f"5f00000000000000000000a{n}" for n in range(3)]
GROUPS = [f"5f00000000000000000000b{n}" for n in range(3)]
SYSTEM = ["time", "owner", "access", "group", "_rev"]

NUMBERS: list[Json] = [
    0, 1, 2, 3, -1, 10, 1.0, 2.0, 0.0, -0.0, 0.5, -1.5, 2.5,
    2**53 - 1, 2**53, 2**53 + 1, 2.0**53, -(2**53) - 1, 2**31, 2**63 - 1, -(2**63), 2.0**63, -(2.0**63),
    2**63 - 512, 1e20, 1e300, -1e300, 5e-324, 0.1, 1.7976931348623157e308,
]  # fmt: skip
TEXTS = [
    "", "a", "A", "b", "ab", "aB", "abc", "1", "true", "null", "é", "É", "e\u0301", "ß", "ẞ", "ss", "Σ", "ς", "İ", "i",
    "K", "\u212a", "😀", "😀b", "\uffff", "%", "_", "a%", ".*", "[a", "\\", '"', "'", "$a", "a.b", "a\nb", "\u2028",
    " a", "a ", USERS[1],
]  # fmt: skip
SCALARS: list[Json] = [None, None, True, False, *NUMBERS, *TEXTS]

numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3)
texts = st.sampled_from(TEXTS)
common = st.sampled_from([0, 1, 2, 1.0, "a", "b", "ab", None, True, False])
rare = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
scalars = st.one_of(common, common, common, common, st.sampled_from(SCALARS), st.sampled_from(SCALARS), rare)


def values(depth: int) -> st.SearchStrategy[Json]:
    """Mostly scalars, and arrays and objects of up to `depth` levels."""
    if depth == 0:
        return scalars
    inner = values(depth - 1)
    arrays = st.lists(inner, max_size=3)
    objects = st.dictionaries(st.sampled_from(INNER), inner, max_size=3)
    return st.one_of(scalars, scalars, scalars, arrays, objects)


shallow, deep = values(1), values(3)
users, groups = st.sampled_from(USERS), st.sampled_from(GROUPS)


@st.composite
def entities(draw: st.DrawFn, flat: bool) -> Entity:
    """One entity without its id. A flat entity has only scalars, like most real ones."""
    content = scalars if flat else deep
    fields = draw(st.dictionaries(st.sampled_from(TOP), content, max_size=4))
    return fields | {
        "owner": draw(users),
        "group": draw(st.none() | groups),
        "access": draw(st.lists(users, max_size=2)),
        "branch": draw(st.lists(groups, max_size=2)),
        "time": draw(st.integers(0, 5)),
        "_at": draw(st.integers(0, 5)),
        "_rev": 1,
    }


@st.composite
def data_sets(draw: st.DrawFn) -> list[Entity]:
    """20 to 40 entities. In one of three data sets all are flat, so that plain indexes are tested too."""
    flat = draw(st.sampled_from([True, False, False]))
    made = draw(st.lists(entities(flat), min_size=20, max_size=40))
    return [{"_id": f"5f{n:022x}"} | e for n, e in enumerate(made)]


names = st.sampled_from(["a", "a", "b", "c", QUOTED])
segments = st.sampled_from(INNER)
paths = st.one_of(
    names,
    names,
    st.builds("{}.{}".format, names, segments),
    st.builds("{}.{}.{}".format, names, segments, segments),
    st.sampled_from(["a.b", "b.a", "a.0", "a.0.b", "a.b.0", "a.0.0", "branch", *SYSTEM]),
)
sort_paths = st.one_of(
    names,
    st.sampled_from(["a.b", "b.a", "a.a", "c.b", "a.b.a", f"{QUOTED}.a", "a.ü x", "_id", *SYSTEM]),
)
operands = st.one_of(scalars, scalars, shallow)
COMPARISONS = ["$gt", "$gte", "$lt", "$lte"]

simple_operators = st.one_of(
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$eq", "$ne"]), operands),
    st.builds(lambda op, v: {op: v}, st.sampled_from(COMPARISONS), scalars),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$in", "$nin"]), st.lists(operands, max_size=3)),
    st.builds(lambda v: {"$size": v}, st.integers(0, 3)),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$contains", "$startswith"]), texts),
    st.builds(lambda low, high: {"$gte": low, "$lt": high}, numbers, numbers),
)
field_operators = st.one_of(
    simple_operators,
    simple_operators,
    simple_operators,
    st.builds(lambda v: {"$exists": v}, st.booleans()),
    st.builds(lambda v: {"$all": v}, st.lists(operands, max_size=2)),
)


def conditions(depth: int) -> st.SearchStrategy[Any]:
    """The conditions on a path."""
    if depth == 0:
        return st.one_of(operands, field_operators)
    inside = st.one_of(elements(depth - 1), documents(depth - 1, segments))
    element_match = st.builds(lambda v: {"$elemMatch": v}, inside)
    return st.one_of(
        operands,
        field_operators,
        field_operators,
        element_match,
        st.builds(lambda v: {"$not": v}, field_operators | element_match),
    )


def elements(depth: int) -> st.SearchStrategy[Any]:
    """Operators on the element of an array itself."""
    if depth == 0:
        return simple_operators
    return st.one_of(
        simple_operators,
        st.builds(lambda v: {"$not": v}, simple_operators),
        st.builds(lambda v: {"$elemMatch": v}, elements(depth - 1)),
    )


def documents(depth: int, at: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Whole filter documents over the paths `at`."""
    fields = st.dictionaries(at, conditions(min(depth, 2)), min_size=1, max_size=2)
    if depth == 0:
        return fields
    inner = st.lists(documents(depth - 1, at), min_size=1, max_size=3)
    logical = st.builds(lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), inner)
    return st.one_of(fields, fields, logical)


ids = st.integers(0, 40).map(lambda n: f"5f{n:022x}")
by_id = st.one_of(
    st.builds(lambda v: {"_id": v}, ids),
    st.builds(lambda op, v: {"_id": {op: v}}, st.sampled_from([*COMPARISONS, "$ne"]), ids),
    st.builds(lambda op, v: {"_id": {op: v}}, st.sampled_from(["$in", "$nin"]), st.lists(ids, max_size=5)),
)
searches = st.builds(
    lambda text, where: Or(tuple(ContainsFolded(tuple(p.split(".")), text) for p in where)),
    texts,
    st.lists(paths.filter(lambda p: p != "_id"), min_size=1, max_size=2),
)


def observed(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every path inside a value with its value, through arrays both with and without an index."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != "_id":
                yield from observed(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from observed(inner, path)
            yield from observed(inner, f"{path}.{position}")


def conditions_met_by(value: Json) -> st.SearchStrategy[Any]:
    """Conditions that a value satisfies, and their negations."""
    met: list[Any] = [
        {"$eq": value},
        {"$ne": value},
        {"$in": [value, "ab"]},
        {"$nin": [None, value]},
        {"$all": [value]},
    ]
    if isinstance(value, list):
        met += [{"$size": len(value)}, {"$not": {"$size": len(value)}}]
        met += [{"$elemMatch": {"$eq": element}} for element in value]
        met += [{"$elemMatch": element} for element in value if isinstance(element, dict) and element]
    elif not isinstance(value, dict):
        met += [{operator: value} for operator in COMPARISONS]
    if isinstance(value, int) and not isinstance(value, bool):
        met += [{operator: str(value)} for operator in ("$eq", *COMPARISONS)]  # a string of the same digits
    if isinstance(value, str):
        met += [{operator: 9e99} for operator in COMPARISONS]  # a number, of another type than the value
        met += [{"$startswith": value[:1]}, {"$contains": value[1:]}, {"$not": {"$contains": value[:1]}}]
    return st.sampled_from(met)


def hits(found: list[tuple[str, Json]]) -> st.SearchStrategy[dict[str, Any]]:
    """Conditions on paths and values that exist."""
    about = st.sampled_from(found)
    return about.flatmap(lambda one: conditions_met_by(one[1]).map(lambda condition: {one[0]: condition}))


def filters(entities: list[Entity]) -> st.SearchStrategy[Filter]:
    """Filters of every kind, most of them on values of the entities, so that some match and some do not."""
    hit = hits([place for e in entities for place in observed(e)])
    several = st.lists(st.one_of(hit, hit, documents(1, paths)), min_size=1, max_size=3)
    logical = st.builds(lambda op, parts: {op: parts}, st.sampled_from(["$or", "$or", "$nor", "$and"]), several)
    inverted = logical.map(lambda document: {"$nor": [document]})
    return st.one_of(
        st.just(query.EVERYTHING),
        *[hit.map(parse_filter)] * 3,
        *[logical.map(parse_filter)] * 3,
        inverted.map(parse_filter),
        *[documents(2, paths).map(parse_filter)] * 2,
        by_id.map(parse_filter),
        searches,
    )


@st.composite
def visibilities(draw: st.DrawFn) -> Filter:
    """The visibility predicate of a principal that is not an administrator."""
    user, own = draw(users), tuple(draw(st.lists(groups, max_size=2)))
    return Or((Equal(("owner",), user), Equal(("access",), user), In(("group",), own), In(("branch",), own)))


sorts = st.lists(st.tuples(sort_paths, st.booleans()), min_size=1, max_size=3, unique_by=lambda named: named[0]).map(
    lambda named: query.total(tuple(Sort(tuple(path.split(".")), descending) for path, descending in named))
)

only = st.none() | st.lists(paths.map(lambda p: tuple(p.split("."))), max_size=3).map(tuple)
projections = st.builds(Projection, only, st.sampled_from([frozenset(), frozenset(), frozenset({"b"})]))


@dataclass(frozen=True)
class Case:
    """One query for every engine and the reference."""

    query: Query
    projection: Projection
    page_size: int


@st.composite
def cases(draw: st.DrawFn, filters: st.SearchStrategy[Filter]) -> Case:
    where = draw(filters)
    if draw(st.integers(0, 2)) == 0:
        where = query.both(where, draw(visibilities()))
    sort = draw(st.one_of(st.just(query.CREATION_ORDER), sorts, sorts))
    offset, limit = draw(st.sampled_from([0, 0, 0, 1, 5, 30])), draw(st.sampled_from([10_000, 100, 100, 10, 3, 1, 0]))
    projection = draw(st.one_of(st.just(query.WHOLE), st.just(query.WHOLE), projections))
    return Case(Query(where, sort, offset, limit), projection, draw(st.sampled_from([3, 7, 7, 7, 7, 20, 20])))


@dataclass(frozen=True)
class Example:
    """One data set and its queries."""

    entities: list[Entity]
    cases: list[Case]


@st.composite
def examples(draw: st.DrawFn, questions: int) -> Example:
    entities = draw(data_sets())
    return Example(entities, draw(st.lists(cases(filters(entities)), min_size=questions, max_size=questions)))
