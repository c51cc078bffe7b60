"""Numbers and tiers of users: who gets them, in which order, and who changes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.services.registry import StoreRegistry
from hub.services.user_numbers import AT_ONCE, number_users
from stores.protocol import Engine, Insert, UpdateMany
from stores.query import EVERYTHING, Query, Sort
from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.engines import Database, opened
from tests.support.hub import Client, Hub, running_hub, unique

IN_ORDER = Query(sort=(Sort(("time",)), Sort(("_id",))), limit=10_000)


async def numbers(engine: Engine) -> list[int | None]:
    """Return the numbers of all users in the order of their creation."""
    return [user.get("number") for user in await engine.entities("users", IN_ORDER)]


def older_user(time: int) -> Entity:
    """Return a user of a version that knew neither numbers nor tiers."""
    id = new_id()
    stamps = {"owner": id, "group": None, "access": [id], "branch": [], "time": time, "_at": time, "_rev": 1}
    return {"_id": id, "login": unique("user"), "login_key": unique("user"), **stamps}


async def make_older(engine: Engine, count: int) -> None:
    """Insert users, the last ones first."""
    await StoreRegistry(engine).open()
    await engine.commit([Insert("users", older_user(1_000 - n)) for n in range(count)], None)


@pytest.mark.gate("sqlite", "mongodb")
async def test_users_of_older_versions_are_numbered_in_order_of_their_creation(
    database: Database, tmp_path: Path
) -> None:
    """At the next start, before a new administrator is made. New users go on."""
    async with opened(database.engine()) as engine:
        await make_older(engine, 5)
    async with running_hub(database, tmp_path) as hub:
        user = await hub.admin.make("users", {"login": unique("user")})
        assert (user["number"], user["subscription_tier"]) == (7, "free")
        older = await hub.admin.list("users", {"sort": "time,_id"})
        assert [each["number"] for each in older] == [1, 2, 3, 4, 5, 6, 7]
        assert {each["subscription_tier"] for each in older} == {"free"}
    async with running_hub(database, tmp_path) as hub:
        assert (await hub.admin.make("users", {"login": unique("user")}))["number"] == 8
        assert (await hub.admin.see("users", user["_id"]))["_rev"] == user["_rev"]


@pytest.mark.gate("sqlite", "mongodb")
async def test_several_hubs_number_users_together(database: Database) -> None:
    """Each user gets one number, and no number is left out or used twice."""
    async with opened(database.engine()) as engine, opened_again(database, engine) as other:
        await make_older(engine, AT_ONCE + 50)
        await asyncio.gather(*(number_users(each) for each in (engine, other) * 2))
        assert await numbers(engine) == [*range(1, AT_ONCE + 51)]
        [first, *_] = await engine.entities("users", IN_ORDER)
        assert first["_rev"] == 2


def opened_again(database: Database, engine: Engine) -> Any:
    """Return an engine of another process; SQLite takes one process at a time."""
    return opened(database.engine()) if database.kind == "mongodb" else Same(engine)


class Same:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __aenter__(self) -> Engine:
        return self._engine

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_user_of_another_program_is_numbered_above_all_others(database: Database) -> None:
    """Also if the counter was lost, as in a database that was restored in part."""
    async with opened(database.engine()) as engine:
        await make_older(engine, 1)
        await engine.commit([UpdateMany("users", EVERYTHING, {"number": 41}, 10)], None)
        await engine.commit([Insert("users", older_user(2_000))], None)
        await number_users(engine)
        assert await numbers(engine) == [41, 42]


async def test_nobody_changes_a_number(hub: Hub, admin: Client) -> None:
    """What is sent is dropped, as in any Serial. A replacement keeps it."""
    user = await hub.as_user()
    number = user.user["number"]
    for caller in (user, admin):
        assert good(await caller.patch(f"/users/{user.id}", {"number": 1, "name": unique("name")}))["number"] == number
    replaced = await admin.put(f"/users/{user.id}", {"login": user.user["login"]})
    assert (good(replaced)["number"], good(replaced)["subscription_tier"]) == (number, "free")
    made = await admin.make("users", {"login": unique("user"), "number": number})
    assert made["number"] > number


async def test_administrators_set_the_tier(hub: Hub, admin: Client) -> None:
    user = await hub.as_user(subscription_tier="pro")
    assert user.user["subscription_tier"] == "pro"
    refused(await user.patch(f"/users/{user.id}", {"subscription_tier": "gold"}), 403, "subscription_tier")
    good(await user.patch(f"/users/{user.id}", {"subscription_tier": "pro", "name": "Ann"}))
    assert good(await admin.patch(f"/users/{user.id}", {"subscription_tier": "gold"}))["subscription_tier"] == "gold"
