"""SQLite, MongoDB and a reference that shares no code with them give the same answer to the same aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stores import query
from stores.aggregation import UNITS, Aggregation, Dimension, GroupSort, Measure
from stores.errors import InvalidQuery
from stores.protocol import DeleteMany, Engine, Insert
from stores.query import EVERYTHING, Filter
from stores.records import Entity, Json, same
from tests.conftest import CASES_PER_EXAMPLE
from tests.properties.aggregate_reference import Refused, aggregated
from tests.properties.conftest import STORES
from tests.properties.reference import matching
from tests.properties.strategies import data_sets, filters, visibilities

ZONES: Final = ("UTC", "America/Toronto", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia", "Etc/GMT+5")
CHANGES: Final = (1_793_509_200_000, 1_772_953_200_000, 1_775_314_800_000, 1_790_953_200_000)
"""Instants at which clocks in Toronto and on Lord Howe Island are put back or forward, in 2026."""

near_changes = st.builds(lambda at, minutes: at + minutes * 60_000, st.sampled_from(CHANGES), st.integers(-150, 150))
written = st.sampled_from(
    ["2026-11-01 05:30:00", "2026-11-01 06:30:00", "2026-11-01T01:30:00-05:00", "2026-11-01T06:30:00.5Z", "2026-11-01",
     "2027-01-01", "2026-12-31T23:59:59Z", "0001-01-01 00:00:00", "2026-02-30", "2026", "2026-W45-1", "20261101", "x",
     "2026-11-01 25:00:00", "2026-11-01x06:30:00"]
)  # fmt: skip
times = st.one_of(
    near_changes,
    near_changes,
    written,
    st.integers(0, 2**41),
    st.sampled_from([0.5, -1, 10**17, -(10**17), 1e300, True, None]),
)
decimals = st.integers(-(10**15) + 1, 10**15 - 1).map(lambda n: float(Decimal(n) / 1000)) | st.sampled_from(
    [0.1, 0.2, 0.3, 1, 7, -0.001, 999_999_999_999.999, 0.12345, 1e22, 1e-7]
)
small = st.sampled_from(["x", "y", "z"])

DRAWN: Final = {
    "when": times | st.lists(times, max_size=3),
    "d": decimals | st.lists(decimals, max_size=3),
    "kind": small | st.lists(small | st.none(), max_size=3),
    "lines": st.lists(
        st.fixed_dictionaries({}, optional={"p": small | st.lists(small, max_size=2), "n": st.integers(0, 9)})
        | st.just(5),
        max_size=3,
    ),
}
"""Fields that are added to the entities of the other property tests, so that groups have several members."""

PATHS: Final = ["kind", "kind", "lines.p", "a", "b", "a.b", "b.a", "owner", "access", "group", "_rev"]
TIMES: Final = ["when", "when", "when", "time", "_at", "a"]
MEASURED: Final = ["a", "b", "c", "a.b", "lines.n", "kind", "d", "time", "_id"]


@st.composite
def enriched(draw: st.DrawFn) -> list[Entity]:
    found = draw(data_sets())
    return [entity | draw(st.fixed_dictionaries({}, optional=DRAWN)) for entity in found]


def path(text: str) -> tuple[str, ...]:
    return tuple(text.split("."))


dimensions = st.one_of(
    st.builds(Dimension, st.sampled_from(PATHS).map(path)),
    st.builds(Dimension, st.sampled_from(TIMES).map(path), st.sampled_from(UNITS), st.sampled_from(ZONES)),
)
measures = st.one_of(
    st.just(Measure("count")),
    st.builds(Measure, st.sampled_from(["sum", "avg", "min", "max"]), st.sampled_from(MEASURED).map(path)),
    st.builds(Measure, st.sampled_from(["sum", "avg"]), st.just(("d",)), st.just(True)),
)


@st.composite
def aggregations(draw: st.DrawFn) -> Aggregation:
    asked = draw(st.lists(measures, min_size=1, max_size=4, unique_by=lambda m: m.name))
    by = draw(st.lists(dimensions, max_size=2, unique_by=lambda d: d.path))
    columns = st.integers(0, len(asked) + len(by) - 1)
    sort = draw(st.lists(st.builds(GroupSort, columns, st.booleans()), max_size=2, unique_by=lambda s: s.column))
    return Aggregation(tuple(asked), tuple(by), tuple(sort), draw(st.sampled_from([1_000, 1_000, 3, 0])))


@dataclass(frozen=True)
class Example:
    """One data set and its aggregations."""

    entities: list[Entity]
    cases: list[tuple[Filter, Aggregation]]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    entities = draw(enriched())
    where = st.one_of(st.just(EVERYTHING), filters(entities))
    narrowed = st.one_of(where, st.builds(query.both, where, visibilities()))
    cases = st.lists(st.tuples(narrowed, aggregations()), min_size=CASES_PER_EXAMPLE, max_size=CASES_PER_EXAMPLE)
    return Example(entities, draw(cases))


@pytest.mark.generated
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking: failures print the entities concerned
@given(example=examples())
async def test_every_engine_aggregates_like_the_reference(engines: dict[str, Engine], example: Example) -> None:
    """Groups, exact sums, least and greatest values, order and limit agree, with and without indexes."""
    for kind, engine in engines.items():
        for store in STORES:
            await fill(engine, store, example.entities)
            for where, aggregation in example.cases:
                expected = reference(example.entities, where, aggregation)
                got = await answer(engine, store, where, aggregation)
                if got != expected:
                    report(f"{kind}/{store}", got, expected, where, aggregation, matching(example.entities, where))


async def fill(engine: Engine, store: str, entities: list[Entity]) -> None:
    await engine.commit([DeleteMany(store, EVERYTHING, 10_000), *(Insert(store, e) for e in entities)], None)


def reference(entities: list[Entity], where: Filter, aggregation: Aggregation) -> Any:
    try:
        rows = aggregated(matching(entities, where), aggregation)
    except Refused:
        return "refused"
    return [(tuple(map(Exactly, by)), tuple(map(Exactly, values))) for by, values in rows]


async def answer(engine: Engine, store: str, where: Filter, aggregation: Aggregation) -> Any:
    try:
        found = await engine.aggregate(store, where, aggregation)
    except InvalidQuery:
        return "refused"
    return [(tuple(map(Exactly, group.by)), tuple(map(Exactly, group.values))) for group in found.groups]


def report(place: str, got: Any, expected: Any, where: Filter, aggregation: Aggregation, met: list[Entity]) -> None:
    lines = [f"{place} gives other groups than the reference", f"{aggregation}", f"of {where}"]
    lines += [f"expected: {expected}", f"got: {got}", *map(str, met)]
    pytest.fail("\n".join(lines), pytrace=False)


class Exactly:
    """A value that equals another one only if no digit differs; true is not 1, but 1 is 1.0."""

    def __init__(self, value: Json | Decimal | Fraction) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Exactly)
        own, others = self.value, other.value
        if isinstance(own, Decimal | Fraction) or isinstance(others, Decimal | Fraction):
            return not isinstance(own, bool | str | None) and Fraction(own) == Fraction(others)  # type: ignore[arg-type]
        return same(own, others)

    def __repr__(self) -> str:
        return repr(self.value)
