"""Images that are being fetched or converted while something else happens, and more of them than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from hub.media.files import MOST_UPLOADS_EACH
from tests.fetching.servers import answer_of
from tests.listings.answers import INVALID_KEY, NOT_FOUND, check
from tests.listings.sources import HeldAnswer, Source, fetching_from, running_source
from tests.listings.support import Tenant, Tenants
from tests.listings.written import PNG, image_path, made, upload
from tests.media.held import stopped, workers_of
from tests.platform.answers import good
from tests.support.hub import PATIENCE, Hub, StartHub, eventually

SOON = 10.0
"""Seconds in which the hub notices that a client has gone: less than it waits for the server of an image."""


@pytest.fixture(scope="module")
async def source() -> AsyncIterator[Source]:
    async with running_source() as source:
        yield source


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A hub that converts one image at a time, and lets one wait."""
    fetching = fetching_from(tmp_path_factory.mktemp("names"), source.allowed)
    return await sqlite_hub(image_workers=1, image_queue=1, **fetching)


@pytest.fixture
async def worker(hub: Hub, tenants: Tenants) -> int:
    """The process that will convert the next image."""
    other = await tenants()
    answer = await upload(other, await made(other))
    assert answer.status_code == 201, answer.text
    [pid] = workers_of(hub.process.pid)
    return pid


class HeldFetch:
    """An image by URL, whose server holds its answer."""

    def __init__(self, source: Source) -> None:
        self._answer = HeldAnswer(answer_of(PNG))
        self._url = source.url(self._answer)

    async def send(self, client: httpx.AsyncClient, path: str) -> httpx.Response:
        return await client.post(path, json={"external_url": self._url})

    async def begun(self) -> None:
        """Wait until the hub fetches it."""
        await self._answer.asked()

    def release(self) -> None:
        self._answer.release()


LARGE = PNG + bytes(100_000)
"""An image with a trailer, so large that the hub stops reading from its connection for a while."""


class HeldConversion:
    """An uploaded image, whose worker is stopped."""

    def __init__(self, hub: Hub, worker: int) -> None:
        self._incoming = hub.process.folder / "incoming"
        self._stopping = ExitStack()
        self._stopping.enter_context(stopped(worker))

    async def send(self, client: httpx.AsyncClient, path: str) -> httpx.Response:
        return await client.post(path, files={"image": ("front.png", LARGE)})

    async def begun(self) -> None:
        """Wait until the hub has all of it."""

        async def has_arrived() -> bool:
            return len(LARGE) in [file.stat().st_size for file in self._incoming.iterdir()]

        await eventually(has_arrived)

    def release(self) -> None:
        self._stopping.close()


HeldImage = HeldFetch | HeldConversion


@pytest.fixture(params=["fetched", "converted"])
def image(hub: Hub, source: Source, worker: int, request: pytest.FixtureRequest) -> Iterator[HeldImage]:
    """An image that is being fetched or converted until its release."""
    held = HeldFetch(source) if request.param == "fetched" else HeldConversion(hub, worker)
    yield held
    held.release()


def files_of(hub: Hub) -> set[Path]:
    """Return the files that a hub stores, and those on their way."""
    folders = [hub.process.folder / name for name in ("incoming", "media")]
    return {file for folder in folders for file in folder.rglob("*") if file.is_file()}


async def nothing_is_left(hub: Hub, tenant: Tenant, before: set[Path], patience: float = PATIENCE) -> None:
    """Check that the tenant has no image, and that the hub soon has no other files than before."""
    assert await tenant.platform.list("property_images") == []

    async def is_as_before() -> bool:
        return files_of(hub) == before

    await eventually(is_as_before, patience)


async def test_a_key_that_is_revoked_meanwhile_adds_no_image(
    hub: Hub, tenants: Tenants, tenant: Tenant, image: HeldImage
) -> None:
    key = await hub.admin.make("keys", {"name": "x", "kind": "listings", "scope": "RW", "user": tenant.platform.id})
    client, before = tenants.client(key["key"], f"/{tenant.number}"), files_of(hub)
    sending = asyncio.create_task(image.send(client, image_path(await made(tenant))))
    await image.begun()
    good(await hub.admin.delete(f"/keys/{key['_id']}"))
    image.release()
    check(await sending, 401, INVALID_KEY)
    await nothing_is_left(hub, tenant, before)


async def test_a_listing_that_is_deleted_meanwhile_gets_no_image(hub: Hub, tenant: Tenant, image: HeldImage) -> None:
    listing, before = await made(tenant), files_of(hub)
    sending = asyncio.create_task(image.send(tenant.writer, image_path(listing)))
    await image.begun()
    assert (await tenant.writer.delete(f"properties/{listing['id']}/")).status_code == 204
    image.release()
    check(await sending, 404, NOT_FOUND)
    await nothing_is_left(hub, tenant, before)


async def test_a_client_that_goes_meanwhile_adds_no_image(hub: Hub, tenant: Tenant, image: HeldImage) -> None:
    """The hub does not wait for the image."""
    listing, before = await made(tenant), files_of(hub)
    sending = asyncio.create_task(image.send(tenant.writer, image_path(listing)))
    await image.begun()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await nothing_is_left(hub, tenant, before, SOON)
    image.release()
    await nothing_is_left(hub, tenant, before)


# How many there may be.


async def first_of(requests: Sequence[asyncio.Task[httpx.Response]]) -> httpx.Response:
    """Return the only answer that comes while the others are held."""
    done, _ = await asyncio.wait(requests, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    [first] = done
    return first.result()


async def test_beyond_the_queue_images_are_refused(tenants: Tenants, worker: int) -> None:
    """Of three users, one has an image at the worker, and one waits for it."""
    users = [await tenants() for _ in range(3)]
    listings = [await made(user) for user in users]
    with stopped(worker):
        pairs = zip(users, listings, strict=True)
        requests = [asyncio.create_task(upload(user, listing)) for user, listing in pairs]
        refused = await first_of(requests)
    seconds = refused.headers["retry-after"]
    assert 1 <= int(seconds) <= 60
    text = f"Too many images wait (HUB_IMAGE_QUEUE): try again in {seconds} s."
    check(refused, 503, {"detail": text})
    answers = await asyncio.gather(*requests)
    assert sorted(answer.status_code for answer in answers) == [201, 201, 503]


async def test_a_user_has_a_bounded_number_of_images_on_their_way(tenant: Tenant, source: Source) -> None:
    path, held = image_path(await made(tenant)), HeldAnswer(answer_of(b"", status="404 Not Found"))
    body = {"external_url": source.url(held)}
    requests = [asyncio.create_task(tenant.writer.post(path, json=body)) for _ in range(MOST_UPLOADS_EACH + 1)]
    try:
        refused = await first_of(requests)
    finally:
        held.release()
    assert refused.headers["retry-after"] == "1"
    text = "Too many of your uploads are on their way (MOST_UPLOADS_EACH): try again."
    check(refused, 503, {"detail": text})
    answers = await asyncio.gather(*requests)
    assert sorted(answer.status_code for answer in answers) == [400] * MOST_UPLOADS_EACH + [503]
