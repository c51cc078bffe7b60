"""Tombstones: which listings a reader of published ones has to drop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from hub.http.errors import RequestFailed
from hub.services.batch import BatchRequest, Method
from hub.services.listings.tombstones import TOMBSTONES, sweep_tombstones
from hub.services.stamping import own_entity
from stores.parse_operators import parse_change
from stores.protocol import Insert
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity, now_ms
from tests.store_rules.conftest import assembled
from tests.support.engines import Database
from tests.support.hub import eventually
from tests.support.listings import listing, prepare_database
from tests.support.racing import Racing

pytestmark = pytest.mark.gate("sqlite", "mongodb")

STORE = "properties"
DAY = 86_400_000


async def made(racing: Racing, **fields: Any) -> Entity:
    return await racing.see(STORE, await racing.make(STORE, listing(**fields)))


async def tombs(racing: Racing) -> dict[int, str | None]:
    """Return the publish status in each tombstone, by number. All belong to the owner of the listings."""
    found = await racing.hub.engine.entities(TOMBSTONES.name, Query())
    assert all(each["owner"] == racing.principal.user_id for each in found)
    assert all(abs(each["at"] / 1_000 - now_ms()) < 600_000 for each in found)
    return {each["number"]: each["publish_status"] for each in found}


Change = Callable[[Racing, Entity, Entity], Awaitable[Any]]


async def in_batch(racing: Racing, method: Method, entity: Entity, body: Entity | None = None) -> None:
    request = BatchRequest(method, STORE, entity["_id"], body)
    await racing.hub.batch.run(racing.principal, [request], 1, None)


async def upsert(racing: Racing, entity: Entity, body: Entity) -> None:
    rows = [listing(number=entity["number"]) | body]
    await racing.hub.entities.upsert(racing.principal, STORE, "number", rows, keeps_serials=True)


def entities(racing: Racing) -> Any:
    return racing.hub.entities


CHANGE: Final[Mapping[str, Change]] = {
    "one": lambda r, entity, body: entities(r).change(r.principal, STORE, entity["_id"], body, None),
    "operators": lambda r, entity, body: entities(r).change(
        r.principal, STORE, entity["_id"], {}, None, parse_change({"$set": body})[1]
    ),
    "replacement": lambda r, entity, body: entities(r).replace(
        r.principal, STORE, entity["_id"], listing(**body), None
    ),
    "bulk": lambda r, entity, body: entities(r).change_matches(
        r.principal, STORE, Equal(("number",), entity["number"]), body
    ),
    "upsert": upsert,
    "batch": lambda r, entity, body: in_batch(r, "PATCH", entity, body),
}


async def test_a_listing_that_is_not_published_any_more_has_a_tombstone(racing: Racing) -> None:
    """Until it is published again."""
    before: dict[int, str | None] = {}
    for way, change in CHANGE.items():
        entity = await made(racing)
        number = entity["number"]
        for status, expected in (
            ("draft", {number: "draft"}),
            ("trash", {number: "trash"}),
            ("published", {}),
            ("trash", {number: "trash"}),
        ):
            await change(racing, entity, {"publish_status": status})
            assert await tombs(racing) == before | expected, way
        await change(racing, entity, {"title": "B", "publish_status": "trash"})
        before[number] = "trash"
        assert await tombs(racing) == before, way


async def test_a_listing_that_was_never_published_leaves_nothing(racing: Racing) -> None:
    for way, change in CHANGE.items():
        entity = await made(racing, publish_status="draft")
        await change(racing, entity, {"publish_status": "trash"})
        await entities(racing).delete(racing.principal, STORE, entity["_id"], None)
        assert await tombs(racing) == {}, way


async def test_a_deleted_listing_has_a_tombstone(racing: Racing) -> None:
    """If it was published before, also when it was withdrawn first."""
    many = [await made(racing) for _ in range(6)]
    draft = await made(racing, publish_status="draft")
    service, me = entities(racing), racing.principal
    await service.delete(me, STORE, many[0]["_id"], None)
    assert await tombs(racing) == {1: None}
    await in_batch(racing, "DELETE", many[1])
    await service.change(me, STORE, many[2]["_id"], {"publish_status": "draft"}, None)
    assert await tombs(racing) == {1: None, 2: None, 3: "draft"}
    await service.delete_matches(me, STORE, EVERYTHING)
    assert await tombs(racing) == dict.fromkeys(range(1, 7))
    assert draft["number"] == 7


async def test_a_deletion_elsewhere_leaves_tombstones_of_what_it_takes_along(racing: Racing) -> None:
    hub, me = racing.hub, racing.principal
    await hub.entities.create(me, "stores", [{"name": "agencies"}])
    [definition] = await hub.engine.entities("stores", Query(Equal(("name",), STORE)))
    agency = {"id": "agency", "type": "Reference", "store": "agencies", "on_delete": "cascade"}
    await hub.entities.change(me, "stores", definition["_id"], {"fields": [*definition["fields"], agency]}, None)
    first = await racing.make("agencies", {})
    await made(racing, agency=first)
    await made(racing, agency=first, publish_status="draft")
    await made(racing)
    await hub.entities.delete(me, "agencies", first, None)
    assert await tombs(racing) == {1: None}


async def test_a_listing_that_comes_back_with_its_number_has_none(racing: Racing) -> None:
    entity = await made(racing)
    service, me = entities(racing), racing.principal
    await service.delete(me, STORE, entity["_id"], None)
    await service.create(me, STORE, [listing(number=1)], keeps_serials=True)
    assert await tombs(racing) == {}


async def test_thousands_of_listings_leave_tombstones_at_once(racing: Racing) -> None:
    bodies = [listing(title=str(number)) for number in range(1_500)]
    service, me = entities(racing), racing.principal
    await service.create(me, STORE, bodies)
    await service.change_matches(me, STORE, EVERYTHING, {"publish_status": "draft"})
    assert await tombs(racing) == dict.fromkeys(range(1, 1_501), "draft")
    await service.change_matches(me, STORE, EVERYTHING, {"publish_status": "published"})
    assert await tombs(racing) == {}
    await service.delete_matches(me, STORE, EVERYTHING)
    assert len(await tombs(racing)) == 1_500


async def test_what_is_refused_leaves_nothing(racing: Racing) -> None:
    """All of a commit, or nothing: a batch whose last request fails."""
    entity = await made(racing)
    requests = [
        BatchRequest("PATCH", STORE, entity["_id"], {"publish_status": "draft"}),
        BatchRequest("PATCH", STORE, entity["_id"], {"publish_status": "nonsense"}),
    ]
    with pytest.raises(RequestFailed) as refusal:
        await racing.hub.batch.run(racing.principal, requests, 1, None)
    assert refusal.value.index == 1
    assert await tombs(racing) == {}
    assert orjson.loads((await racing.hub.engine.get(STORE, entity["_id"]) or (b"{}", 0))[0])["_rev"] == 1


async def test_one_order_of_listings_and_tombstones(racing: Racing) -> None:
    """A mark taken from the last that was seen, listing or tombstone, is below everything that is committed later."""
    service, me = entities(racing), racing.principal
    marks = [0]

    async def note(*numbers: int) -> None:
        """Note the mark after a commit that has changed these listings."""
        changed = [each for each in await racing.hub.engine.entities(STORE, Query()) if each["number"] in numbers]
        tombstones = await racing.hub.engine.entities(TOMBSTONES.name, Query())
        seen = [each["updated_at"] for each in changed]
        seen += [each["at"] for each in tombstones if each["number"] in numbers]
        assert min(seen) > marks[-1]
        marks.append(max(seen))

    one, other = await made(racing), await made(racing)
    await note(1, 2)
    image = await racing.make("property_images", {"property": one["_id"]})
    await note(1)
    await service.change(me, STORE, one["_id"], {"publish_status": "draft"}, None)
    await note(1)
    await service.change(me, "property_images", image, {"alt": "x"}, None)
    assert (await racing.see(STORE, one["_id"]))["updated_at"] > marks[-1]
    [district] = await racing.hub.engine.entities("districts", Query(Equal(("slug",), "kampala")))
    await service.change(me, "districts", district["_id"], {"name": "K"}, None)
    assert (await racing.see(STORE, other["_id"]))["updated_at"] > marks[-1]
    await service.delete(me, STORE, other["_id"], None)
    await note(2)


async def test_a_tombstone_is_kept_for_a_number_of_days(racing: Racing) -> None:
    entity = await made(racing)
    await entities(racing).delete(racing.principal, STORE, entity["_id"], None)
    hub, now = racing.hub, now_ms()
    for days in (90, 7):
        await sweep_tombstones(hub.engine, hub.registry, days, now + days * DAY - 60_000)
    assert await tombs(racing) == {1: None}
    await sweep_tombstones(hub.engine, hub.registry, 7, now + 7 * DAY + 60_000)
    assert await tombs(racing) == {}


@pytest.mark.parametrize(("settings", "days"), [({}, 90), ({"tombstone_days": 7}, 7)], ids=["default", "a week"])
async def test_old_tombstones_are_swept(
    database: Database, tmp_path: Path, settings: Mapping[str, int], days: int
) -> None:
    """Also when they are more than the hub removes at once. Younger ones stay."""
    await prepare_database(database)
    hub = assembled(database, tmp_path, **settings)
    hub.settings = hub.settings.model_copy(update={"sweep_interval": 0.01})
    limit = now_ms() - days * DAY
    ages = [*[limit - 60_000] * 1_500, limit + 600_000]
    stones = [own_entity({"number": n, "at": at * 1_000, "publish_status": None}) for n, at in enumerate(ages)]

    async def left() -> list[int]:
        return [each["number"] for each in await hub.engine.entities(TOMBSTONES.name, Query())]

    async def is_swept() -> bool:
        return await left() == [1_500]

    async with hub.run():
        await hub.engine.commit([Insert(TOMBSTONES.name, stone) for stone in stones], None)
        await eventually(is_swept)
        await sweep_tombstones(hub.engine, hub.registry, days, now_ms())
        assert await is_swept()
