"""The preparation of a database for the listings API, and its reference data."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from auth.purposes import IMAGES, PROPERTIES
from auth.system_stores import DEFINITIONS
from hub.services.listings import seeds
from hub.services.listings.preparing import keep_prepared, prepare
from hub.services.listings.seeds import key_of, seed_rows
from hub.services.listings.stores import AMENITIES, CURRENCIES, DISTRICTS, NAMES, REGIONS, ListingsStores
from hub.services.registry import StoreRegistry
from hub.services.stamping import own_entity, stamp_change
from hub.settings import Settings
from stores.definitions import parse_definition
from stores.errors import Conflict, DataConflict
from stores.protocol import Delete, Engine, Insert, Update
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity
from tests.support.engines import Database, opened
from tests.support.listings import prepared, registry_of

pytestmark = pytest.mark.gate("sqlite", "mongodb")


async def contents(engine: Engine, registry: StoreRegistry) -> dict[str, list[Entity]]:
    """Return all entities of all defined stores."""
    names = [each.name for each in registry.all() if not each.system]
    return {name: await engine.entities(name, Query()) for name in [*names, "stores"]}


async def define(engine: Engine, **definition: Any) -> Entity:
    entity = own_entity(definition)
    await engine.define(DEFINITIONS)
    await engine.define(parse_definition(entity), writes=[Insert("stores", entity)])
    return entity


async def row_of(engine: Engine, store: str, slug: str) -> Entity:
    [found] = await engine.entities(store, Query(Equal(("slug",), slug)))
    return found


async def test_a_database_is_prepared_once(engine: Engine) -> None:
    registry = await prepared(engine)
    stores = ListingsStores.among(registry.all())
    assert stores.are_complete
    assert {purpose: each.name for purpose, each in stores.by_purpose.items()} == NAMES
    assert not any(each.open for each in stores.by_purpose.values())
    for purpose, rows in seed_rows().items():
        assert await engine.count(stores.get(purpose).name) == len(rows)
    assert await engine.count(stores.get(PROPERTIES).name) == await engine.count(stores.get(IMAGES).name) == 0
    before = await contents(engine, registry)
    await prepare(engine, registry, "")
    await keep_prepared(engine, registry)
    await prepare(engine, await registry_of(engine), "other")
    assert await contents(engine, registry) == before


async def test_several_prepare_it_at_once(database: Database) -> None:
    """In one process, and in several where a database is shared."""
    async with opened(database.engine()) as engine:
        if not engine.shared:
            registries = [await registry_of(engine) for _ in range(4)]
            await asyncio.gather(*(prepare(engine, each, "") for each in registries))
        else:
            async with opened(database.engine()) as second:
                each = [(engine, await registry_of(engine)), (second, await registry_of(second))]
                await asyncio.gather(*(prepare(*pair, "") for pair in each * 2))
            registries = [each[0][1]]
        stores = ListingsStores.among(registries[0].all())
        assert stores.are_complete
        assert await engine.count("stores") == len(NAMES)
        for purpose, rows in seed_rows().items():
            keys = [row[key_of(purpose)] for row in await engine.entities(NAMES[purpose], Query())]
            assert sorted(keys) == sorted(row[key_of(purpose)] for row in rows)


async def test_stores_have_the_prefix(engine: Engine) -> None:
    registry = await prepared(engine, "ug_")
    stores = ListingsStores.among(registry.all())
    assert {each.name for each in stores.by_purpose.values()} == {f"ug_{name}" for name in NAMES.values()}
    assert {each.target for each in stores.get(PROPERTIES).relations} == {
        "ug_currencies",
        "ug_property_types",
        "ug_districts",
        "ug_regions",
        "ug_amenities",
    }


async def test_a_store_of_that_name_that_lacks_fields(engine: Engine) -> None:
    """All of them are named, with what they lack, and nothing is changed."""
    await define(engine, name="amenities", fields=[{"id": "name", "type": "Text"}])
    await define(engine, name="regions", fields=[{"id": n, "type": "Text"} for n in ("name", "slug")])
    registry = await registry_of(engine)
    before = await contents(engine, registry)
    with pytest.raises(DataConflict) as refused:
        await prepare(engine, registry, "")
    texts = refused.value.found
    assert texts.keys() == {"amenities", "regions"}
    assert "slug, icon" in texts["amenities"]
    assert "slug" in texts["regions"], "it is not unique there"
    assert all("HUB_LISTINGS_STORE_PREFIX" in text for text in texts.values())
    assert await contents(engine, registry) == before
    await prepare(engine, registry, "l_")
    assert ListingsStores.among(registry.all()).get(AMENITIES).name == "l_amenities"


async def test_names_that_the_hub_uses_itself(engine: Engine) -> None:
    """By another of its APIs, or by itself."""
    await define(engine, name="regions", purpose="crm.regions")
    registry = await registry_of(engine)
    with pytest.raises(DataConflict) as refused:
        await prepare(engine, registry, "")
    assert "another API" in refused.value.found["regions"]


async def test_a_store_of_that_name_with_all_fields_is_used(engine: Engine) -> None:
    fields = [
        {"id": "name", "type": "Text"},
        {"id": "slug", "type": "Text", "unique": True},
        {"id": "icon", "type": "Text"},
        {"id": "rank", "type": "Number"},
    ]
    made = await define(engine, name="amenities", fields=fields)
    mine = own_entity({"name": "My parking", "slug": "parking", "icon": "bi-x", "rank": 1})
    await engine.commit([Insert("amenities", mine)], None)
    registry = await prepared(engine)
    definition = ListingsStores.among(registry.all()).get(AMENITIES)
    assert (definition.id, "rank" in definition.by_id) == (made["_id"], True)
    assert await row_of(engine, "amenities", "parking") == mine
    assert await engine.count("amenities") == len(seed_rows()[AMENITIES])


async def test_only_an_administrators_key_takes_a_store_that_is_there(engine: Engine) -> None:
    """Others learn nothing of it, and change nothing."""
    await define(engine, name="regions", fields=[{"id": "name", "type": "Text"}, {"id": "slug", "type": "Text"}])
    registry = await registry_of(engine)
    before = await contents(engine, registry)
    with pytest.raises(Conflict) as refused:
        await prepare(engine, registry, "", adopts=False)
    assert "regions" not in str(refused.value)
    assert await contents(engine, registry) == before
    await prepare(engine, registry, "l_", adopts=False)
    assert ListingsStores.among(registry.all()).are_complete


async def test_seed_rows_keep_what_administrators_make_of_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a later version brings more rows, or has others of the same key."""
    registry = await prepared(engine)
    changed, gone = await row_of(engine, "districts", "gulu"), await row_of(engine, "districts", "abim")
    region = await row_of(engine, "regions", "western")
    await engine.commit([Update("districts", changed["_id"], stamp_change({"name": "Gulu District"}))], None)
    await engine.commit([Delete("districts", gone["_id"])], None)
    await engine.commit([Delete("regions", region["_id"])], None)
    before = await contents(engine, registry)
    await prepare(engine, registry, "")
    await keep_prepared(engine, registry)
    assert await contents(engine, registry) == before
    rows = {purpose: [{**row} for row in rows] for purpose, rows in seed_rows().items()}
    rows[DISTRICTS] += [
        {"name": "New Town", "slug": "new-town", "region": "central"},
        {"name": "Nowhere", "slug": "nowhere", "region": "western"},
    ]
    for row in rows[DISTRICTS]:
        row["name"] += "!"
    monkeypatch.setattr(seeds, "seed_rows", lambda: rows)
    await keep_prepared(engine, await registry_of(engine))
    after = await contents(engine, registry)
    new = [each for each in after["districts"] if each not in before["districts"]]
    assert [(each["name"], each["region"]) for each in new] == [("New Town!", "central")]
    assert {name: each for name, each in after.items() if name != "districts"} == {
        name: each for name, each in before.items() if name != "districts"
    }


async def test_a_store_that_is_made_again_gets_its_rows_again(engine: Engine) -> None:
    registry = await prepared(engine)
    definition = ListingsStores.among(registry.all()).get("listings.reference.tenures")
    for row in await engine.entities("tenures", Query(EVERYTHING)):
        await engine.commit([Delete("tenures", row["_id"])], None)
    await engine.drop("tenures", [Delete("stores", definition.id)])
    await registry.refresh()
    await prepare(engine, registry, "")
    assert await engine.count("tenures") == 4


@pytest.mark.parametrize("prefix", ["1", "a b", "_x", "a.", "x" * 41])
def test_a_prefix_begins_a_name(prefix: str) -> None:
    with pytest.raises(ValidationError, match="listings_store_prefix"):
        Settings(listings_store_prefix=prefix)


# The data.


def test_the_districts_of_uganda() -> None:
    rows = seed_rows()[DISTRICTS]
    assert len(rows) >= 130
    assert len({row["slug"] for row in rows}) == len({row["name"] for row in rows}) == len(rows)
    regions = {row["slug"]: row["name"] for row in seed_rows()[REGIONS]}
    assert regions == {name.lower(): name for name in ("Central", "Eastern", "Northern", "Western")}
    assert {row["region"] for row in rows} == regions.keys()
    known = {
        "Kampala": "central", "Wakiso": "central", "Mukono": "central", "Kalangala": "central", "Luwero": "central",
        "Jinja": "eastern", "Mbale": "eastern", "Soroti": "eastern", "Tororo": "eastern", "Busia": "eastern",
        "Gulu": "northern", "Arua": "northern", "Lira": "northern", "Moroto": "northern", "Madi-Okollo": "northern",
        "Mbarara": "western", "Kabale": "western", "Hoima": "western", "Kasese": "western", "Kagadi": "western",
    }  # fmt: skip
    assert known.items() <= {row["name"]: row["region"] for row in rows}.items()
    for row in rows:
        assert row["slug"] == row["name"].lower().replace(" ", "-")


def test_the_other_reference_data() -> None:
    symbols = {row["code"]: row["symbol"] for row in seed_rows()[CURRENCIES]}
    assert symbols == {"UGX": "USh", "USD": "$", "KES": "KSh", "EUR": "€", "GBP": "£"}
    amenities = {row["slug"]: row for row in seed_rows()[AMENITIES]}
    assert amenities["parking"] == {"name": "Parking", "slug": "parking", "icon": "bi-p-square"}
    assert "swimming-pool" in amenities
    assert all(row["icon"].startswith("bi-") for row in amenities.values())
    tenures = {row["slug"] for row in seed_rows()["listings.reference.tenures"]}
    assert tenures == {"freehold", "leasehold", "mailo", "customary"}
    assert "bungalow" in {row["slug"] for row in seed_rows()["listings.reference.property_types"]}
    for purpose, rows in seed_rows().items():
        keys = [row[key_of(purpose)] for row in rows]
        assert len({*keys}) == len(keys)
