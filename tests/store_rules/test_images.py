"""Rules of images: a listing with images has exactly one main image, whichever way images are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hub.services.store_rules.images import MOST_IMAGES
from stores.records import Entity
from tests.platform.answers import good, refused
from tests.store_rules.ways import CHANGE, DELETE, MAKE, batch, refs
from tests.support.hub import Client, unique
from tests.support.listings import listing

pytestmark = pytest.mark.gate("sqlite", "mongodb")

STORE = "property_images"


async def made(client: Client, **fields: Any) -> Entity:
    return await client.make("properties", listing(**fields))


async def images_of(client: Client, entity: Entity) -> list[Entity]:
    return await client.list(STORE, {"property": entity["_id"], "sort": "number"})


async def mains(client: Client, entity: Entity) -> list[bool]:
    """Return for each image of a listing, by its number, whether it is the main one. Exactly one is."""
    found = [each["is_main"] for each in await images_of(client, entity)]
    assert found.count(True) == (1 if found else 0)
    return found


async def with_images(client: Client, count: int) -> tuple[Entity, list[Entity]]:
    """Return a new listing with so many images, of which the first is the main one."""
    entity = await made(client)
    bodies = [refs({"property": entity["_id"], "alt": str(n)}) for n in range(count)]
    return entity, await client.make_all(STORE, bodies)


async def rev_of(client: Client, entity: Entity) -> int:
    return int((await client.see("properties", entity["_id"]))["_rev"])


@pytest.mark.parametrize("way", MAKE)
async def test_the_first_image_is_the_main_one(user: Client, way: str) -> None:
    entity = await made(user)
    for expected in ([True], [True, False], [True, False, False]):
        good(await MAKE[way](user, STORE, {"property": entity["_id"], "is_main": False}))
        assert await mains(user, entity) == expected
    assert await rev_of(user, entity) == entity["_rev"] + 3


@pytest.mark.parametrize("way", MAKE)
async def test_a_new_main_image_demotes_the_one_before(user: Client, way: str) -> None:
    entity, _ = await with_images(user, 2)
    rev = await rev_of(user, entity)
    good(await MAKE[way](user, STORE, {"property": entity["_id"], "is_main": True}))
    assert await mains(user, entity) == [False, False, True]
    assert await rev_of(user, entity) == rev + 1


async def test_the_last_of_several_new_main_images_counts(user: Client) -> None:
    entity = await made(user)
    flags = [False, True, False, True, False]
    bodies = [{"property": entity["_id"], "is_main": flag} for flag in flags]
    answer = await user.make_all(STORE, bodies)
    assert [each["is_main"] for each in answer] == await mains(user, entity) == [False, False, False, True, False]


async def test_images_of_several_listings_come_in_one_request(user: Client) -> None:
    one, other = await made(user), await made(user)
    bodies = [{"property": each["_id"]} for each in (one, other, one, other)]
    await user.make_all(STORE, bodies)
    assert await mains(user, one) == await mains(user, other) == [True, False]
    assert await rev_of(user, one) == one["_rev"] + 1


@pytest.mark.parametrize("way", CHANGE)
async def test_setting_the_main_image_demotes_the_one_before(user: Client, way: str) -> None:
    entity, images = await with_images(user, 3)
    rev = await rev_of(user, entity)
    for number, expected in ((1, [False, True, False]), (2, [False, False, True]), (0, [True, False, False])):
        good(await CHANGE[way](user, STORE, images[number], {"is_main": True}))
        assert await mains(user, entity) == expected
    assert await rev_of(user, entity) == rev + 3


@pytest.mark.parametrize("way", CHANGE)
async def test_the_main_image_cannot_be_unset(user: Client, way: str) -> None:
    """Nor is that a change of anything."""
    entity, images = await with_images(user, 2)
    rev = await rev_of(user, entity)
    for value in (False, None):
        good(await CHANGE[way](user, STORE, images[0], {"is_main": value}))
        assert await images_of(user, entity) == images
    good(await CHANGE[way](user, STORE, images[0], {"is_main": True}))
    assert await images_of(user, entity) == images
    assert await rev_of(user, entity) == rev


@pytest.mark.parametrize("way", CHANGE)
async def test_another_change_of_an_image_touches_its_listing(user: Client, way: str) -> None:
    entity, images = await with_images(user, 2)
    rev = await rev_of(user, entity)
    good(await CHANGE[way](user, STORE, images[1], {"alt": "Front view"}))
    assert await mains(user, entity) == [True, False]
    assert await rev_of(user, entity) == rev + 1


@pytest.mark.parametrize("way", CHANGE)
async def test_an_image_moves_to_another_listing(user: Client, way: str) -> None:
    """The first one there is the main one, and its former listing gets another."""
    entity, images = await with_images(user, 3)
    other = await made(user)
    revs = await rev_of(user, entity), await rev_of(user, other)
    good(await CHANGE[way](user, STORE, images[0], {"property": other["_id"], "is_main": False}))
    assert await mains(user, entity) == [True, False]
    assert await mains(user, other) == [True]
    good(await CHANGE[way](user, STORE, images[2], {"property": other["_id"], "is_main": False}))
    assert await mains(user, other) == [True, False]
    good(await CHANGE[way](user, STORE, images[1], {"property": other["_id"], "is_main": True}))
    assert await mains(user, entity) == []
    assert await mains(user, other) == [False, True, False]
    assert (await rev_of(user, entity), await rev_of(user, other)) == (revs[0] + 3, revs[1] + 3)


@pytest.mark.parametrize("way", DELETE)
async def test_the_lowest_number_follows_a_deleted_main_image(user: Client, way: str) -> None:
    entity, images = await with_images(user, 4)
    good(await user.patch(f"/{STORE}/{images[2]['_id']}", {"is_main": True}))
    rev = await rev_of(user, entity)
    for number, expected in ((2, [True, False, False]), (1, [True, False]), (0, [True]), (3, [])):
        good(await DELETE[way](user, STORE, images[number]))
        assert await mains(user, entity) == expected
    assert await rev_of(user, entity) == rev + 4


async def test_a_deletion_elsewhere_that_takes_images_along(user: Client) -> None:
    entity, images = await with_images(user, 3)
    photographer = await user.make("photographers", name="A")
    for image in images[:2]:
        good(await user.patch(f"/{STORE}/{image['_id']}", {"photographer": photographer["_id"]}))
    rev = await rev_of(user, entity)
    good(await user.delete(f"/photographers/{photographer['_id']}"))
    assert [each["_id"] for each in await images_of(user, entity)] == [images[2]["_id"]]
    assert await mains(user, entity) == [True]
    assert await rev_of(user, entity) == rev + 1


async def test_bulk_changes_leave_one_main_image_in_each_listing(user: Client) -> None:
    pairs = [await with_images(user, 3) for _ in range(3)]
    refs_of = [image["ref"] for _, images in pairs for image in images[1:]]
    where = {"ref[in]": ",".join(refs_of)}
    good(await user.patch(f"/{STORE}", {"is_main": True}, where))
    for entity, _ in pairs:
        assert (await mains(user, entity))[0] is False
    good(await user.patch(f"/{STORE}", {"is_main": False}, where))
    for entity, _ in pairs:
        assert (await mains(user, entity))[0] is False
    good(await user.delete(f"/{STORE}", where))
    for entity, _ in pairs:
        assert await mains(user, entity) == [True]


async def test_a_listing_takes_its_images_along(user: Client) -> None:
    entity, _ = await with_images(user, 3)
    agency = await user.make("agencies", name="A")
    other, _ = await with_images(user, 2)
    good(await user.patch(f"/properties/{other['_id']}", {"agency": agency["_id"]}))
    good(await user.delete(f"/properties/{entity['_id']}"))
    good(await user.delete(f"/agencies/{agency['_id']}"))
    assert await images_of(user, entity) == await images_of(user, other) == []


async def test_a_batch_is_as_if_each_had_been_sent_alone(user: Client) -> None:
    entity = await made(user)

    def post(**fields: Any) -> Entity:
        return {"method": "POST", "path": f"/{STORE}", "body": {"property": entity["_id"], **fields}}

    answer = good(await user.post("/batch", {"requests": [post(), post(), post(is_main=True), post()]}))
    shown = [each["body"]["is_main"] for each in answer["responses"]]
    assert shown == [True, False, True, False]
    assert await mains(user, entity) == [False, False, True, False]


# The number of images.


async def filled(client: Client, entity: Entity, count: int) -> Sequence[Entity]:
    return await client.make_all(STORE, [refs({"property": entity["_id"]}) for _ in range(count)])


@pytest.mark.parametrize("way", MAKE)
async def test_a_listing_has_a_bounded_number_of_images(user: Client, way: str) -> None:
    entity = await made(user)
    await filled(user, entity, MOST_IMAGES - 1)
    good(await MAKE[way](user, STORE, {"property": entity["_id"]}))
    answer = await MAKE[way](user, STORE, {"property": entity["_id"]})
    errors = refused(answer, 400)
    [[name, texts]] = errors.items()
    assert name.endswith("property")
    assert texts == [f"A listing has at most {MOST_IMAGES} images."]
    assert len(await images_of(user, entity)) == MOST_IMAGES


async def test_the_error_names_the_image_that_is_too_many(user: Client) -> None:
    one, other = await made(user), await made(user)
    await filled(user, one, MOST_IMAGES - 1)
    bodies = [{"property": each["_id"]} for each in (other, one, other, one)]
    refused(await user.post(f"/{STORE}", bodies), 400, "3.property")
    assert await images_of(user, other) == []
    [image] = await filled(user, other, 1)
    await filled(user, one, 1)
    refused(await user.patch(f"/{STORE}/{image['_id']}", {"property": one["_id"]}), 400, "property")
    refused(await batch(user, "PATCH", f"/{STORE}/{image['_id']}", {"property": one["_id"]}), 400)


async def test_an_image_needs_a_listing_that_its_writer_sees(user: Client, hub: Any) -> None:
    foreign = await made(await hub.as_user())
    refused(await user.post(f"/{STORE}", {"property": foreign["_id"]}), 400, "property")
    refused(await user.post(f"/{STORE}", {"property": unique("x")}), 400, "property")
    refused(await user.post(f"/{STORE}", {}), 400, "property")


async def test_images_belong_to_the_owners_of_their_listing(user: Client, admin: Client, hub: Any) -> None:
    """Whoever adds them. Those who may only read a listing add none."""
    entity, other = await made(user), await made(await hub.as_user())
    image = await admin.make(STORE, {"property": entity["_id"]})
    assert image["owner"] == user.id
    assert [each["_id"] for each in await images_of(user, entity)] == [image["_id"]]
    good(await user.patch(f"/{STORE}/{image['_id']}", {"alt": "x"}))
    moved = good(await admin.patch(f"/{STORE}/{image['_id']}", {"property": other["_id"]}))
    assert moved["owner"] == other["owner"]
    refused(await user.get(f"/{STORE}/{image['_id']}"), 404)
    good(await admin.patch(f"/{STORE}", {"property": entity["_id"]}, {"property": other["_id"]}))
    good(await user.delete(f"/{STORE}/{image['_id']}"))
    group = await hub.group()
    owner = await hub.as_user(group=group)
    shared = await made(owner)
    reader = await hub.as_user(group=group)
    good(await reader.get(f"/properties/{shared['_id']}"))
    narrow = await hub.with_token(reader.user, scopes=["GET /*", f"POST /{STORE}/*"])
    refused(await narrow.post(f"/{STORE}", {"property": shared["_id"]}), 400, "property")
    assert (await reader.make(STORE, {"property": shared["_id"]}))["owner"] == owner.id


async def test_an_import_keeps_numbers_and_main_images(admin: Client) -> None:
    """By `upsert=number&keep=serials`, as imports of exported entities send it."""
    entity, images = await with_images(admin, 3)
    good(await admin.patch(f"/{STORE}/{images[1]['_id']}", {"is_main": True}))
    rows = [
        {name: each[name] for name in ("number", "property", "is_main", "alt", "ref")}
        for each in await images_of(admin, entity)
    ]
    good(await admin.delete(f"/{STORE}", {"property": entity["_id"]}))
    params = {"upsert": "number", "keep": "serials"}
    for _ in range(2):
        good(await admin.post(f"/{STORE}", rows, params))
        assert await mains(admin, entity) == [False, True, False]
    good(await admin.post(f"/{STORE}", [rows[0] | {"is_main": True}, rows[0] | {"is_main": False}, rows[2]], params))
    assert await mains(admin, entity) == [True, False, False]
