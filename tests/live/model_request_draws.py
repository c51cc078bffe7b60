"""Hypothesis strategies for requests that change `orders` and `lines`. Most bodies are valid; some break one rule."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.live import model_draws as draws
from tests.live.model_definitions import DATA, DEFINITIONS, LINES, ORDERS, relations
from tests.live.model_requests import Ask, AskAll, AskBatch, AskOne, One, seed
from tests.live.model_steps import Subscribe
from tests.live.model_writes import NOWHERE

Pair = tuple[str, Any]
RELATIONS = {store: [each for each in relations(DEFINITIONS) if each.store == store] for store in DATA}


def again(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return the strategy as another one, so that `one_of`, which leaves out doubles, draws from it more often."""
    return strategy.map(lambda drawn: drawn)


def known(store: str) -> st.SearchStrategy[str]:
    """Draw an entity of a store: mostly one of the first few, so that much refers to the same ones; rarely none."""
    return st.sampled_from([f"@{store}:{n}" for n in (*range(6), *range(5), *range(4), *range(3), -1)])


def ids(store: str) -> st.SearchStrategy[str]:
    """Draw the same, or what a batch has made."""
    return st.one_of(known(store), again(known(store)), st.just(f"@made:{store}"))


def references(store: str) -> st.SearchStrategy[Pair]:
    """Draw a field that refers to something, with its value."""
    drawn: list[st.SearchStrategy[Pair]] = []
    for each in RELATIONS[store]:
        target = ids(each.target)
        value = st.lists(target, max_size=3) if each.many else st.one_of(st.none(), target, again(target))
        drawn.append(st.tuples(st.just(each.name), value))
    return st.one_of(drawn)


amounts = st.sampled_from([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 5.5, 6, 7])
marks = st.sampled_from("xyz")
codes = st.sampled_from([*"abcdefgh", None])
values: st.SearchStrategy[Pair] = st.one_of(
    st.tuples(st.just("n"), st.none() | draws.numbers | st.just("@number")),
    st.tuples(st.just("name"), draws.names),
    st.tuples(st.just("amount"), amounts),
    st.tuples(st.just("marks"), st.lists(marks, max_size=2) | st.lists(marks, unique=True, max_size=3)),
    st.tuples(st.just("code"), codes),
    st.tuples(st.just("kind"), st.sampled_from(["usual", *["rare"] * 8, None, ""])),
    st.tuples(st.just("tags"), st.lists(marks, max_size=2)),
    st.tuples(st.just("place"), st.fixed_dictionaries({"city": st.sampled_from("cd")})),
    st.tuples(st.just("number"), st.just(99)),
)


# Hypothesis shows a composite strategy by its name alone. The others would be megabytes.
_BODIES = {store: st.lists(values | references(store), max_size=3).map(dict) for store in DATA}


@st.composite
def bodies(draw: st.DrawFn, store: str) -> dict[str, Any]:
    """Draw plain fields."""
    return draw(_BODIES[store])


Step = tuple[str, str, Any]
"""An operator, a path and its argument."""


def operators(store: str) -> st.SearchStrategy[Step]:
    """Draw an operator with a path of a store's entities."""
    counted: st.SearchStrategy[Pair] = st.one_of(
        st.tuples(st.just("n"), st.integers(-1, 3)),
        st.tuples(st.just("amount"), st.sampled_from([0.5, 1, -0.5, -2.5, 4])),
        st.tuples(st.sampled_from([*["place.visits"] * 5, "place.city"]), st.integers(1, 2)),
    )
    compared: st.SearchStrategy[Pair] = st.one_of(
        st.tuples(st.just("n"), draws.numbers), st.tuples(st.just("amount"), amounts), st.just(("name", "ab"))
    )
    set_: st.SearchStrategy[Pair] = st.one_of(
        values, references(store), st.tuples(st.just("place.city"), st.sampled_from("cd"))
    ).filter(lambda pair: pair[0] != "number")
    unset = st.sampled_from([*["n", "name", "marks", "place.city", "place.visits", "amount"] * 3, "kind", "number"])
    references_many = [(st.just(each.name), ids(each.target)) for each in RELATIONS[store] if each.many]
    elements: st.SearchStrategy[Pair] = st.one_of(
        st.tuples(st.just("marks"), marks),
        st.tuples(st.just("tags"), marks),
        st.just(("n", 1)),
        *(st.tuples(*each) for each in references_many),
    )
    several = elements.map(lambda pair: (pair[0], {"$each": [pair[1]] * 2}))
    return st.one_of(
        st.tuples(st.just("$inc"), counted).map(flat),
        st.tuples(st.sampled_from(["$min", "$max"]), compared).map(flat),
        st.tuples(st.just("$set"), set_).map(flat),
        st.tuples(st.just("$unset"), st.one_of(unset, st.sampled_from([e.name for e in RELATIONS[store]])), st.none()),
        st.tuples(st.sampled_from(["$push", "$addToSet"]), st.one_of(elements, again(elements), several)).map(flat),
        st.tuples(st.just("$pull"), elements).map(flat),
    )


def flat(drawn: tuple[str, Pair]) -> Step:
    return (drawn[0], *drawn[1])


def body_of(plain: dict[str, Any], steps: list[Step]) -> dict[str, Any]:
    """Return the body with these fields and operators."""
    body = dict(plain)
    for operator, path, argument in steps:
        if operator == "$unset":
            body.setdefault(operator, []).append(path)
        else:
            body.setdefault(operator, {})[path] = argument
    return body


def _changes(store: str) -> st.SearchStrategy[dict[str, Any]]:
    computed = st.builds(body_of, st.just({}), st.lists(operators(store), min_size=1, max_size=3))
    mixed = st.builds(body_of, bodies(store), st.lists(operators(store), max_size=2))
    return st.one_of(bodies(store), computed, mixed)


_CHANGES = {store: _changes(store) for store in DATA}


@st.composite
def changes(draw: st.DrawFn, store: str) -> dict[str, Any]:
    """Draw the body of a PATCH: plain fields, operators or both."""
    return draw(_CHANGES[store])


def _ones(store: str) -> st.SearchStrategy[One]:
    """Draw a request of one entity of a store."""
    picks = st.sampled_from([*range(6), *range(5), *range(4), *range(3), None, None, None, None, -1])
    stale = st.sampled_from([*[None] * 6, 0, 0, 1])
    upserted = st.builds(lambda code, body: {"code": code, **body}, codes, changes(store).map(without_code))
    posted = bodies(store)
    return st.one_of(
        st.builds(One, st.just("POST"), st.just(store), body=posted),
        st.builds(One, st.just("POST"), st.just(store), body=upserted, upsert=st.just(True)),
        st.builds(One, st.just("PATCH"), st.just(store), picks, changes(store), stale=stale),
        st.builds(One, st.just("PATCH"), st.just(store), picks, changes(store), stale=stale),
        st.builds(One, st.just("PUT"), st.just(store), picks, bodies(store), stale=stale),
        st.builds(One, st.just("PUT"), st.just(store), picks, bodies(store), stale=stale),
        st.builds(One, st.just("DELETE"), st.just(store), picks, stale=stale),
    )


def without_code(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of an upsert, which names its key in plain fields only."""
    inner = {name: value for name, value in body.items() if name != "code"}
    if "code" in inner.get("$set", {}):
        inner = {name: value for name, value in inner.items() if name != "$set"}
    return inner


_ONE = st.one_of(_ones(ORDERS), _ones(LINES), _ones(LINES))


@st.composite
def one(draw: st.DrawFn) -> One:
    """Draw a request of one entity."""
    return draw(_ONE)


by = st.sampled_from([1, 0, 2, 0, 1, 3])
"""The seats are those of the first two users, so most of what these write is seen by somebody."""
singles = st.builds(AskOne, by, one())
arrays = st.builds(
    lambda by, bodies: AskOne(by, One("POST", LINES, body=bodies)), by, st.lists(bodies(LINES), min_size=2, max_size=3)
)
_UPSERTED = {
    store: st.builds(
        lambda code, body: {"code": code, **body},
        st.sampled_from([*"aaabbc", None]),
        changes(store).map(without_code),
    )
    for store in DATA
}


@st.composite
def upserted(draw: st.DrawFn, store: str) -> list[dict[str, Any]]:
    """Draw the bodies of an array of upserts, of which several mostly have the same code."""
    return draw(st.lists(_UPSERTED[store], min_size=2, max_size=4))


upserts = st.sampled_from(DATA).flatmap(
    lambda store: st.builds(
        lambda by, items: AskOne(by, One("POST", store, body=items, upsert=True)), by, upserted(store)
    )
)
linkings = st.builds(
    lambda pick, pair: AskOne(0, One("PATCH", LINES, pick, dict([pair]))),
    draws.picks,
    references(LINES),
)
"""The administrator lets a line refer to what others may not see."""
deletions = st.builds(AskOne, by, st.builds(One, st.just("DELETE"), st.sampled_from(DATA), draws.picks))
conditions = st.one_of(
    draws.conditions,
    st.builds(lambda name, target: {name: target}, st.sampled_from(["order", "orders", "heads"]), known(ORDERS)),
    st.builds(lambda name: {name: None}, st.sampled_from(["order", "near", "spare", "head"])),
    st.builds(lambda rev: {"_rev": {"$gte": rev}}, st.integers(1, 3)),
    st.builds(lambda amount: {"amount": {"$lt": amount}}, amounts),
)
conditions_of_orders = st.one_of(
    draws.conditions,
    st.builds(lambda name, target: {name: target}, st.sampled_from(["parent", "root", "series"]), known(ORDERS)),
    st.sampled_from([{"parent": None}, {"_rev": {"$gte": 2}}]),
)


def all_of(store: str, filters: st.SearchStrategy[Any]) -> st.SearchStrategy[AskAll]:
    methods = st.sampled_from([*["PATCH"] * 4, "DELETE"])
    return st.builds(AskAll, by, st.just(store), filters, methods, changes(store).map(without_code))


bulk = st.one_of(all_of(ORDERS, conditions_of_orders), again(all_of(LINES, conditions)))
batches = st.builds(AskBatch, by, st.lists(one(), min_size=2, max_size=5).map(tuple))
failures = st.sampled_from(
    [
        One("PATCH", LINES, -1, {"n": 1}),
        One("PATCH", ORDERS, 0, {"amount": 7}),
        One("PATCH", LINES, 0, {"$inc": {"amount": 4}, "$push": {"n": 1}}),
        One("PUT", ORDERS, None, {"name": "b"}, stale=1),
        One("POST", LINES, body={"order": NOWHERE}),
        One("DELETE", LINES, 1, stale=2),
    ]
)
failing = st.builds(
    lambda by, ones, index, failure: AskBatch(by, (*ones[:index], failure, *ones[index:])),
    by,
    st.lists(one(), min_size=1, max_size=4),
    st.integers(0, 4),
    failures,
)
_KINDS = (singles, singles, arrays, upserts, upserts, linkings, linkings, deletions, bulk, batches, batches, failing)
_ASK: st.SearchStrategy[Ask] = st.one_of(*map(again, _KINDS))


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Draw any request."""
    return draw(_ASK)


def race(order: int, line: int, link: str, value: Any, change: dict[str, Any]) -> list[Ask]:
    """Return requests for the same entities: an order is deleted while lines come to refer to it, and a line changes in
    two ways."""
    return [
        AskOne(0, One("DELETE", ORDERS, order)),
        AskOne(0, One("POST", LINES, body={link: value})),
        AskBatch(0, (One("PATCH", LINES, line, {link: value}), One("PATCH", LINES, line, {"$inc": {"n": 1}}))),
        AskOne(0, One("PATCH", LINES, line, change)),
    ]


races = st.integers(0, 5).flatmap(
    lambda order: st.builds(
        race,
        st.just(order),
        draws.picks,
        st.sampled_from(["order", "spare", "head"]),
        st.just(f"@{ORDERS}:{order}"),
        changes(LINES),
    )
)
links = st.sampled_from([each.name for each in RELATIONS[LINES] if each.target == ORDERS])
seeders = st.sampled_from([2, 1, 2, 1, 0])
seeds = st.builds(seed, seeders, bodies(ORDERS), st.lists(st.tuples(links, bodies(LINES)), min_size=2, max_size=4))


def _subscriptions(store: str, filters: st.SearchStrategy[Any]) -> st.SearchStrategy[Subscribe]:
    return st.builds(
        Subscribe,
        draws.seats,
        st.just(store),
        st.one_of(st.none(), again(st.none()), again(filters)),
        st.none() | st.sampled_from(["n", "name,place.city", f"{RELATIONS[store][0].name},number", "_rev,amount"]),
        st.sampled_from(["snapshot", "auto", "list"]),
    )


subscriptions = _subscriptions(ORDERS, conditions_of_orders) | _subscriptions(LINES, conditions)
