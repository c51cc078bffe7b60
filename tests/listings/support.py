"""The stores and reference data of the listings API, and a tenant with keys."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from stores.records import Entity
from tests.media.uploading import FILES_HOST, png, uploaded
from tests.support.hub import PATIENCE, Client, Hub, eventually, unique
from tests.support.smtp import Inbox

LISTINGS = "/v1"

Json = dict[str, Any]


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


def iso(stamp: int) -> str:
    """Return a time in Unix microseconds as the API writes it."""
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=stamp):%Y-%m-%dT%H:%M:%S.%f}Z".replace(".000000Z", "Z")


def fetched(hub: Hub, url: str) -> str:
    """Return the URL of one of the hub's files as one from which the hub may fetch."""
    return url.replace(hub.url, f"http://{FILES_HOST}:{hub.process.port}")


async def mailed_code(inbox: Inbox, address: str) -> str:
    """Return the code in the newest mail to this address, when there is one."""

    async def found() -> str | None:
        codes = [
            re.findall(r"\b[0-9]{6}\b", str(mail.get_payload()))[0] for mail in inbox.messages if mail["To"] == address
        ]
        return codes[-1] if codes else None

    code = await eventually(found)
    assert code is not None
    return code


async def prepare(hub: Hub) -> None:
    """Make the stores, and put the reference data of the tests in place of the seeds."""
    await hub.admin.make("keys", {"name": "first", "kind": "listings"})
    for store in ("districts", *(name for name in REFERENCES if name != "districts")):
        answer = await hub.admin.delete(f"/{store}", {"all": "true"})
        assert answer.status_code == 200, answer.text
    for store, rows in REFERENCES.items():
        await hub.admin.make_all(store, rows)


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
        """Create an image of a listing, with a file of this name; return its entity."""
        made = await self.platform.make("property_images", {"property": listing["_id"], **fields})
        await uploaded(self.platform, "property_images", made["_id"], "image", png(40, 30), f"{name}.png")
        return await self.platform.see("property_images", made["_id"])

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
    body = {"name": "My site", "kind": "listings", "scope": scope, "user": user, "allowed_origins": list(origins)}
    return str((await hub.admin.make("keys", body | fields))["key"])


class ListingsClient(httpx.AsyncClient):
    """A client whose paths are below its address, except for those from the beginning of the API on."""

    async def request(self, method: str, url: httpx.URL | str, **more: Any) -> httpx.Response:
        if isinstance(url, str) and url.startswith(f"{LISTINGS}/"):
            url = self.base_url.copy_with(raw_path=url.encode())
        return await super().request(method, url, **more)


class Tenants:
    """Makes tenants, and closes their clients."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._clients = AsyncExitStack()

    async def __call__(self, **fields: Any) -> Tenant:
        platform = await self.hub.as_user(**{"email": f"{unique('ann')}@example.com"} | fields)
        number = (await self.hub.admin.see("users", platform.id))["number"]
        reader, writer = [
            self.client(await new_key(self.hub, platform.id, number, scope), f"/{number}") for scope in ("R", "RW")
        ]
        return Tenant(self.hub, number, platform, reader, writer)

    def client(self, key: str | None = None, below: str = "", **headers: str) -> httpx.AsyncClient:
        """Return a client of the listings API with a key, for paths below `below`, or from ``/v1/`` on."""
        credentials = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = ListingsClient(
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
