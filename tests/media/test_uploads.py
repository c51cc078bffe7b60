"""Uploads to fields of files: what is stored, what is shown, and what is refused."""

from __future__ import annotations

import asyncio
import io
import uuid
from typing import Any

import pytest
from PIL import Image

from hub.media.storage import Storage
from stores.fields.media import MEMBERS
from stores.records import Entity
from tests.media.uploading import FILES_HOST, PDF, png, read, upload, uploaded
from tests.platform.answers import refused
from tests.support.hub import Client, Hub, StartHub, entity_of, eventually

pytestmark = pytest.mark.gate("sqlite", "mongodb")


async def test_an_image_is_stored_with_its_entity(user: Client, albums: str) -> None:
    album = await user.make(albums)
    value = await uploaded(user, albums, album["_id"], "cover", png(), "Front Door.png")
    assert [*value] == [*MEMBERS]
    assert uuid.UUID(value["id"]).version == 4
    assert value | {"id": 0, "url": 0, "size": 0} == {
        "id": 0, "url": 0, "type": "image/webp", "size": 0, "name": "Front Door.webp", "width": 800, "height": 600,
    }  # fmt: skip
    assert (await user.see(albums, album["_id"]))["cover"] == value
    answer = await read(user, value["url"])
    assert answer.status_code == 200
    assert len(answer.content) == value["size"] == int(answer.headers["content-length"])
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("WEBP", (800, 600))


async def test_a_file_is_stored_as_it_is(user: Client, albums: str) -> None:
    album = await user.make(albums)
    value = await uploaded(user, albums, album["_id"], "paper", PDF, "../../etc/Mietvertrag № 5.pdf", "text/html")
    assert value | {"id": 0, "url": 0} == {
        "id": 0, "url": 0, "type": "application/pdf", "size": len(PDF), "name": "Mietvertrag № 5.pdf",
        "width": None, "height": None,
    }  # fmt: skip
    answer = await read(user, value["url"])
    assert answer.content == PDF


async def test_a_list_gets_one_file_after_the_other(user: Client, albums: str) -> None:
    album = await user.make(albums)
    values = [await uploaded(user, albums, album["_id"], "photos", png(40 + n)) for n in range(3)]
    assert (await user.see(albums, album["_id"]))["photos"] == values
    answer = await upload(user, albums, album["_id"], "photos", png())
    assert refused(answer, 400) == {"photos": ["Must not hold more than 3 values."]}


async def test_a_second_upload_replaces_the_first(user: Client, albums: str) -> None:
    album = await user.make(albums)
    first = await uploaded(user, albums, album["_id"], "cover", png(100))
    second = await uploaded(user, albums, album["_id"], "cover", png(200))
    assert (await user.see(albums, album["_id"]))["cover"] == second
    assert (await read(user, first["url"])).status_code == 404
    assert (await read(user, first["url"] + "?w=160")).status_code == 404
    assert (await read(user, second["url"])).status_code == 200


async def test_uploads_at_once_all_arrive(user: Client, albums: str) -> None:
    album = await user.make(albums)
    answers = await asyncio.gather(*(upload(user, albums, album["_id"], "photos", png(50 + n)) for n in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 400, 400]
    values = (await user.see(albums, album["_id"]))["photos"]
    assert len({value["id"] for value in values}) == 3
    for value in values:
        assert (await read(user, value["url"])).status_code == 200


async def test_the_answer_is_the_entity_at_its_revision(user: Client, albums: str) -> None:
    album = await user.make(albums)
    answer = await upload(user, albums, album["_id"], "cover", png(), if_match='"1"')
    assert entity_of(answer)["_rev"] == 2
    assert answer.headers["etag"] == '"2"'
    again = await upload(user, albums, album["_id"], "cover", png(), **{"if-match": '"1"'})
    refused(again, 412)


async def test_a_file_can_come_by_its_url(user: Client, albums: str, hub: Hub) -> None:
    album = await user.make(albums)
    source = await uploaded(user, albums, album["_id"], "poster", png())
    path = f"/{albums}/{album['_id']}/files/flyers"
    here = f"http://{FILES_HOST}:{hub.process.port}"
    value = entity_of(await user.post(path, {"url": here + source["url"]}))["flyers"][0]
    assert (value["type"], value["size"]) == ("image/webp", source["size"])
    for other in (f"{here}/media/nothing", hub.url + source["url"], f"http://localhost:{hub.process.port}/media/x"):
        answer = await user.post(path, {"url": other})
        assert refused(answer, 400) == {"url": ["This URL could not be fetched."]}


BAD_REQUESTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("cover", {"files": {"file": ("a.png", b"no image", "image/png")}}, 400, "file"),
    ("cover", {"files": {"image": ("a.png", b"", "image/png")}}, 400, "file"),
    ("cover", {"files": {"file": ("a.png", b"", "image/png"), "more": ("b.png", b"", "image/png")}}, 400, "body"),
    ("cover", {"json": {}}, 400, "url"),
    ("cover", {"json": {"url": 5}}, 400, "url"),
    ("cover", {"json": {"url": "https://a.example/", "name": "x"}}, 400, "url"),
    ("cover", {"json": []}, 400, "body"),
    ("cover", {"content": b"no form", "headers": {"content-type": "multipart/form-data"}}, 400, "body"),
    ("paper", {"files": {"file": ("a.zip", b"PK", "application/zip")}}, 400, "file"),
    ("paper", {"files": {"file": ("a.pdf", b"no pdf", "application/pdf")}}, 400, "file"),
    ("paper", {"files": {"file": ("a.txt", b"x" * 100_001, "text/plain")}}, 413, "file"),
    ("flyers", {"files": {"file": ("a.txt", b"x" * 2_000_001, "text/plain")}}, 413, "file"),
    ("flyers", {"files": {"file": ("a.txt", b"x" * 9_000_000, "text/plain")}}, 413, "file"),
    ("code", {"files": {"file": ("a.png", b"", "image/png")}}, 404, ""),
    ("nothing", {"files": {"file": ("a.png", b"", "image/png")}}, 404, ""),
]


@pytest.mark.parametrize(("field", "request_", "status", "named"), BAD_REQUESTS)
async def test_a_bad_upload_is_refused_by_name(
    user: Client, albums: str, field: str, request_: dict[str, Any], status: int, named: str
) -> None:
    album = await user.make(albums)
    answer = await user.request("POST", f"/{albums}/{album['_id']}/files/{field}", **request_)
    assert [*refused(answer, status)] == ([named] if named else [])
    assert (await user.see(albums, album["_id"]))["_rev"] == 1


async def test_no_field_takes_images_of_more_than_15_mb(sqlite_hub: StartHub) -> None:
    """Whatever its `max_bytes` allows. A field of other files is not concerned."""
    hub = await sqlite_hub()
    kinds = {"cover": "Image", "scan": "File"}
    fields = [{"id": name, "type": kind, "max_bytes": 20_000_000} for name, kind in kinds.items()]
    albums, user, image = await hub.define(fields=fields), await hub.as_user(), png()
    largest = image + bytes(15_000_000 - len(image))
    album = await user.make(albums)
    answer = await upload(user, albums, album["_id"], "cover", largest + b"x")
    assert refused(answer, 413) == {"file": ["The file must not exceed 15000000 bytes."]}
    assert (await user.see(albums, album["_id"]))["_rev"] == 1
    await uploaded(user, albums, album["_id"], "cover", largest)
    await uploaded(user, albums, album["_id"], "scan", largest + b"x")


async def test_only_who_may_change_the_entity_may_upload(hub: Hub, user: Client, other: Client, albums: str) -> None:
    album = await user.make(albums)
    refused(await upload(other, albums, album["_id"], "cover", png()), 404)
    refused(await upload(user, albums, "0" * 24, "cover", png()), 404)
    refused(await upload(user, albums, "nonsense", "cover", png()), 404)
    refused(await upload(hub.client(), albums, album["_id"], "cover", png()), 401)
    reader = await hub.with_token(user.user, scopes=[f"GET /{albums}/*"])
    refused(await upload(reader, albums, album["_id"], "cover", png()), 403)
    writer = await hub.with_token(user.user, scopes=[f"PATCH /{albums}/*"])
    answer = entity_of(await upload(writer, albums, album["_id"], "cover", png()))
    assert [*answer] == ["_id", "_rev"]


# What a body may say of files.


@pytest.fixture
async def album(user: Client, albums: str) -> Entity:
    """An album with a cover and three photos."""
    made = await user.make(albums, code=str(uuid.uuid4()))
    for number in range(3):
        await uploaded(user, albums, made["_id"], "photos", png(30 + number))
    await uploaded(user, albums, made["_id"], "cover", png(200))
    return await user.see(albums, made["_id"])


async def test_an_entity_can_be_sent_back(user: Client, albums: str, album: Entity) -> None:
    path = f"/{albums}/{album['_id']}"
    assert entity_of(await user.patch(path, album)) == album
    again = entity_of(await user.put(path, album))
    assert again == album | {"_rev": again["_rev"], "_at": again["_at"]}
    shuffled = dict(reversed(album["cover"].items()))
    assert entity_of(await user.patch(path, {"cover": shuffled}))["cover"] == album["cover"]
    assert (await read(user, album["cover"]["url"])).status_code == 200


async def test_a_list_can_be_reordered_and_shortened(user: Client, albums: str, album: Entity) -> None:
    path, [a, b, c] = f"/{albums}/{album['_id']}", album["photos"]
    assert entity_of(await user.patch(path, {"photos": [c, a, b]}))["photos"] == [c, a, b]
    assert entity_of(await user.patch(path, {"photos": [b, c]}))["photos"] == [b, c]
    assert (await read(user, a["url"])).status_code == 404
    refused(await user.patch(path, {"photos": [a, b, c]}), 400, "photos")
    assert entity_of(await user.patch(path, {"$pull": {"photos": b}}))["photos"] == [c]
    assert entity_of(await user.put(path, {"code": album["code"], "cover": None, "photos": [c]}))["photos"] == [c]
    assert (await read(user, album["cover"]["url"])).status_code == 404
    assert entity_of(await user.patch(path, {"photos": []}))["photos"] == []
    assert (await read(user, c["url"])).status_code == 404


async def test_no_body_sets_a_file(user: Client, albums: str, album: Entity) -> None:
    """Neither an invented one, nor one of another entity or of another field, nor one of the own twice or altered."""
    path, cover, [a, b, _] = f"/{albums}/{album['_id']}", album["cover"], album["photos"]
    another = await user.make(albums)
    file = await uploaded(user, albums, another["_id"], "cover", png())
    id = str(uuid.uuid4())
    invented = cover | {"id": id, "url": f"/media/{id}"}
    rule = ["Only an upload sets this value. A change may send it back, remove it, or reorder a list."]
    for value in (invented, file, a, cover | {"name": "other.webp"}, cover | {"size": cover["size"] + 1}):
        assert refused(await user.patch(path, {"cover": value}), 400) == {"cover": rule}
        assert refused(await user.put(path, album | {"cover": value}), 400) == {"cover": rule}
        assert refused(await user.patch(path, {"$set": {"cover": value}}), 400) == {"cover": rule}
        assert refused(await user.post(f"/{albums}", {"cover": value}), 400) == {"cover": rule}
        upsert = {"code": album["code"], "cover": value}
        assert refused(await user.post(f"/{albums}", upsert, {"upsert": "code"}), 400) == {"cover": rule}
        upsert = {"code": str(uuid.uuid4()), "cover": value}
        assert refused(await user.post(f"/{albums}", upsert, {"upsert": "code"}), 400) == {"cover": rule}
        assert refused(await user.patch(f"/{albums}", {"cover": value}, {"code": album["code"]}), 400) == {
            "cover": rule
        }
        request = {"method": "PATCH", "path": path, "body": {"cover": value}}
        refused(await user.post("/batch", {"requests": [request]}), 400, "requests.0.cover")
    for values in ([a, a], [a, cover], [a, b, invented]):
        assert refused(await user.patch(path, {"photos": values}), 400) == {"photos": rule}
    refused(await user.patch(path, {"$push": {"photos": cover}}), 400, "photos")
    for malformed in ("x", 5, {}, {"id": cover["id"]}, cover | {"more": 1}, [cover], cover | {"url": a["url"]}):
        refused(await user.patch(path, {"cover": malformed}), 400, "cover")
    assert await user.see(albums, album["_id"]) == album


async def test_an_upsert_may_send_back_files(user: Client, albums: str, album: Entity) -> None:
    [a, b, c] = album["photos"]
    body = {"code": album["code"], "photos": [c, b, a], "cover": album["cover"]}
    changed = entity_of(await user.post(f"/{albums}", body, {"upsert": "code"}))
    assert (changed["photos"], changed["cover"]) == ([c, b, a], album["cover"])


async def test_a_bulk_change_may_remove_files(user: Client, albums: str, album: Entity) -> None:
    answer = await user.patch(f"/{albums}", {"cover": None, "photos": []}, {"code": album["code"]})
    assert answer.json()["count"] == 1
    assert (await read(user, album["cover"]["url"])).status_code == 404


async def test_a_file_is_removed_by_its_id(user: Client, other: Client, albums: str, album: Entity) -> None:
    [a, b, c] = album["photos"]
    path = f"/{albums}/{album['_id']}/files"
    refused(await other.delete(f"{path}/photos/{b['id']}"), 404)
    assert entity_of(await user.delete(f"{path}/photos/{b['id']}"))["photos"] == [a, c]
    for field, id in (("photos", b["id"]), ("photos", "x"), ("photos", album["cover"]["id"]), ("code", a["id"])):
        refused(await user.delete(f"{path}/{field}/{id}"), 404)
    assert entity_of(await user.delete(f"{path}/cover/{album['cover']['id']}"))["cover"] is None
    for gone in (b, album["cover"]):
        assert (await read(user, gone["url"])).status_code == 404


async def test_files_go_with_their_entity(user: Client, albums: str, album: Entity) -> None:
    urls = [album["cover"]["url"], *(photo["url"] for photo in album["photos"])]
    assert (await read(user, urls[0] + "?w=160")).status_code == 200
    assert (await user.delete(f"/{albums}/{album['_id']}")).status_code == 200
    for url in urls:
        assert (await read(user, url)).status_code == 404
        assert (await read(user, url + "?w=160")).status_code == 404


async def test_filters_reach_into_files(user: Client, albums: str, album: Entity) -> None:
    mine = {"code": album["code"]}
    assert await user.list(albums, mine | {"photos.width": "31"}) == [album]
    assert await user.list(albums, mine | {"cover.type": "image/webp"}) == [album]
    assert await user.list(albums, mine | {"cover[exists]": "false"}) == []


async def test_nothing_that_is_lost_stays_in_the_storage(
    user: Client, albums: str, album: Entity, storage_url: str
) -> None:
    """The files and their thumbnails are removed soon."""
    storage, file = Storage.at(storage_url), album["cover"]["id"]
    assert (await read(user, f"/media/{file}?w=160")).status_code == 200
    keys = [each.key async for page in storage.files() for each in page if file in each.key]
    await user.delete(f"/{albums}/{album['_id']}")

    async def is_removed() -> bool:
        return {await storage.size(key) for key in keys} == {None}

    await eventually(is_removed)
