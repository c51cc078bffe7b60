"""Races: however many write at once, a listing has exactly one main image after each commit, and the region of its
district."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from hub.services.store_rules.images import MOST_IMAGES
from tests.platform.answers import good, refused
from tests.store_rules.conftest import Connect
from tests.support.hub import Client, Hub, unique
from tests.support.listings import listing
from tests.support.live import Beacon
from tests.support.main_images import check_states

pytestmark = pytest.mark.gate("sqlite", "mongodb")

STORE = "property_images"
RACERS = 200


async def test_racing_writers_leave_one_main_image_at_each_commit(
    user: Client, hub: Hub, connected: Connect, beacon: Beacon
) -> None:
    """Changes of `is_main`, deletions, inserts, batches, and moves between two listings, all at once."""
    one, other = await user.make("properties", listing()), await user.make("properties", listing())
    bodies = [{"property": each["_id"]} for each in (one, other) for _ in range(10)]
    images = await user.make_all(STORE, bodies)
    client = await connected(user)
    watches = [await client.watch(STORE, filter={"property": each["_id"]}) for each in (one, other)]
    began = [[image for image in images if image["property"] == each["_id"]] for each in (one, other)]
    clients = [user, await hub.with_token(user.user), await hub.with_token(user.user)]

    async def race(number: int) -> int:
        client, image = clients[number % len(clients)], random.choice(images)
        path, place = f"/{STORE}/{image['_id']}", random.choice([one, other])["_id"]
        match number % 8:
            case 0 | 1 | 2:
                answer = await client.patch(path, {"is_main": True})
            case 3:
                answer = await client.patch(path, {"is_main": False})
            case 4:
                answer = await client.delete(path)
            case 5:
                answer = await client.post(f"/{STORE}", {"property": place, "is_main": random.random() < 0.5})
            case 6:
                answer = await client.patch(path, {"property": place})
            case _:
                request = {"method": "POST", "path": f"/{STORE}", "body": {"property": place, "is_main": True}}
                answer = await client.post("/batch", {"requests": [request]})
        return answer.status_code

    statuses = await asyncio.gather(*map(race, range(RACERS)))
    assert {*statuses} <= {200, 404}, statuses
    await client.caught_up(beacon)
    for before, watch, place in zip(began, watches, (one, other), strict=True):
        check_states(before, watch.take())
        left = await user.list(STORE, {"property": place["_id"]})
        assert {each["_id"]: each for each in left} == watch.view


async def test_racing_first_images(user: Client) -> None:
    """And never more than a listing may have."""
    place = await user.make("properties", listing())
    posts = [user.post(f"/{STORE}", {"property": place["_id"], "is_main": n % 3 == 0}) for n in range(MOST_IMAGES + 20)]
    answers = await asyncio.gather(*posts)
    for answer in answers:
        if answer.status_code != 200:
            refused(answer, 400, "property")
    left = await user.list(STORE, {"property": place["_id"]})
    assert len(left) == MOST_IMAGES == sum(answer.status_code == 200 for answer in answers)
    assert [each["is_main"] for each in left].count(True) == 1


async def test_listings_and_districts_that_move_at_once(user: Client, admin: Client) -> None:
    words = [unique("d") for _ in range(3)]
    rows = [{"name": word, "slug": word, "region": "central"} for word in words]
    districts = await admin.make_all("districts", rows)
    places = await user.make_all("properties", [listing(district=random.choice(words)) for _ in range(10)])
    made: list[str] = [each["_id"] for each in places]

    async def move(number: int) -> None:
        region = random.choice(["central", "eastern", "northern", "western"])
        match number % 3:
            case 0:
                path = f"/districts/{random.choice(districts)['_id']}"
                good(await admin.patch(path, {"region": region, "name": str(number)}))
            case 1:
                path = f"/properties/{random.choice(made)}"
                good(await user.patch(path, {"district": random.choice(words)}))
            case _:
                made.append((await user.make("properties", listing(district=random.choice(words))))["_id"])

    await asyncio.gather(*map(move, range(60)))
    regions = {each["slug"]: each["region"] for each in await admin.list("districts", {"slug[in]": ",".join(words)})}
    for each in await user.list("properties"):
        assert each["region"] == regions[each["district"]]


async def test_a_listing_goes_while_it_gets_images(user: Client) -> None:
    for _ in range(5):
        place = await user.make("properties", listing())
        work: list[Any] = [user.post(f"/{STORE}", {"property": place["_id"]}) for _ in range(6)]
        work.insert(3, user.delete(f"/properties/{place['_id']}"))
        answers = await asyncio.gather(*work)
        assert {answer.status_code for answer in answers} <= {200, 400}
        assert await user.list(STORE, {"property": place["_id"]}) == []
