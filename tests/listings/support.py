"""The stores and reference data of the listings API, and a tenant with keys."""

from __future__ import annotations

import itertools
import secrets
import string
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx

from auth.secrets import digest
from stores.records import Entity
from tests.listings import serving
from tests.support.hub import PATIENCE, Client, Hub
from tests.support.program import PYTHON, ROOT

LISTINGS = "/v1"

Json = dict[str, Any]


def program(requests: int = 100_000) -> tuple[str, ...]:
    """Return the command that runs a hub with the listings API; `requests`: those of a key in a minute."""
    return PYTHON, str(serving.__file__), str(ROOT), str(requests)


def reference(id: str, store: str, by: str = "slug", **more: Any) -> Json:
    """Return a field for the slug or code of an entity. A Reference would need the right to see that one, which users
    get with the purpose of its store."""
    return {"id": id, "type": "Text", **more}


def choice(id: str, **labels: str) -> Json:
    return {"id": id, "type": "Select", "options": [{"id": i, "name": label} for i, label in labels.items()]}


SLUG = {"id": "slug", "type": "Text", "required": True, "unique": True}
NAME = {"id": "name", "type": "Text", "required": True}
NAMED = [NAME, SLUG]

DEFINITIONS: list[Json] = [
    {"name": "amenities", "fields": [*NAMED, {"id": "icon", "type": "Text"}]},
    {"name": "property_types", "fields": NAMED},
    {
        "name": "currencies",
        "fields": [{"id": "code", "type": "Text", "required": True, "unique": True}, {"id": "symbol", "type": "Text"}],
    },
    {"name": "tenures", "fields": NAMED},
    {"name": "plot_size_units", "fields": NAMED},
    {"name": "regions", "fields": NAMED},
    {"name": "districts", "fields": [*NAMED, reference("region", "regions")]},
    {
        "name": "properties",
        "fields": [
            {"id": "number", "type": "Serial"},
            {"id": "title", "type": "Text", "required": True, "length": 255, "search": True},
            {"id": "description", "type": "Textarea", "search": True},
            {"id": "price", "type": "Numeric", "required": True},
            reference("currency", "currencies", "code", required=True),
            reference("property_type", "property_types", required=True),
            {**choice("listing_type", rent="For Rent", sale="For Sale"), "required": True},
            {"id": "location", "type": "Text", "search": True},
            reference("district", "districts", required=True, index=True),
            reference("region", "regions", index=True),
            {"id": "latitude", "type": "Numeric"},
            {"id": "longitude", "type": "Numeric"},
            {"id": "bedrooms", "type": "Number"},
            {"id": "bathrooms", "type": "Number"},
            {"id": "floor_size", "type": "Numeric"},
            {"id": "plot_size", "type": "Numeric"},
            {
                **choice(
                    "furnished", furnished="Furnished", unfurnished="Unfurnished", semi_furnished="Semi-furnished"
                ),
                "default": "unfurnished",
            },
            {"id": "is_verified", "type": "Boolean", "default": False},
            {"id": "is_sponsored", "type": "Boolean", "default": False},
            {
                **choice("publish_status", published="Published", draft="Draft", trash="Trash"),
                "default": "published",
            },
            {
                **choice(
                    "availability", available="Available", sold="Sold", rented_out="Rented Out", reserved="Reserved"
                ),
                "default": "available",
            },
            reference("amenities", "amenities", many=True, distinct=True),
            {"id": "youtube_video_id", "type": "Text"},
            {"id": "updated_at", "type": "Number"},
        ],
        "indexes": [
            ["owner", "publish_status", "-time", "-number"],
            ["owner", "-time", "-number"],
            ["owner", "updated_at"],
        ],
    },
    {
        "name": "property_images",
        "fields": [
            {"id": "number", "type": "Serial"},
            {"id": "property", "type": "Reference", "store": "properties", "index": True, "on_delete": "cascade"},
            {"id": "image", "type": "JSON"},
            {"id": "is_main", "type": "Boolean", "default": False},
            {"id": "alt", "type": "Text"},
        ],
    },
    {
        "name": "listing_tombstones",
        "fields": [
            {"id": "number", "type": "Number", "unique": True},
            {"id": "at", "type": "Number"},
            {"id": "publish_status", "type": "Text"},
        ],
        "indexes": [["owner", "-at", "-number"]],
    },
    {"name": "keys", "indexes": ["user"], "unique": ["digest"]},
]

REFERENCES: dict[str, list[Json]] = {
    "amenities": [
        {"name": "Parking", "slug": "parking", "icon": "bi-p-square"},
        {"name": "Swimming Pool", "slug": "swimming-pool", "icon": "bi-water"},
    ],
    "property_types": [{"name": "Bungalow", "slug": "bungalow"}, {"name": "Apartment", "slug": "apartment"}],
    "currencies": [{"code": "UGX", "symbol": "USh"}, {"code": "USD", "symbol": "$"}],
    "tenures": [{"name": "Freehold", "slug": "freehold"}],
    "plot_size_units": [{"name": "Acres", "slug": "acres"}],
    "regions": [{"name": "Central", "slug": "central"}, {"name": "Northern", "slug": "northern"}],
    "districts": [
        {"name": "Wakiso", "slug": "wakiso", "region": "central"},
        {"name": "Kampala", "slug": "kampala", "region": "central"},
        {"name": "Gulu", "slug": "gulu", "region": "northern"},
    ],
}

LISTING: Json = {
    "title": "5 bedroom Bungalow for rent in Bbunga",
    "description": "Quiet, with a garden.",
    "price": 1_500_000,
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "rent",
    "location": "Bbunga",
    "district": "kampala",
    "region": "central",
    "latitude": 0.3,
    "longitude": 32.58,
    "bedrooms": 5,
    "bathrooms": 4,
    "floor_size": 350,
    "plot_size": 50.5,
    "amenities": ["parking"],
}


async def prepare(hub: Hub) -> None:
    """Define the stores, and fill those of reference data."""
    for definition in DEFINITIONS:
        await hub.admin.make("stores", {"open": definition["name"] == "keys", **definition})
    for store, rows in REFERENCES.items():
        await hub.admin.make_all(store, rows)


_numbers = itertools.count(101)


@dataclass
class Tenant:
    """A user of the hub with a number, and clients with its keys: `platform` calls the platform API, `reader` and
    `writer` the listings API below the user's number."""

    hub: Hub
    number: int
    platform: Client
    reader: httpx.AsyncClient
    writer: httpx.AsyncClient

    async def add(self, **fields: Any) -> Entity:
        """Create a listing; return its entity."""
        return await self.platform.make("properties", LISTING | fields)

    async def add_all(self, listings: list[Json]) -> list[Entity]:
        return await self.platform.make_all("properties", [LISTING | fields for fields in listings])

    async def add_image(self, listing: Entity, name: str, **fields: Any) -> Entity:
        image = {"url": f"/media/{name}.webp"}
        return await self.platform.make("property_images", {"property": listing["_id"], "image": image, **fields})

    async def feed(self, **parameters: Any) -> list[Json]:
        """Return the listings of the first page of the feed."""
        answer = await self.reader.get("properties/", params=parameters)
        assert answer.status_code == 200, answer.text
        results: list[Json] = answer.json()["results"]
        return results

    async def titles(self, **parameters: Any) -> list[str]:
        return [listing["title"] for listing in await self.feed(**parameters)]


async def new_key(hub: Hub, user: str, number: int, scope: str = "R", *origins: str, **fields: Any) -> str:
    """Create a key; return its secret."""
    alphabet = string.ascii_letters + string.digits
    secret = f"{scope}_{''.join(secrets.choice(alphabet) for _ in range(32))}"
    entity = {"name": "My site", "kind": "listings", "scope": scope, "user": user, "number": number, "active": True}
    await hub.admin.make("keys", {**entity, "allowed_origins": list(origins), "digest": digest(secret), **fields})
    return secret


class Tenants:
    """Makes tenants, and closes their clients."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._clients = AsyncExitStack()

    async def __call__(self, **fields: Any) -> Tenant:
        platform = await self.hub.as_user(**fields)
        number = next(_numbers)
        reader, writer = [
            self.client(await new_key(self.hub, platform.id, number, scope), f"/{number}") for scope in ("R", "RW")
        ]
        return Tenant(self.hub, number, platform, reader, writer)

    def client(self, key: str | None = None, below: str = "", **headers: str) -> httpx.AsyncClient:
        """Return a client of the listings API with a key, for paths without a slash at their beginning."""
        credentials = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.AsyncClient(
            base_url=f"{self.hub.url}{LISTINGS}{below}",
            headers=credentials | {name.replace("_", "-"): value for name, value in headers.items()},
            timeout=PATIENCE,
            trust_env=False,
            verify=False,
        )
        self._clients.push_async_callback(client.aclose)
        return client

    async def aclose(self) -> None:
        await self._clients.aclose()
