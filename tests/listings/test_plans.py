"""A page reads about as much as it shows, however far it is and whatever it is filtered by."""

from __future__ import annotations

import pytest

from auth.purposes import PROPERTIES
from hub.dialects.listings.cursors import Cursor, sort_by
from hub.dialects.listings.reading import PAGE
from hub.services.listings.stores import NAMES, definitions_of
from stores.definitions import parse_definition
from stores.protocol import Engine
from stores.query import And, Compare, Equal, Filter, Query
from tests.listings.support import LISTING
from tests.support.entities import entity, insert
from tests.support.plans import plan_of

pytestmark = pytest.mark.gate("sqlite", "mongodb")

COUNT = 3_000
STORE = "properties"
OWNER, OTHER = "a" * 24, "b" * 24
TIME = 1_780_272_000_000


@pytest.fixture
async def listings(engine: Engine) -> None:
    """Two owners' listings, twenty in a millisecond."""
    await engine.define(parse_definition(definitions_of(NAMES)[PROPERTIES]))
    made = [
        entity(
            LISTING
            | {
                "number": n,
                "owner": (OWNER, OTHER)[n % 2],
                "publish_status": "draft" if n % 10 == 0 else "published",
                "time": TIME + n // 20,
                "updated_at": (TIME + n) * 1_000,
            }
        )
        for n in range(COUNT)
    ]
    await insert(engine, *made, store=STORE)


@pytest.mark.usefixtures("listings")
async def test_what_has_changed_since_a_time_is_read_alone(engine: Engine) -> None:
    """A poll that meets few or no changes does not go through the whole feed."""
    for recent in (0, 40):
        changed = Compare(("updated_at",), "gte", (TIME + COUNT - recent) * 1_000)
        query = Query(And((*PUBLISHED, changed)), sort_by("time"), 0, PAGE)
        plan = await plan_of(engine, query, STORE)
        assert plan.read < 10 * PAGE, plan.text


PUBLISHED = (Equal(("owner",), OWNER), Equal(("publish_status",), "published"))


@pytest.mark.parametrize("number", [None, COUNT - 100, COUNT // 2, 200])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "conditions",
    [
        PUBLISHED,
        (Equal(("owner",), OWNER),),
        (*PUBLISHED, Equal(("listing_type",), "rent")),
        (*PUBLISHED, Compare(("price",), "gte", 1)),
    ],
    ids=["published", "all", "type", "price"],
)
@pytest.mark.usefixtures("listings")
async def test_a_page_is_read_in_the_order_of_an_index(
    engine: Engine, number: int | None, backwards: bool, conditions: tuple[Filter, ...]
) -> None:
    after = None if number is None else Cursor(TIME + number // 20, number, backwards).after
    query = Query(And(conditions), sort_by("time", backwards=backwards), 0, PAGE, after)
    plan = await plan_of(engine, query, STORE)
    assert not plan.sorts, plan.text
    assert plan.read < 10 * PAGE, plan.text
