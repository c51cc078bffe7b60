"""Images by URL: what is fetched, and that every other URL has one answer."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from PIL import Image

from hub.media.jobs import MOST_IMAGE_BYTES
from tests.fetching.servers import answer_of, redirect_to, repeating, saying
from tests.listings.sources import OTHER_HOST, Source, fetching_from, running_source
from tests.listings.support import Json, Tenant
from tests.listings.written import PNG, entity, image_path, made, refused
from tests.support.hub import Hub, StartHub, entity_of

NOT_FETCHED = {"external_url": ["This URL could not be fetched."]}
IMAGE = saying(answer_of(PNG))
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
async def source() -> AsyncIterator[Source]:
    """A server that has a name."""
    async with running_source() as source:
        yield source


@pytest.fixture(scope="module")
async def addressed() -> AsyncIterator[Source]:
    """A server from which the hub may fetch by its address."""
    async with running_source() as source:
        yield source


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub, source: Source, addressed: Source, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    allowed = source.allowed, f"{ADDRESS}:{addressed.server.port}"
    return await sqlite_hub(**fetching_from(tmp_path_factory.mktemp("names"), *allowed))


@pytest.fixture
async def listing(tenant: Tenant) -> Json:
    return await made(tenant)


async def by_url(tenant: Tenant, listing: Json, url: str) -> httpx.Response:
    return await tenant.writer.post(image_path(listing), json={"external_url": url})


def padded(size: int) -> bytes:
    """Return an image whose file has so many bytes."""
    return PNG + bytes(size - len(PNG))


FETCHED: dict[str, Callable[[Source], str]] = {
    "an image": lambda source: source.url(IMAGE),
    "a redirect": lambda source: source.url(saying(redirect_to(source.url(IMAGE)))),
    "the largest file": lambda source: source.url(saying(answer_of(padded(MOST_IMAGE_BYTES)))),
}


@pytest.mark.parametrize("name", FETCHED)
async def test_an_image_is_fetched(tenant: Tenant, listing: Json, source: Source, name: str) -> None:
    answer = await by_url(tenant, listing, FETCHED[name](source))
    assert answer.status_code == 201, answer.text
    file = await tenant.hub.client().http.get(answer.json()["url"])
    with Image.open(io.BytesIO(file.content)) as image:
        assert (image.format, image.size) == ("WEBP", (60, 40))


async def test_a_file_that_is_no_image_has_the_fault_of_an_upload(
    tenant: Tenant, listing: Json, source: Source
) -> None:
    """Its URL was fetched."""
    text = source.url(saying(answer_of(b"text", "Content-Type: image/png")))
    assert refused(await by_url(tenant, listing, text)) == {
        "image": ["The file is no image: JPEG, PNG, WebP and GIF are accepted."]
    }
    assert (await tenant.reader.get(image_path(listing))).json() == []


NOT_FOUND = answer_of(PNG, status="404 Not Found")

NOT_AVAILABLE: dict[str, Callable[[Source], str]] = {
    "too large": lambda source: source.url(saying(answer_of(padded(MOST_IMAGE_BYTES + 1)))),
    "without end": lambda source: source.url(repeating(ENDLESS, bytes(1_000_000))),
    "not found": lambda source: source.url(saying(NOT_FOUND)),
    "another host": lambda source: source.url(IMAGE, OTHER_HOST),
    "redirect to another host": lambda source: source.url(saying(redirect_to(source.url(IMAGE, OTHER_HOST)))),
}
"""URLs of a server that would answer each of them."""


@pytest.mark.parametrize("name", NOT_AVAILABLE)
async def test_every_other_url_has_one_answer(tenant: Tenant, listing: Json, source: Source, name: str) -> None:
    assert refused(await by_url(tenant, listing, NOT_AVAILABLE[name](source))) == NOT_FETCHED
    assert (await tenant.reader.get(image_path(listing))).json() == []


async def test_an_address_is_refused_even_if_it_is_allowed(
    tenant: Tenant, listing: Json, source: Source, addressed: Source
) -> None:
    """In the URL, and as the target of a redirect. The platform API fetches from it."""
    url, before = addressed.url(IMAGE, ADDRESS), addressed.server.connections
    for given in (url, source.url(saying(redirect_to(url)))):
        assert refused(await by_url(tenant, listing, given)) == NOT_FETCHED
    assert addressed.server.connections == before
    parent = (await entity(tenant, listing["id"]))["_id"]
    image = await tenant.platform.make("property_images", {"property": parent})
    answer = await tenant.platform.post(f"/property_images/{image['_id']}/files/image", {"url": url})
    assert entity_of(answer)["image"]["width"] == 60
    assert addressed.server.connections == before + 1
    named = await by_url(tenant, listing, addressed.url(IMAGE))
    assert named.status_code == 201, named.text
