"""The mark of HUB_WATERMARK: images of listings have it, and those of other fields only if these ask for it."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops

from tests.listings.support import Tenant
from tests.listings.written import made, upload
from tests.media import making
from tests.media.uploading import read, uploaded
from tests.support.hub import Hub, StartHub

COLOUR = (40, 90, 140)
SIZE = (600, 400)
PLAIN = making.saved(making.plain(colour=COLOUR, size=SIZE), "PNG")

QUARTERS = {
    "upper left": (0, 0, 300, 200),
    "upper right": (300, 0, 600, 200),
    "lower left": (0, 200, 300, 400),
    "lower right": (300, 200, 600, 400),
}
VISIBLE = 40
"""A difference of a colour, of 255, that WebP does not make of a plain image."""


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    return await sqlite_hub(watermark="© hub.example")


def marked(content: bytes) -> list[str]:
    """Return the quarters of an image that are not plain any more."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == SIZE
        difference = ImageChops.difference(image.convert("RGB"), making.plain(colour=COLOUR, size=SIZE))
    greatest = {name: max(most for _, most in difference.crop(box).getextrema()) for name, box in QUARTERS.items()}
    return [name for name, most in greatest.items() if most > VISIBLE]


async def test_an_image_of_a_listing_has_the_mark_in_its_lower_right_corner(tenant: Tenant) -> None:
    answer = await upload(tenant, await made(tenant), PLAIN)
    assert answer.status_code == 201, answer.text
    file = await tenant.hub.client().http.get(answer.json()["url"])
    assert marked(file.content) == ["lower right"]


async def test_other_fields_have_it_if_they_ask_for_it(hub: Hub) -> None:
    store = await hub.define(
        fields=[{"id": "plain", "type": "Image"}, {"id": "marked", "type": "Image", "watermark": True}]
    )
    id = (await hub.admin.make(store))["_id"]
    for field, quarters in (("plain", []), ("marked", ["lower right"])):
        value = await uploaded(hub.admin, store, id, field, PLAIN)
        assert marked((await read(hub.admin, value["url"])).content) == quarters
