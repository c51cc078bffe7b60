"""The answers beside those of Django REST framework itself, asked the same with the same data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from django.core.cache import cache
from django.test import Client as DjangoClient

from hub.dialects.listings.errors import Malformed, Throttled, UnsupportedMediaType, error_answer
from hub.http.errors import describe
from tests.listings import drf_app as drf
from tests.listings.support import LISTING, REFERENCES, Tenant, Tenants, new_key
from tests.support.hub import Hub

Json = Any

pytestmark = pytest.mark.engine("sqlite")  # the framework is asked on one engine; others give the same answers

ALIKE = ("content-type", "www-authenticate")
CURSOR = re.compile(r"cursor=[^&]*")


@pytest.fixture(scope="module", autouse=True)
def framework() -> Iterator[None]:
    """The framework with the reference data of the tests."""
    drf.make_tables()
    for model, kind in [(drf.Amenity, "amenities"), (drf.PropertyType, "property_types"), (drf.Currency, "currencies"),
                        (drf.Region, "regions")]:  # fmt: skip
        for row in REFERENCES[kind]:
            model.objects.create(**row)
    for row in REFERENCES["districts"]:
        drf.District.objects.create(**row | {"region": drf.Region.objects.get(slug=row["region"])})
    yield
    for model in reversed(drf.MODELS):
        model.objects.all().delete()
    drf.connection.close()


@dataclass
class Both:
    """A tenant of the hub with keys, and the framework with the same keys and listings."""

    tenant: Tenant
    anybody: httpx.AsyncClient
    keys: dict[str, str]
    framework: DjangoClient

    async def ask(self, method: str, path: str, scope: str = "RW", **headers: str) -> tuple[Json, Json]:
        """Send a request to both; return both answers: status, body and headers."""
        number = self.tenant.number
        path = path.replace("<me>", str(number))
        if scope in self.keys:
            headers = {"Authorization": f"Bearer {self.keys[scope]}", **headers}
        elif scope:
            headers = {"Authorization": scope, **headers}
        ours = await self.anybody.request(method, path, headers=headers)
        host = urlsplit(str(self.anybody.base_url)).netloc
        theirs = self.framework.generic(method, f"/v1{path}", headers={"Host": host, **headers})
        return seen(ours.status_code, ours.content, ours.headers), seen(
            theirs.status_code, theirs.content, theirs.headers
        )

    def add(self, entity: Json, images: Sequence[Json] = ()) -> None:
        """Give the framework a listing of the hub."""
        made = drf.Property.objects.create(
            id=entity["number"],
            owner=self.tenant.number,
            currency=drf.Currency.objects.get(code=entity["currency"]),
            property_type=drf.PropertyType.objects.get(slug=entity["property_type"]),
            district=drf.District.objects.get(slug=entity["district"]),
            created_at=datetime.fromtimestamp(entity["time"] / 1000, UTC),
            updated_at=datetime.fromtimestamp(entity["updated_at"] / 1_000_000, UTC),
            **{name: entity[name] for name in LISTING if name in SAME},
        )
        made.amenities.set(drf.Amenity.objects.filter(slug__in=entity["amenities"]))
        for image in images:
            url = f"{self.anybody.base_url.copy_with(path='')}{image['image']['url']}"
            drf.PropertyImage.objects.create(
                id=image["number"], property=made, url=url, is_main=image["is_main"], alt=image.get("alt", "")
            )


SAME = (
    "title", "description", "price", "listing_type", "location", "latitude", "longitude", "bedrooms", "bathrooms",
    "floor_size", "plot_size",
)  # fmt: skip


def seen(status: int, content: bytes, headers: Any) -> Json:
    """Return what a client sees of an answer. A cursor's content is the server's own."""
    body = orjson.loads(CURSOR.sub("cursor=…", content.decode())) if content else None
    allow = headers.get("allow") if status == HTTPStatus.METHOD_NOT_ALLOWED else None  # theirs is in every answer
    return {"status": status, "body": body, "allow": allow, **{name: headers.get(name) for name in ALIKE}}


@pytest.fixture
async def both(hub: Hub, tenants: Tenants) -> Both:
    tenant = await tenants()
    keys = {scope: await new_key(hub, tenant.platform.id, tenant.number, scope) for scope in ("R", "RW")}
    for scope, key in keys.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        drf.ApiKey.objects.create(owner=tenant.number, scope=scope, digest=digest)
    return Both(tenant, tenants.client(), keys, DjangoClient(raise_request_exception=False))


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        # Paths.
        ("GET", "/nothing/", ""),
        ("POST", "/nothing/", ""),
        ("GET", "/<me>/", "RW"),
        ("GET", "/<me>/properties", "RW"),
        ("GET", "/abc/properties/", "RW"),
        ("GET", "/-1/properties/", "RW"),
        # Keys.
        ("GET", "/<me>/properties/", ""),
        ("GET", "/<me>/properties/", "Basic YTpi"),
        ("GET", "/<me>/properties/", "Bearer nonsense"),
        ("PUT", "/<me>/properties/", "Bearer nonsense"),
        ("OPTIONS", "/<me>/properties/", ""),
        ("GET", "/amenities/", ""),
        # Permissions.
        ("GET", "/999999/properties/", "R"),
        ("GET", "/999999/properties/5/", "RW"),
        ("POST", "/<me>/properties/", "R"),
        ("PUT", "/<me>/properties/", "R"),
        ("DELETE", "/amenities/", "R"),
        ("OPTIONS", "/999999/properties/", "RW"),
        # Methods.
        ("PUT", "/<me>/properties/", "RW"),
        ("PATCH", "/<me>/properties/", "RW"),
        ("POST", "/amenities/", "RW"),
        ("PROPFIND", "/amenities/", "RW"),
        # What is not found.
        ("GET", "/<me>/properties/999999/", "R"),
        ("GET", "/<me>/properties/?cursor=x", "R"),
        # Values.
        ("GET", "/<me>/properties/?listing_type=x", "R"),
        ("GET", "/<me>/properties/?publish_status=x", "R"),
        ("GET", "/<me>/properties/?min_price=abc", "R"),
        ("GET", "/<me>/properties/?min_price=NaN", "R"),
        ("GET", "/<me>/properties/?updated_after=then&min_price=a&listing_type=b", "R"),
        ("GET", "/<me>/properties/?cursor=x&min_price=abc", "R"),
        ("GET", "/<me>/properties/?cursor=", "R"),
        ("GET", "/<me>/properties/", "R"),
        ("GET", "/amenities/", "R"),
        ("HEAD", "/amenities/", "R"),
    ],
)
async def test_the_same_answer(both: Both, method: str, path: str, scope: str) -> None:
    ours, theirs = await both.ask(method, path, scope)
    assert ours == theirs


@pytest.mark.parametrize(
    "path", ["/amenities/", "/<me>/properties/", "/<me>/properties/5/", "/<me>/properties/5/images/"]
)
async def test_options(both: Both, path: str) -> None:
    path = path.replace("<me>", str(both.tenant.number))
    headers = {"Authorization": f"Bearer {both.keys['R']}"}
    ours = await both.anybody.options(path, headers=headers)
    theirs = both.framework.options(f"/v1{path}", headers=headers)
    assert (ours.status_code, ours.headers["allow"]) == (theirs.status_code, theirs.headers["allow"])
    mine, other = ours.json(), theirs.json()
    assert mine.keys() >= {"name", "description", "renders", "parses"}
    assert (mine["renders"], mine["parses"]) == (other["renders"], other["parses"])


async def test_the_same_listings_and_links(both: Both) -> None:
    """Pages have the same listings in the same order, and links of the same form."""
    listings = [{"title": f"Number {n}", "price": n * 1.25} for n in range(120)]
    made = [entity for n in range(0, 120, 5) for entity in await both.tenant.add_all(listings[n : n + 5])]
    images = [await both.tenant.add_image(made[-1], name, is_main=name == "b") for name in "abc"]
    made[-1] = await both.tenant.platform.see("properties", made[-1]["_id"])
    images = [await both.tenant.platform.see("property_images", image["_id"]) for image in images]
    for entity in made:
        both.add(entity, images if entity is made[-1] else [])
    address = "/<me>/properties/?z=1&listing_type=rent&a=2"
    ours, theirs = await both.ask("GET", address, "R")
    assert ours == theirs
    assert len(ours["body"]["results"]) == 50
    for entity in (made[-1], made[0]):
        ours, theirs = await both.ask("GET", f"/<me>/properties/{entity['number']}/", "R")
        assert ours == theirs
    ours, theirs = await both.ask("GET", f"/<me>/properties/{made[-1]['number']}/images/", "R")
    assert ours == theirs
    await follow(both, address.replace("<me>", str(both.tenant.number)))


async def follow(both: Both, address: str) -> None:
    """Follow the links of both to the end, and back to the beginning."""
    headers = {"Authorization": f"Bearer {both.keys['R']}"}
    host = urlsplit(str(both.anybody.base_url)).netloc
    mine, other = f"{both.anybody.base_url.copy_with(path='')}/v1{address}", f"/v1{address}"
    for link in ("next", "next", "previous", "previous"):
        ours = (await both.anybody.get(mine, headers=headers)).json()
        theirs = both.framework.get(other, headers={"Host": host, **headers}).json()
        assert ours["results"] == theirs["results"]
        assert [ours[name] is None for name in ("next", "previous")] == [
            theirs[n] is None for n in ("next", "previous")
        ]
        mine, other = ours[link], theirs[link]
        assert CURSOR.sub("", mine) == CURSOR.sub("", other)
    ours = (await both.anybody.get(mine, headers=headers)).json()
    theirs = both.framework.get(other, headers={"Host": host, **headers}).json()
    assert (ours["results"], ours["previous"]) == (theirs["results"], theirs["previous"])


def test_the_same_text_for_too_many_requests() -> None:
    cache.clear()
    client = DjangoClient()
    for _ in range(10):
        assert client.post("/v1/register/", {}).status_code == HTTPStatus.OK
    theirs = client.get("/v1/register/")  # the count comes before the method
    wait = int(theirs.headers["Retry-After"])
    ours = error_answer(describe(Throttled(wait - 0.5)), "GET")
    assert (ours.status, orjson.loads(ours.body)) == (theirs.status_code, theirs.json())  # type: ignore[arg-type]
    assert (b"retry-after", theirs.headers["Retry-After"].encode()) in ours.headers
    cache.clear()


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"x", "text/plain", UnsupportedMediaType("text/plain")),
        (b"x", "application/xml; charset=utf-8", UnsupportedMediaType("application/xml; charset=utf-8")),
        (b"{", "application/json", Malformed("JSON parse error - Expecting property name enclosed in double quotes: "
                                             "line 1 column 2 (char 1)")),
    ],
)  # fmt: skip
def test_the_same_text_for_a_body_that_cannot_be_read(body: bytes, kind: str, error: Exception) -> None:
    cache.clear()
    theirs = DjangoClient().generic("POST", "/v1/register/", body, content_type=kind)
    ours = error_answer(describe(error), "POST")
    assert (ours.status, orjson.loads(ours.body)) == (theirs.status_code, theirs.json())  # type: ignore[arg-type]
    assert b"accept-encoding" not in dict(ours.headers)
