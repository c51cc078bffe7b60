"""SQLite, MongoDB and the in-memory reference give the same answer to the same query of the same entities."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings

from stores.protocol import Engine
from stores.sqlite import visibility_index
from tests.conftest import CASES_PER_EXAMPLE
from tests.properties.checking import check, fill
from tests.properties.conftest import STORES
from tests.properties.strategies import Example, examples


@pytest.mark.generated
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking: failures print the entities concerned
@given(example=examples(CASES_PER_EXAMPLE))
async def test_every_engine_answers_like_the_reference(engines: dict[str, Engine], example: Example) -> None:
    """Lists, pages, counts and projections agree, with and without indexes."""
    await check_all(engines, example)


@pytest.mark.generated
@pytest.mark.engine("sqlite")
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(example=examples(CASES_PER_EXAMPLE))
async def test_what_is_looked_up_is_as_the_reference(engines: dict[str, Engine], example: Example) -> None:
    """The same holds if SQLite assumes that every principal sees little of a large store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visibility_index, "sees_little", lambda *_: True)
        await check_all({"sqlite": engines["sqlite"]}, example)


async def check_all(engines: dict[str, Engine], example: Example) -> None:
    """Run all queries on each engine and compare the answers."""
    places = [(f"{kind}/{store}", engine, store) for kind, engine in engines.items() for store in STORES]
    for _, engine, store in places:
        await fill(engine, store, example.entities)
    for case in example.cases:
        for place in places:
            await check(place, example.entities, case)
