"""Serving of files: who may read them, and how they are sent."""

from __future__ import annotations

import asyncio
import io
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from stores.records import Entity, now_ms
from tests.media.uploading import PDF, png, read, upload, uploaded
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of
from tests.support.live import live
from tests.support.standstill import read_metrics

TEXT = b"".join(b"%07d\n" % n for n in range(200_000))
"""1.6 MB, each line of which says where it is."""


@pytest.fixture(scope="module")
async def album(user: Client, albums: str) -> Entity:
    """An album with a private cover, a public poster, a private paper and two public flyers, a page and a text."""
    id = (await user.make(albums))["_id"]
    await uploaded(user, albums, id, "cover", png())
    await uploaded(user, albums, id, "poster", png(1_500, 300))
    await uploaded(user, albums, id, "paper", PDF, "lease.pdf", "application/pdf")
    await uploaded(user, albums, id, "flyers", b"<script>alert(1)</script>", "page.html", "text/html")
    await uploaded(user, albums, id, "flyers", TEXT, "lines.txt", "text/plain")
    return await user.see(albums, id)


# Who may read.


async def test_a_private_file_follows_its_entity(
    hub: Hub, user: Client, other: Client, albums: str, album: Entity
) -> None:
    for value in (album["cover"], album["paper"]):
        assert (await read(user, value["url"])).status_code == 200
        assert (await read(hub.admin, value["url"])).status_code == 200
        refused(await read(other, value["url"]), 404)
        refused(await read(hub.client(), value["url"]), 401)
        refused(await read(hub.client("wrong"), value["url"]), 401)
        narrow = await hub.with_token(user.user, scopes=["GET /elsewhere/*"])
        refused(await read(narrow, value["url"]), 403)
    good(await user.put(f"/{albums}/{album['_id']}/access", {"access": [other.id]}))
    assert (await read(other, album["cover"]["url"])).status_code == 200
    assert (await read(other, album["cover"]["url"] + "?w=320")).status_code == 200
    good(await user.put(f"/{albums}/{album['_id']}/access", {"access": []}))
    refused(await read(other, album["cover"]["url"]), 404)
    refused(await read(other, album["cover"]["url"] + "?w=320"), 404)


async def test_a_public_file_is_for_everybody(hub: Hub, other: Client, album: Entity) -> None:
    for client in (hub.client(), hub.client("wrong"), other):
        answer = await read(client, album["poster"]["url"])
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_a_cached_public_file_is_for_all_pages(hub: Hub, user: Client, album: Entity) -> None:
    """Caches keep one answer, so it does not depend on the page that asked first."""
    for query in ("", "?w=160"):
        for headers in ({}, {"origin": "https://a.example"}):
            answer = await read(hub.client(), album["poster"]["url"] + query, **headers)
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "Origin" not in answer.headers.get("vary", "")
    assert "access-control-allow-origin" not in (await read(user, album["cover"]["url"])).headers


async def test_a_cookie_opens_private_files(hub: Hub, albums: str) -> None:
    owner = await hub.as_user("a long password")
    id = (await owner.make(albums))["_id"]
    value = await uploaded(owner, albums, id, "cover", png())
    session = await hub.as_session(str(owner.user["login"]), "a long password")
    answer = await read(session, value["url"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_hidden_file_is_never_read(hub: Hub, user: Client, albums: str) -> None:
    id = (await user.make(albums))["_id"]
    answer = await upload(user, albums, id, "secret", PDF, "a.pdf", "application/pdf")
    assert "secret" not in entity_of(answer)
    for client in (user, hub.admin):
        refused(await read(client, answer.headers["location"]), 404)


async def test_a_field_may_become_private(hub: Hub, user: Client) -> None:
    store = await hub.define(fields=[{"id": "f", "type": "File", "public": True}])
    id = (await user.make(store))["_id"]
    value = await uploaded(user, store, id, "f", PDF, "a.pdf", "application/pdf")
    assert (await read(hub.client(), value["url"])).status_code == 200
    [definition] = await hub.admin.list("stores", {"name": store})
    private = {"fields": [{"id": "f", "type": "File"}]}
    good(await hub.admin.patch(f"/stores/{definition['_id']}", private))
    refused(await read(hub.client(), value["url"]), 401)
    renamed = {"fields": [{"id": "g", "type": "File"}], "data": {"rename": {"f": "g"}}}
    good(await hub.admin.patch(f"/stores/{definition['_id']}", renamed))
    assert (await user.see(store, id))["g"] == value
    assert (await read(user, value["url"])).content == PDF


@pytest.mark.parametrize("path", ["", "/", "/x", "/00000000-0000-4000-8000-000000000000", "/%00", "/a/b", "/owner"])
async def test_an_unknown_file_is_404(hub: Hub, path: str) -> None:
    for client in (hub.admin, hub.client()):
        refused(await read(client, f"/media{path}"), 404)


async def test_files_are_only_read(hub: Hub, album: Entity) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await hub.admin.http.request(method, hub.url + album["poster"]["url"])
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


# Signed links.


async def link(client: Client, store: str, entity: Entity, value: Entity, **body: Any) -> httpx.Response:
    return await client.post(f"/{store}/{entity['_id']}/files/cover/{value['id']}/link", body)


async def test_a_link_opens_a_private_file(hub: Hub, user: Client, albums: str, album: Entity) -> None:
    made = good(await link(user, albums, album, album["cover"]))
    assert 3_500_000 < made["expires"] - now_ms() <= 3_600_000
    for query in ("", "&w=320"):
        answer = await read(hub.client(), made["url"] + query)
        assert answer.status_code == 200
        kind, _, age = answer.headers["cache-control"].partition(", max-age=")
        assert kind == "private"
        assert 3_000 < int(age) <= 3_600
    by_id = await user.post(f"/{albums}/{album['_id']}/files/{album['cover']['id']}/link", {"expires": 60})
    assert (await read(hub.client(), good(by_id)["url"])).status_code == 200


async def test_a_link_is_of_its_file_and_cannot_be_forged(hub: Hub, user: Client, albums: str, album: Entity) -> None:
    made = good(await link(user, albums, album, album["cover"]))
    path, _, signature = made["url"].partition("?sig=")
    expires, _, digest = signature.partition(".")
    later = f"{int(expires) + 1}.{digest}"
    altered = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    for wrong in (
        later,
        altered,
        signature.upper(),
        f"0{signature}",
        f"{expires}.",
        f".{digest}",
        "",
        "x",
        "é",
        "9" * 400,
    ):
        refused(await read(hub.client(), f"{path}?sig={wrong}"), 401)
    assert (await read(user, f"{path}?sig=x")).status_code == 200
    refused(await read(hub.client(), f"{album['paper']['url']}?sig={signature}"), 401)


async def test_a_link_ends(hub: Hub, user: Client, albums: str, album: Entity) -> None:
    made = good(await link(user, albums, album, album["cover"], expires=1))
    await asyncio.sleep(1.1)
    refused(await read(hub.client(), made["url"]), 401)


async def test_a_link_ends_with_its_file(hub: Hub, user: Client, albums: str) -> None:
    entity = await user.make(albums)
    value = await uploaded(user, albums, entity["_id"], "cover", png(100))
    made = good(await link(user, albums, entity, value))
    good(await user.patch(f"/{albums}/{entity['_id']}", {"cover": None}))
    refused(await read(hub.client(), made["url"]), 404)


@pytest.mark.parametrize("expires", [0, -1, 604_801, 10**13 + 10**12, "soon", True, [], 1.5, "2020-01-01T00:00:00Z"])
async def test_a_bad_end_of_a_link_is_refused(user: Client, albums: str, album: Entity, expires: Any) -> None:
    refused(await link(user, albums, album, album["cover"], expires=expires), 400, "expires")


async def test_a_link_needs_the_right_to_read(
    hub: Hub, user: Client, other: Client, albums: str, album: Entity
) -> None:
    refused(await link(other, albums, album, album["cover"]), 404)
    refused(await link(hub.client(), albums, album, album["cover"]), 401)
    writer = await hub.with_token(user.user, scopes=[f"POST /{albums}/*"])
    refused(await link(writer, albums, album, album["cover"]), 403)
    reader = await hub.with_token(user.user, scopes=[f"GET /{albums}/*"])
    good(await link(reader, albums, album, album["cover"]))
    another = await user.make(albums)
    refused(await link(user, albums, another, album["cover"]), 404)
    refused(await link(user, albums, album, {"id": str(uuid.uuid4())}), 404)
    refused(await link(user, albums, album, album["cover"], more=1), 400, "more")


# How files are sent.


async def test_files_are_sent_with_safe_headers(user: Client, album: Entity) -> None:
    """Browsers guess no type, run nothing, and show only what cannot run."""
    page, lines = album["flyers"]
    shown = [(album["cover"], "inline", "image/webp"), (lines, "inline", "text/plain; charset=utf-8")]
    downloads = [(page, "attachment", "text/html"), (album["paper"], "attachment", "application/pdf")]
    for value, kind, type in [*shown, *downloads]:
        headers = (await read(user, value["url"])).headers
        assert headers["content-type"] == type
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].endswith("; sandbox")
        assert headers["content-disposition"].startswith(f'{kind}; filename="{value["name"]}"')


@pytest.mark.parametrize(("type", "name"), [("video/mp4", "a.mp4"), ("audio/mpeg", "a.mp3")])
async def test_films_and_sound_can_be_played(user: Client, albums: str, type: str, name: str) -> None:
    """A browser's player loads the file again, with the cookie of the user, as the policy of the first answer says."""
    id = (await user.make(albums))["_id"]
    value = await uploaded(user, albums, id, "flyers", b"x" * 100, name, type)
    headers = (await read(user, value["url"])).headers
    assert headers["content-type"] == type
    assert headers["content-disposition"].startswith("inline; ")
    policy = [each.strip() for each in headers["content-security-policy"].split(";")]
    assert policy[0] == "default-src 'none'"
    assert {"media-src 'self'", "sandbox allow-same-origin"} <= {*policy}


async def test_a_name_survives_in_the_header(user: Client, albums: str) -> None:
    id = (await user.make(albums))["_id"]
    value = await uploaded(user, albums, id, "flyers", b"x", 'ключ "№5"\r\nX: y.txt', "text/plain")
    header = (await read(user, value["url"])).headers["content-disposition"]
    assert header.isascii()
    assert "filename*=UTF-8''%D0%BA%D0%BB%D1%8E%D1%87" in header


async def test_the_head_of_a_file(user: Client, album: Entity) -> None:
    value = album["flyers"][1]
    head = await user.http.head(user.url + value["url"])
    whole = await read(user, value["url"])
    assert (head.status_code, head.content) == (200, b"")
    different = {"x-request-id", "date"}
    assert {n: v for n, v in head.headers.items() if n not in different} == {
        n: v for n, v in whole.headers.items() if n not in different
    }
    assert whole.content == TEXT


async def test_a_known_file_is_not_sent_again(user: Client, album: Entity) -> None:
    for query in ("", "?w=160"):
        url = album["poster"]["url"] + query
        etag = (await read(user, url)).headers["etag"]
        for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            answer = await read(user, url, if_none_match=known)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (await read(user, url, if_none_match='"other"')).status_code == 200
    assert (await read(user, album["poster"]["url"], if_none_match=etag)).status_code == 200


async def test_a_file_is_never_compressed(user: Client, album: Entity) -> None:
    answer = await read(user, album["flyers"][1]["url"], accept_encoding="gzip, zstd")
    assert "content-encoding" not in answer.headers


RANGES = [
    ("bytes=0-7", 0, 8),
    ("bytes=8-15", 8, 16),
    ("bytes=1599992-", 1_599_992, 1_600_000),
    ("bytes=-8", 1_599_992, 1_600_000),
    ("bytes=-9999999", 0, 1_600_000),
    ("bytes=200000-900000", 200_000, 900_001),
    ("bytes=1599999-9999999", 1_599_999, 1_600_000),
]


@pytest.mark.parametrize(("header", "start", "end"), RANGES)
async def test_a_range_of_a_file(user: Client, album: Entity, header: str, start: int, end: int) -> None:
    answer = await read(user, album["flyers"][1]["url"], range=header)
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1600000"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.content == TEXT[start:end]


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=0-1,5-6", "bytes=", "bytes=-", "lines=0-1", "bytes=a-b", "bytes=" + "9" * 400]
)
async def test_any_other_range_is_the_whole_file(user: Client, album: Entity, header: str) -> None:
    answer = await read(user, album["flyers"][1]["url"], range=header)
    assert (answer.status_code, len(answer.content)) == (200, 1_600_000)


async def test_a_range_behind_the_end(user: Client, album: Entity) -> None:
    for header in ("bytes=1600000-", "bytes=1600000-1600005", "bytes=-0"):
        answer = await read(user, album["flyers"][1]["url"], range=header)
        assert answer.status_code == 416
        assert answer.headers["content-range"] == "bytes */1600000"


async def test_a_range_of_another_version_is_the_whole_file(user: Client, album: Entity) -> None:
    url = album["flyers"][1]["url"]
    etag = (await read(user, url)).headers["etag"]
    assert (await read(user, url, range="bytes=0-0", if_range=etag)).status_code == 206
    for other in ('"other"', f"W/{etag}", "Sat, 28 Nov 2026 00:00:00 GMT"):
        assert (await read(user, url, range="bytes=0-0", if_range=other)).status_code == 200


async def test_an_empty_file(user: Client, albums: str) -> None:
    id = (await user.make(albums))["_id"]
    value = await uploaded(user, albums, id, "flyers", b"", "empty.txt", "text/plain")
    answer = await read(user, value["url"])
    assert (answer.status_code, answer.content, value["size"]) == (200, b"", 0)
    assert (await read(user, value["url"], range="bytes=0-")).status_code == 416


# Thumbnails.


@pytest.mark.parametrize("width", [160, 320, 640, 1280])
async def test_thumbnails_of_listed_widths(user: Client, album: Entity, width: int) -> None:
    answer = await read(user, f"{album['poster']['url']}?w={width}")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (width, round(width / 5))
    assert len(answer.content) == int(answer.headers["content-length"])
    again = await read(user, f"{album['poster']['url']}?w={width}", range="bytes=0-9")
    assert (again.status_code, again.content) == (206, answer.content[:10])


async def test_no_thumbnail_is_larger_than_its_image(user: Client, album: Entity) -> None:
    whole = await read(user, album["cover"]["url"])
    answer = await read(user, f"{album['cover']['url']}?w=1280")
    assert (answer.content, answer.headers["etag"]) == (whole.content, whole.headers["etag"])


@pytest.mark.parametrize("width", ["0", "-160", "161", "99999999999", "x", "", "160.0", "٣٢٠", "1280000"])
async def test_no_thumbnails_of_other_widths(user: Client, album: Entity, width: str) -> None:
    refused(await user.http.get(user.url + album["poster"]["url"], params={"w": width}), 404)


async def test_a_document_has_no_thumbnails(user: Client, album: Entity) -> None:
    refused(await read(user, album["paper"]["url"] + "?w=160"), 404)


async def test_a_thumbnail_is_made_once(hub: Hub, user: Client, albums: str) -> None:
    """Whoever asks while it is being made gets the same one."""
    id = (await user.make(albums))["_id"]
    value = await uploaded(user, albums, id, "poster", png(700, 100))
    before = (await read_metrics(hub.url)).value("hub_images_total", outcome="converted")
    answers = await asyncio.gather(*(read(hub.client(), f"{value['url']}?w=640") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert (await read_metrics(hub.url)).value("hub_images_total", outcome="converted") == before + 1


# Readers that are slow, or leave.


async def test_a_slow_reader_holds_nothing_open(hub: Hub, user: Client, album: Entity) -> None:
    value = album["flyers"][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.process.port, limit=4_096)
    writer.write(f"GET {value['url']} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 1600000" in head.lower()
    await asyncio.sleep(0.3)
    assert not files_open_in_storage(hub)
    assert await reader.readexactly(1_600_000) == TEXT
    writer.close()


async def test_a_reader_may_leave(hub: Hub, user: Client, album: Entity) -> None:
    """Nothing stays open, and nothing is logged as a defect."""
    value, start = album["flyers"][1], len(hub.process.log)
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.process.port, limit=4_096)
        writer.write(f"GET {value['url']} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
    assert (await read(user, value["url"])).content == TEXT
    assert not files_open_in_storage(hub)
    assert not [each for each in hub.process.records(start) if each["level"] in ("error", "critical")]


def files_open_in_storage(hub: Hub) -> list[str]:
    """Return the stored files that the hub's process has open."""
    found = []
    for each in Path(f"/proc/{hub.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = os.readlink(each)
            if re.fullmatch(r".*/[0-9a-f]{2}/[0-9a-f-]{36}(\.w[0-9]+)?", target):
                found.append(target)
    return found


# Every way of reading an entity shows the same value.


async def test_live_equals_rest(hub: Hub, user: Client, albums: str) -> None:
    async with live(hub, user) as client:
        watch = await client.watch(albums)
        listing = await user.get(f"/{albums}", {"limit": 1})
        id = (await user.make(albums))["_id"]
        first = await uploaded(user, albums, id, "photos", png(60))
        await uploaded(user, albums, id, "photos", png(61))
        good(await user.delete(f"/{albums}/{id}/files/photos/{first['id']}"))
        await uploaded(user, albums, id, "cover", png(62))
        entity = await user.see(albums, id)
        await client.until(lambda: watch.view.get(id, {}).get("_rev") == entity["_rev"])
        assert watch.view[id] == entity
    changes = good(await user.get(f"/{albums}", {"since": listing.headers["x-position"]}))["changes"]
    assert [each["entity"] for each in changes if each["_id"] == id][-1] == entity
    trail = good(await user.get(f"/{albums}/{id}/history"))["history"]
    assert trail[-1]["changes"]["cover"]["new"] == entity["cover"]
