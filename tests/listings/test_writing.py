"""Listings are created, replaced, changed and deleted: answers, entities of the platform, and refusals."""

from __future__ import annotations

import pytest

from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.properties import slug_errors
from stores.errors import InvalidEntity, Violation
from tests.listings.support import Json, Tenant, Tenants
from tests.listings.written import BODY, entity, made, refused

REQUIRED = {name: BODY[name] for name in ("title", "price", "currency", "property_type", "listing_type", "district")}


async def read(tenant: Tenant, id: int) -> Json:
    answer = await tenant.reader.get(f"properties/{id}/")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_a_new_listing_is_answered_with_slugs_codes_and_its_id(tenant: Tenant) -> None:
    answer = await made(tenant)
    assert answer == BODY | {
        "id": answer["id"],
        "price": "850000000.00",
        "latitude": None,
        "longitude": None,
        "floor_size": None,
        "plot_size": None,
        "furnished": "unfurnished",
        "youtube_video_id": "",
    }
    found = await entity(tenant, answer["id"])
    assert (found["owner"], found["price"], found["district"]) == (tenant.platform.id, 850_000_000, "kampala")


async def test_what_is_left_out_has_its_default(tenant: Tenant) -> None:
    answer = await tenant.writer.post("properties/", json=REQUIRED)
    assert answer.status_code == 201, answer.text
    found = await read(tenant, answer.json()["id"])
    defaults = {
        "description": "", "location": "", "bedrooms": None, "latitude": None, "floor_size": None, "amenities": [],
        "furnished": "unfurnished", "publish_status": "published", "availability": "available", "youtube_video_id": "",
    }  # fmt: skip
    assert {name: found[name] for name in defaults} == defaults


async def test_what_the_body_may_not_set_is_ignored(tenant: Tenant, tenants: Tenants) -> None:
    """In a new listing, and in a change."""
    other = await tenants()
    image = {"id": 1, "url": "https://cdn.example.com/photo.jpg", "is_main": True, "alt": ""}
    ignored = {
        "id": 999_999_999, "number": 999_999_999, "_id": "0" * 24, "owner": other.platform.id, "region": "northern",
        "images": [image], "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z", "nonsense": [1],
    }  # fmt: skip
    answer = await made(tenant, **ignored)
    assert not {"owner", "region", "images", "updated_at", "nonsense"} & answer.keys()
    assert answer["id"] != ignored["id"]
    found = await entity(tenant, answer["id"])
    assert (found["_id"] != ignored["_id"], found["owner"], found["region"]) == (True, tenant.platform.id, "central")
    shown = await read(tenant, answer["id"])
    assert (shown["region"]["slug"], shown["images"]) == ("central", [])
    assert "2020" not in (shown["created_at"][:4], shown["updated_at"][:4])
    for method, body in (("PATCH", ignored), ("PUT", REQUIRED | ignored)):
        changed = await tenant.writer.request(method, f"properties/{answer['id']}/", json=body | {"title": method})
        assert changed.status_code == 200, changed.text
        after = await entity(tenant, answer["id"])
        kept = ("_id", "number", "owner", "region", "time")
        assert [after[name] for name in (*kept, "title")] == [*(found[name] for name in kept), method]
        assert after["updated_at"] > found["updated_at"]
        assert (await read(tenant, answer["id"]))["images"] == []


async def test_put_needs_all_required_fields_and_keeps_the_others(tenant: Tenant) -> None:
    id = (await made(tenant, furnished="furnished"))["id"]
    errors = refused(await tenant.writer.put(f"properties/{id}/", json={"title": "Other"}))
    assert errors == {name: ["This field is required."] for name in REQUIRED if name != "title"}
    answer = await tenant.writer.put(f"properties/{id}/", json=REQUIRED | {"title": "Other", "bedrooms": None})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed["id"] == id
    kept = ("furnished", "description", "amenities", "location")
    assert {name: changed[name] for name in ("title", "bedrooms", *kept)} == {
        "title": "Other", "bedrooms": None, "furnished": "furnished",
        **{name: BODY[name] for name in kept if name != "furnished"},
    }  # fmt: skip


async def test_patch_changes_what_it_names(tenant: Tenant) -> None:
    before = await made(tenant)
    answer = await tenant.writer.patch(f"properties/{before['id']}/", json={"availability": "sold", "amenities": []})
    assert answer.status_code == 200, answer.text
    assert answer.json() == before | {"availability": "sold", "amenities": []}
    assert (await tenant.writer.patch(f"properties/{before['id']}/", json={})).json() == answer.json()


async def test_coordinates_are_rounded_and_other_decimals_refused(tenant: Tenant) -> None:
    answer = await made(tenant, latitude=0.3479999999, longitude="32.5820000004")
    assert (answer["latitude"], answer["longitude"]) == ("0.348000", "32.582000")
    errors = refused(await tenant.writer.patch(f"properties/{answer['id']}/", json={"price": "1.001", "latitude": 91}))
    assert errors == {
        "price": ["Ensure that there are no more than 2 decimal places."],
        "latitude": ["Ensure this value is less than or equal to 90."],
    }


@pytest.mark.parametrize(
    ("sent", "id"),
    [
        ("dQw4w9WgXcQ", "dQw4w9WgXcQ"),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=42s", "dQw4w9WgXcQ"),
        ("https://youtu.be/dQw4w9WgXcQ?si=x", "dQw4w9WgXcQ"),
        ("http://m.youtube.com/shorts/dQw4w9WgXcQ", "dQw4w9WgXcQ"),
        ("youtube.com/embed/dQw4w9WgXcQ", "dQw4w9WgXcQ"),
        ("https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ?rel=0", "dQw4w9WgXcQ"),
        ("https://music.youtube.com/watch?list=a&v=dQw4w9WgXcQ", "dQw4w9WgXcQ"),
        ("", ""),
        ("https://vimeo.com/1234", None),
        ("https://youtube.com.example.com/watch?v=dQw4w9WgXcQ", None),
        ("https://www.youtube.com/@channel", None),
        ("https://www.youtube.com/watch", None),
        ("javascript://youtube.com/%0aalert(1)", None),
        ("a b", None),
        ("http://[", None),
    ],
)
async def test_a_video_is_given_by_its_id_or_its_address(tenant: Tenant, sent: str, id: str | None) -> None:
    answer = await tenant.writer.post("properties/", json=BODY | {"youtube_video_id": sent})
    if id is None:
        assert refused(answer) == {"youtube_video_id": ["Enter the id of a YouTube video, or its URL."]}
    else:
        assert answer.json()["youtube_video_id"] == id


async def test_a_deleted_listing_is_gone(tenant: Tenant) -> None:
    id = (await made(tenant))["id"]
    answer = await tenant.writer.delete(f"properties/{id}/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    assert "content-type" not in answer.headers
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {} if method in ("GET", "DELETE") else {"json": BODY}
        assert refused(await tenant.writer.request(method, f"properties/{id}/", **body), 404) == {
            "detail": "Not found."
        }


@pytest.mark.parametrize("id", ["0", "x", "-1", "1.0", "99999999999999999999999", "²", "٣"])
async def test_no_such_listing(tenant: Tenant, id: str) -> None:
    refused(await tenant.writer.patch(f"properties/{id}/", json={}), 404)
    refused(await tenant.writer.post(f"properties/{id}/images/", json={}), 404)


async def test_the_listing_of_somebody_else_is_not_found(tenant: Tenant, tenants: Tenants) -> None:
    other = await tenants()
    id = (await made(other))["id"]
    for method in ("PUT", "PATCH", "DELETE"):
        refused(await tenant.writer.request(method, f"properties/{id}/", json=BODY), 404)
    refused(await tenant.writer.post(f"{tenant.hub.url}/v1/{other.number}/properties/", json=BODY), 403)
    assert (await read(other, id))["title"] == BODY["title"]


async def test_a_key_that_reads_writes_nothing(tenant: Tenant) -> None:
    id = (await made(tenant))["id"]
    for method, path in [("POST", ""), ("PUT", f"{id}/"), ("PATCH", f"{id}/"), ("DELETE", f"{id}/")]:
        answer = await tenant.reader.request(method, f"properties/{path}", content=b"not even JSON")
        assert refused(answer, 403) == {"detail": "This API key is not permitted for this tenant or action."}


async def test_a_form_may_repeat_a_field(tenant: Tenant) -> None:
    form = REQUIRED | {"amenities": ["parking", "swimming-pool"], "bedrooms": "", "is_verified": "true"}
    for more in ({}, {"files": {"ignored": ("a.txt", b"x")}}):
        answer = await tenant.writer.post("properties/", data=form, **more)
        assert answer.status_code == 201, answer.text
        assert (answer.json()["amenities"], answer.json()["bedrooms"]) == (["parking", "swimming-pool"], None)


async def test_bodies_have_bounds(tenant: Tenant) -> None:
    long = {"title": ["Ensure this field has no more than 255 characters."]}
    assert refused(await tenant.writer.post("properties/", json=BODY | {"title": "x" * 256})) == long
    answer = await tenant.writer.post("properties/", json=BODY | {"description": "x" * 100_001})
    assert refused(answer) == {"description": ["Ensure this field has no more than 100000 characters."]}
    answer = await tenant.writer.post("properties/", json=BODY | {"x": [0] * 10_000})
    assert refused(answer) == {"detail": "JSON parse error - More than 10000 values (MOST_VALUES)"}
    for levels in (101, 100_000):
        deep = b'{"x": ' + b"[" * levels + b"]" * levels + b"}"
        answer = await tenant.writer.post("properties/", content=deep, headers={"Content-Type": "application/json"})
        assert refused(answer) == {"detail": "JSON parse error - More than 100 levels (DEEPEST)"}
    headers = {"Content-Type": "application/json"}
    refused(await tenant.writer.post("properties/", content=b"[" * 2_000_000, headers=headers), 413)
    answer = await tenant.writer.post("properties/", data={f"a{number}": "" for number in range(1_001)})
    assert refused(answer) == {"detail": "Form parse error - More than 1000 fields (MOST_FIELDS)"}


def test_an_object_that_is_deleted_while_a_listing_is_written() -> None:
    """The commit says what the serializer says of one that never was."""
    values = {"district": "kampala", "currency": "UGX", "amenities": ["parking", "gym"]}
    broken = [("district", "districts"), ("currency", "currencies"), ("amenities.1", "amenities")]
    with pytest.raises(InvalidFields) as found, slug_errors(values):
        raise InvalidEntity([Violation(name, "reference", store) for name, store in broken])
    assert found.value.errors == {
        "district": ["Object with slug=kampala does not exist."],
        "currency": ["Object with code=UGX does not exist."],
        "amenities": ["Object with slug=gym does not exist."],
    }
