"""Races of uploads: however many write to a listing at once, it has exactly one main image after each commit."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from tests.listings.support import Tenant
from tests.listings.written import entity, made
from tests.media.uploading import png
from tests.support.hub import Hub
from tests.support.live import live, make_beacon
from tests.support.main_images import check_states

pytestmark = pytest.mark.gate("sqlite", "mongodb")

STORE = "property_images"
RACERS = 8
"""Fewer than the uploads of one user that the hub takes at once."""
STEPS = 12
"""Of each racer. All together stay below what a listing may have of images, and a key of requests."""
PNG = png(40, 30)


async def test_racing_uploads_leave_one_main_image_at_each_commit(hub: Hub, tenant: Tenant) -> None:
    """Uploads into an empty listing, then uploads, changes of `is_main` and deletions by both APIs, all at once."""
    id = (await made(tenant))["id"]
    place, path, owner = (await entity(tenant, id))["_id"], f"properties/{id}/images/", tenant.platform
    beacon = await make_beacon(hub)
    beacon.shine_for(owner.id)

    async def upload() -> httpx.Response:
        data = {"is_main": random.choice(["true", "false"])}
        return await tenant.writer.post(path, files={"image": ("front.png", PNG)}, data=data)

    async with live(hub, owner) as client:
        watch = await client.watch(STORE, filter={"property": place})
        answers = await asyncio.gather(*(upload() for _ in range(RACERS)))
        assert [answer.status_code for answer in answers] == [201] * RACERS
        await client.caught_up(beacon)
        first = [*watch.view.values()]
        assert len(first) == RACERS

        async def race(number: int) -> int:
            image = random.choice([*watch.view.values()] or first)
            shown, stored = f"{path}{image['number']}/", f"/{STORE}/{image['_id']}"
            match number % 8:
                case 0 | 1 | 2:
                    answer = await upload()
                case 3 | 4:
                    answer = await tenant.writer.patch(shown, json={"is_main": True})
                case 5:
                    answer = await tenant.writer.delete(shown)
                case 6:
                    answer = await owner.patch(stored, {"is_main": random.choice([True, False])})
                case _:
                    answer = await owner.delete(stored)
            return answer.status_code

        async def run(racer: int) -> set[int]:
            return {await race(number) for number in range(racer * STEPS, (racer + 1) * STEPS)}

        statuses = set[int]().union(*await asyncio.gather(*map(run, range(RACERS))))
        assert statuses <= {200, 201, 204, 404}, statuses
        await client.caught_up(beacon)
        check_states([], watch.take())
        left = await owner.list(STORE, {"property": place})
        assert {each["_id"]: each for each in left} == watch.view
    listed = (await tenant.reader.get(path)).json()
    assert {each["id"] for each in listed} == {each["number"] for each in left}
    assert [each["is_main"] for each in listed] == [number == 0 for number in range(len(listed))]
    anybody = hub.client().http
    for each in listed:
        assert (await anybody.get(each["url"])).status_code == 200
