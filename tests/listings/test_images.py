"""Images of a listing are added by upload or by URL, changed and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.listings.support import Json, Tenant, Tenants, fetched
from tests.listings.written import PNG, entity, image_path, made, refused, upload
from tests.media.uploading import png
from tests.support.hub import eventually


@pytest.fixture
async def listing(tenant: Tenant) -> Json:
    return await made(tenant)


async def test_an_upload(tenant: Tenant, listing: Json) -> None:
    answer = await upload(tenant, listing, is_main="true", alt=" Front view ")
    assert answer.status_code == 201, answer.text
    image = answer.json()
    assert image == {
        "id": image["id"],
        "url": image["url"],
        "is_main": True,
        "alt": "Front view",
    }
    assert (await tenant.reader.get(image_path(listing))).json() == [image]
    assert image["url"].startswith(f"{tenant.hub.url}/media/")
    file = await tenant.hub.client().http.get(image["url"])
    assert (file.status_code, file.headers["content-type"], file.content[8:12]) == (200, "image/webp", b"WEBP")


@pytest.mark.parametrize("form", [False, True], ids=["JSON", "form"])
async def test_a_url(tenant: Tenant, listing: Json, form: bool) -> None:
    source = (await upload(tenant, listing)).json()["url"]
    body = {"external_url": fetched(tenant.hub, source), "alt": "Front view"}
    answer = await tenant.writer.post(image_path(listing), **({"data": body} if form else {"json": body}))
    assert answer.status_code == 201, answer.text
    assert answer.json()["alt"] == "Front view"
    assert answer.json()["url"] != source
    assert (await tenant.hub.client().http.get(answer.json()["url"])).status_code == 200


URL = "https://cdn.example.com/photo.jpg"
LONG_URL = URL + "?" + "x" * 2_000
TOO_LONG = "Ensure this field has no more than {} characters."
NO_FILE = ["The submitted data was not a file. Check the encoding type on the form."]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"non_field_errors": ["Provide either an image file or an external_url, not both."]}),
        ({"image": "a"}, {"image": NO_FILE}),
        ({"image": None}, {"image": ["This field may not be null."]}),
        ({"external_url": ""}, {"external_url": ["This field may not be blank."]}),
        ({"external_url": "no url"}, {"external_url": ["Enter a valid URL."]}),
        ({"external_url": "http://127.0.0.1/a.jpg"}, {"external_url": ["This URL could not be fetched."]}),
        ({"external_url": "ftp://cdn.example.com/a.jpg"}, {"external_url": ["This URL could not be fetched."]}),
        ({"external_url": LONG_URL}, {"external_url": [TOO_LONG.format(2_000)]}),
        ({"external_url": URL, "is_main": "perhaps"}, {"is_main": ["Must be a valid boolean."]}),
        ({"external_url": URL, "alt": "x" * 256}, {"alt": [TOO_LONG.format(255)]}),
        ([], {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
    ],
)  # fmt: skip
async def test_a_refused_body(tenant: Tenant, listing: Json, body: Any, errors: Json) -> None:
    assert refused(await tenant.writer.post(image_path(listing), json=body)) == errors
    assert (await tenant.reader.get(image_path(listing))).json() == []


async def test_refused_uploads(tenant: Tenant, listing: Json) -> None:
    assert refused(await upload(tenant, listing, b"")) == {"image": ["The submitted file is empty."]}
    assert refused(await upload(tenant, listing, b"text")) == {
        "image": ["The file is no image: JPEG, PNG, WebP and GIF are accepted."]
    }
    both = {"non_field_errors": ["Provide either an image file or an external_url, not both."]}
    assert refused(await upload(tenant, listing, external_url=URL)) == both
    large = {"image": ["Ensure this file has no more than 15000000 bytes."]}
    for size in (15_000_001, 16_000_000):  # the second one is not read to its end
        assert refused(await upload(tenant, listing, PNG + bytes(size - len(PNG)))) == large
    assert (await upload(tenant, listing, PNG + bytes(15_000_000 - len(PNG)))).status_code == 201


async def test_an_image_is_changed(tenant: Tenant, listing: Json) -> None:
    first, image = [(await upload(tenant, listing)).json() for _ in range(2)]
    assert (first["is_main"], image["is_main"]) == (True, False)
    answer = await tenant.writer.patch(image_path(listing, image), json={"alt": "Garden", "is_main": True, "url": "x"})
    assert answer.status_code == 200, answer.text
    image |= {"alt": "Garden", "is_main": True}
    assert answer.json() == image
    assert (await tenant.reader.get(image_path(listing))).json() == [image, first | {"is_main": False}]
    answer = await tenant.writer.patch(image_path(listing, image), json={"is_main": False})
    assert (answer.status_code, answer.json()) == (200, image)  # some image has to be the main one
    assert refused(await tenant.writer.patch(image_path(listing, image), json={"alt": None})) == {
        "alt": ["This field may not be null."]
    }


async def test_an_image_is_removed(tenant: Tenant, listing: Json) -> None:
    """The one with the lowest number follows the main image. The file and its smaller versions go soon."""
    image, second, third = [(await upload(tenant, listing)).json() for _ in range(3)]
    anybody = tenant.hub.client().http
    addresses = [image["url"], f"{image['url']}?w=160"]
    for address in addresses:
        assert (await anybody.get(address)).status_code == 200
    answer = await tenant.writer.delete(image_path(listing, image))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await tenant.reader.get(image_path(listing))).json() == [second | {"is_main": True}, third]

    async def are_gone() -> bool:
        return [(await anybody.get(address)).status_code for address in addresses] == [404, 404]

    await eventually(are_gone, 5)
    for method in ("PATCH", "DELETE"):
        refused(await tenant.writer.request(method, image_path(listing, image)), 404)


def stored(tenant: Tenant, images: list[Json]) -> list[Path]:
    """Return the files of images in the storage of the hub, with their smaller versions."""
    storage, ids = tenant.hub.process.folder / "media", [image["url"].rpartition("/")[2] for image in images]
    return [file for id in ids for file in storage.glob(f"*/{id}*")]


async def test_the_images_of_a_deleted_listing_go(tenant: Tenant, listing: Json) -> None:
    """With their files and smaller versions, soon."""
    images = [(await upload(tenant, listing, png(400, 300))).json() for _ in range(2)]
    anybody = tenant.hub.client().http
    addresses = [f"{image['url']}{query}" for image in images for query in ("", "?w=160")]
    for address in addresses:
        assert (await anybody.get(address)).status_code == 200
    assert len(stored(tenant, images)) == len(addresses)
    assert (await tenant.writer.delete(f"properties/{listing['id']}/")).status_code == 204

    async def are_gone() -> bool:
        return {(await anybody.get(address)).status_code for address in addresses} == {404}

    async def are_removed() -> bool:
        return not stored(tenant, images)

    await eventually(are_gone, 5)
    await eventually(are_removed)


async def test_the_image_of_a_draft_is_for_everybody_who_has_its_address(tenant: Tenant) -> None:
    """And for its smaller versions. The feed does not show the draft."""
    draft = await made(tenant, publish_status="draft")
    image = (await upload(tenant, draft, png(400, 300))).json()
    assert await tenant.feed() == []
    for address in (image["url"], f"{image['url']}?w=160"):
        answer = await tenant.hub.client().http.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")


async def test_methods_of_an_image(tenant: Tenant, listing: Json) -> None:
    image = (await upload(tenant, listing)).json()
    for method in ("GET", "PUT", "POST"):
        answer = await tenant.writer.request(method, image_path(listing, image))
        assert refused(answer, 405) == {"detail": f'Method "{method}" not allowed.'}
        assert answer.headers["allow"] == "PATCH, DELETE, OPTIONS"


async def test_an_image_of_another_listing_or_tenant_is_not_found(
    tenant: Tenant, tenants: Tenants, listing: Json
) -> None:
    image, other = (await upload(tenant, listing)).json(), await made(tenant)
    refused(await tenant.writer.patch(image_path(other, image), json={"alt": ""}), 404)
    stranger = await tenants()
    refused(await stranger.writer.post(image_path(listing), json={"external_url": URL}), 404)
    refused(await stranger.writer.delete(image_path(listing, image)), 404)
    for text in ("x", "0", "-1", "9" * 30):
        refused(await tenant.writer.delete(f"{image_path(listing)}{text}/"), 404)


async def test_a_listing_has_a_bounded_number_of_images(tenant: Tenant, listing: Json) -> None:
    image = {"property": (await entity(tenant, listing["id"]))["_id"]}
    await tenant.platform.make_all("property_images", [image] * 50)
    assert refused(await upload(tenant, listing)) == {"non_field_errors": ["A listing has at most 50 images."]}
