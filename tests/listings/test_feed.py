"""The feed: what it shows, its filters and its search."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from hub.dialects.listings.filters import INVALID_NUMBER, INVALID_TIME
from tests.listings.answers import check
from tests.listings.support import Tenant, Tenants
from tests.support.hub import Hub

EPOCH = datetime(1970, 1, 1)


@pytest.fixture(scope="module")
async def seller(tenants: Tenants) -> Tenant:
    """A tenant with listings of all kinds."""
    tenant = await tenants()
    await tenant.add_all(
        [
            {"title": "cheap", "price": 100},
            {"title": "dear", "price": 2_000_000.5, "listing_type": "sale"},
            {"title": "flat", "property_type": "apartment"},
            {"title": "north", "district": "gulu", "region": "northern"},
            {"title": "sold", "availability": "sold"},
            {"title": "draft", "publish_status": "draft"},
            {"title": "trash", "publish_status": "trash"},
        ]
    )
    return tenant


ALL = ["sold", "north", "flat", "dear", "cheap"]


@pytest.mark.parametrize(
    ("parameters", "titles"),
    [
        ({}, ALL),
        ({"unknown": "1", "listing_type": "", "min_price": "", "search": " ", "cursor": ""}, ALL),
        ({"listing_type": "sale"}, ["dear"]),
        ({"property_type": "apartment"}, ["flat"]),
        ({"property_type": "castle"}, []),
        ({"region": "northern"}, ["north"]),
        ({"district": "gulu"}, ["north"]),
        ({"district": "Gulu"}, []),
        ({"region": "nowhere"}, []),
        ({"min_price": "2000000.5"}, ["dear"]),
        ({"min_price": "2000000.50000001"}, []),
        ({"max_price": "100"}, ["cheap"]),
        ({"max_price": "99.999"}, []),
        ({"max_price": " 1e2 "}, ["cheap"]),
        ({"min_price": "-1", "max_price": "1e300"}, ALL),
        ({"min_price": "1e300"}, []),
        ({"min_price": "1e1000000"}, []),
        ({"max_price": "1e1000000", "min_price": "-1e1000000"}, ALL),
        ({"min_price": "0e1000000"}, ALL),
        ({"min_price": "1e-1000000"}, ALL),
        ({"max_price": "-1e-1000000"}, []),
        ({"min_price": "100", "max_price": "1500000"}, ["sold", "north", "flat", "cheap"]),
        ({"availability": "sold"}, ["sold"]),
        ({"availability": "reserved"}, []),
        ({"publish_status": "published"}, ALL),
        ({"publish_status": "draft"}, ["draft"]),
        ({"publish_status": "trash"}, ["trash"]),
        ({"publish_status": "all"}, ["trash", "draft", *ALL]),
        ({"search": "kampala"}, ["sold", "flat", "dear", "cheap"]),
        ({"search": "NORTHERN"}, ["north"]),
        ({"search": "bbunga  gul"}, ["north"]),
        ({"search": "garden cheap"}, ["cheap"]),
        ({"search": "garden castle"}, []),
        ({"search": "%"}, []),
        ({"search": "_"}, []),
    ],
    ids=str,
)  # fmt: skip
async def test_filters(seller: Tenant, parameters: dict[str, str], titles: list[str]) -> None:
    assert await seller.titles(**parameters) == titles


async def test_changes_since_a_time(tenant: Tenant) -> None:
    """The time of a change belongs to what has changed since then, in every spelling."""
    made = [await tenant.add(title=title) for title in ("alpha", "beta", "gamma")]
    for index, entity in enumerate(made):
        time, titles = EPOCH + timedelta(microseconds=entity["updated_at"]), ["gamma", "beta", "alpha"][: 3 - index]
        east = f"{time + timedelta(hours=3):%Y-%m-%dT%H:%M:%S.%f}+03:00"
        west = f"{time - timedelta(hours=3):%Y-%m-%d %H:%M:%S.%f}-03:00"
        for text in (f"{time:%Y-%m-%dT%H:%M:%S.%f}Z", f"{time:%Y-%m-%dT%H:%M:%S.%f}", east, west):
            assert await tenant.titles(updated_after=text) == titles
        answer = await tenant.reader.get(f"properties/?updated_after={east}")  # its plus sign is not encoded
        assert [listing["title"] for listing in answer.json()["results"]] == titles
    later = time + timedelta(microseconds=1)
    assert await tenant.titles(updated_after=f"{later:%Y-%m-%dT%H:%M:%S.%f}Z") == []
    today = f"{EPOCH + timedelta(microseconds=made[0]['updated_at']):%Y-%m-%d}"
    assert await tenant.titles(updated_after=today, search="BETA", max_price="3e6") == ["beta"]


async def test_the_last_of_several_values_counts(seller: Tenant) -> None:
    answer = await seller.reader.get("properties/?listing_type=rent&listing_type=sale")
    assert [listing["title"] for listing in answer.json()["results"]] == ["dear"]


@pytest.mark.parametrize("name", ["min_price", "max_price"])
@pytest.mark.parametrize("value", ["abc", "1,5", "NaN", "Infinity", "-inf", "1_000", "0x10", "١", "--1", "1e", "."])
async def test_a_price_that_is_no_number(tenant: Tenant, name: str, value: str) -> None:
    check(await tenant.reader.get("properties/", params={name: value}), 400, {name: [INVALID_NUMBER]})


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", "2026-02-30", "2026-06-01T25:00:00Z", "1780272000", "2026-W22-1", "0000-01-01"]
)
async def test_a_time_that_is_none(tenant: Tenant, value: str) -> None:
    check(
        await tenant.reader.get("properties/", params={"updated_after": value}), 400, {"updated_after": [INVALID_TIME]}
    )


@pytest.mark.parametrize("name", ["listing_type", "availability", "publish_status"])
async def test_a_choice_that_there_is_not(tenant: Tenant, name: str) -> None:
    answer = await tenant.reader.get("properties/", params={name: "all of them"})
    check(answer, 400, {name: ['"all of them" is not a valid choice.']})


async def test_every_mistake_is_named(tenant: Tenant) -> None:
    wrong = {"min_price": "a", "max_price": "b", "listing_type": "c", "updated_after": "d", "search": "x" * 1_001}
    answer = await tenant.reader.get("properties/", params=wrong)
    assert (answer.status_code, answer.json().keys()) == (400, wrong.keys())


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ("a\0b", "Null characters are not allowed."),
        ("x" * 1_001, "Ensure this value has at most 1000 characters."),
        (" ".join(map(str, range(21))), "Ensure this value has no more than 20 words."),
    ],
    ids=["nul", "long", "many"],
)
async def test_a_search_beyond_its_bounds(tenant: Tenant, search: str, text: str) -> None:
    check(await tenant.reader.get("properties/", params={"search": search}), 400, {"search": [text]})


async def test_a_query_string_that_cannot_be_read(tenant: Tenant) -> None:
    answer = await tenant.reader.get("properties/?search=%FF")
    assert (answer.status_code, answer.json().keys()) == (400, {"query"})


async def test_it_shows_ones_own_listings_alone(hub: Hub, tenants: Tenants) -> None:
    """Listings that others share with the user belong to others."""
    owner, friend = await tenants(), await tenants()
    shared = await owner.add(title="shared")
    answer = await owner.platform.put(f"/properties/{shared['_id']}/access", {"access": [friend.platform.id]})
    assert answer.status_code == 200
    assert len(await friend.platform.list("properties")) == 1
    assert await friend.feed() == []
    assert (await friend.reader.get(f"properties/{shared['number']}/")).status_code == 404
    assert (await friend.reader.get("account/")).json()["properties_count"] == 0


async def test_an_administrators_key_shows_its_own_listings_alone(hub: Hub, tenants: Tenants) -> None:
    roles = {role["name"]: role["_id"] for role in await hub.admin.list("roles")}
    chief, other = await tenants(roles=[roles["admin"]]), await tenants()
    await other.add(title="of somebody else")
    await chief.add(title="mine")
    assert await chief.titles() == ["mine"]


async def test_drafts_are_found_by_their_number(tenant: Tenant) -> None:
    for status in ("draft", "trash"):
        made = await tenant.add(publish_status=status)
        found = await tenant.reader.get(f"properties/{made['number']}/")
        assert (found.status_code, found.json()["publish_status"]) == (200, status)


async def test_what_was_created_at_once_is_ordered_by_number(tenant: Tenant) -> None:
    made = await tenant.add_all([{"title": f"number {n}"} for n in range(20)])
    assert len({entity["time"] for entity in made}) == 1
    assert [listing["id"] for listing in await tenant.feed()] == sorted((e["number"] for e in made), reverse=True)


async def test_values_that_a_listing_lacks(tenant: Tenant) -> None:
    empty: dict[str, Any] = dict.fromkeys(
        ["description", "location", "latitude", "longitude", "bedrooms", "floor_size", "amenities"]
    )
    await tenant.add(**empty)
    [found] = await tenant.feed()
    assert (found["description"], found["location"], found["youtube_video_id"]) == ("", "", "")
    assert found["latitude"] is found["longitude"] is found["bedrooms"] is found["floor_size"] is None
    assert (found["amenities"], found["images"]) == ([], [])


async def test_prices_have_two_places(tenant: Tenant) -> None:
    prices = [0, 0.1, 12_345_678_901.99, 999_999_999_999, 1_234.5]
    await tenant.add_all([{"price": price} for price in prices])
    shown = [listing["price"] for listing in await tenant.feed()]
    assert shown == ["1234.50", "999999999999.00", "12345678901.99", "0.10", "0.00"]
    assert len(await tenant.feed(min_price="12345678901.99")) == 2
    assert len(await tenant.feed(max_price="0.1")) == 2


async def test_a_change_of_a_name_is_seen(hub: Hub, tenant: Tenant) -> None:
    """It changes the listings that show the name, which are never shown with the old one."""
    made = await hub.admin.make("amenities", {"name": "Gym", "slug": "gym", "icon": ""})
    listing = await tenant.add(amenities=["gym"])
    for number in range(1, 6):
        before, listing = listing, await tenant.platform.see("properties", listing["_id"])
        assert (listing["updated_at"] > before["updated_at"]) is (number > 1)
        await hub.admin.patch(f"/amenities/{made['_id']}", {"name": f"Gym {number}"})
        [shown] = await tenant.feed()
        assert shown["amenities"][0]["name"] == f"Gym {number}"


async def test_a_page_of_large_listings_is_shorter(tenant: Tenant) -> None:
    """Nothing is lost: the next page goes on."""
    text = "😀" * 60_000
    for number in range(0, 40, 2):
        await tenant.add_all(
            [{"title": str(number), "description": text}, {"title": str(number + 1), "description": text}]
        )
    titles: list[str] = []
    sizes: list[int] = []
    address: str | None = "properties/"
    while address is not None:
        answer = (await tenant.reader.get(address)).json()
        titles += [listing["title"] for listing in answer["results"]]
        sizes.append(len(answer["results"]))
        address = answer["next"]
    assert titles == [str(number) for number in reversed(range(40))]
    assert len(sizes) > 1
    assert min(sizes) > 0
