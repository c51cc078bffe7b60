"""Reads that lag behind the commits of others, as on MongoDB until a majority has confirmed these."""

from __future__ import annotations

import time
from typing import Any

from stores.query import Query
from stores.records import Entity
from tests.support.racing import Racing

LAG = 0.3
"""Seconds."""


def lag(racing: Racing) -> None:
    """For a while after the next commit of another, what was read before it is read again."""
    engine: Any = racing.hub.engine
    read, before, ends = engine.entities, {}, [0.0]

    async def entities(store: str, query: Query) -> list[Entity]:
        place = store, repr(query)
        if place not in before or time.monotonic() > ends[0]:
            before[place] = await read(store, query)
        found: list[Entity] = before[place]
        return found

    racing.monkeypatch.setattr(engine, "entities", entities)
    commit = engine.commit

    async def note(*args: Any, **more: Any) -> Any:
        written = await commit(*args, **more)
        ends[0] = ends[0] or time.monotonic() + LAG
        return written

    racing.monkeypatch.setattr(engine, "commit", note)


async def test_a_change_is_decided_on_what_comes_to_be_read(racing: Racing) -> None:
    """It is repeated until then, and not refused for a revision that the caller has not named."""
    hub, me = racing.hub, racing.principal
    role = await racing.make("roles", {"name": "reader", "scopes": ["GET /a/*"]})
    lag(racing)
    racing.before("commit", lambda: hub.entities.change(me, "roles", role, {"name": "writer"}, None))
    await hub.entities.change(me, "roles", role, {"scopes": ["GET /b/*"]}, None)
    made = await racing.see("roles", role)
    assert (made["name"], made["scopes"]) == ("writer", ["GET /b/*"])


async def test_a_group_is_created_below_one_that_has_just_moved(racing: Racing) -> None:
    """It expects the groups above at the revisions that come to be read."""
    top, parent = await racing.make("groups", {"name": "top"}), await racing.make("groups", {"name": "parent"})
    lag(racing)
    racing.before("commit", lambda: racing.spoil("groups", parent, {"parent": top}))
    below = await racing.make("groups", {"name": "below", "parent": parent})
    assert (await racing.see("groups", below))["parent"] == parent
