"""Answers are compressed on request: whole answers over 1 KiB, and long lists for clients on other machines."""

from __future__ import annotations

import zlib
from pathlib import Path

import httpx
import pytest

from hub.http import zstd
from tests.platform.raw import RawAnswer, wire
from tests.support.engines import Database
from tests.support.hub import API, Hub, StartHub, running_hub

ELSEWHERE = "X-Forwarded-For: 203.0.113.9"


@pytest.fixture(scope="module")
async def sqlite(sqlite_hub: StartHub) -> Hub:
    """A hub on SQLite, because compression does not depend on the engine."""
    return await sqlite_hub()


@pytest.fixture(scope="module")
async def store(sqlite: Hub) -> str:
    """A store of 1 000 entities of some 500 bytes, whose list is streamed."""
    store = await sqlite.define()
    await sqlite.admin.make_all(store, [{"n": n, "text": f"unit {n} " * 25} for n in range(1_000)])
    return store


async def ask(hub: Hub, path: str, *headers: str, method: str = "GET") -> RawAnswer:
    """Return the raw answer, with its chunks joined."""
    token = hub.admin.http.headers["Authorization"]
    lines = [f"{method} {API}{path} HTTP/1.1", "Host: hub", f"Authorization: {token}", "Connection: close", *headers]
    async with wire(hub.process.port) as connection:
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        status, found = await connection.head()
        body = await connection.reader.read()
    if found.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return RawAnswer(status, found, body)


def unchunked(body: bytes) -> bytes:
    joined = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        joined, body = joined + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return joined


def unpacked(answer: RawAnswer) -> bytes:
    match answer.headers.get("content-encoding"):
        case "zstd":
            return zstd.decompress(answer.body)
        case "gzip":
            return zlib.decompress(answer.body, 31)
    return answer.body


ACCEPTED = [
    ("zstd", "zstd"),
    ("gzip", "gzip"),
    ("gzip, deflate, br, zstd", "zstd"),
    ("gzip, deflate, br", "gzip"),
    ("GZIP", "gzip"),
    ("*", "zstd"),
    ("zstd;q=0.5, gzip", "gzip"),
    ("zstd;q=0, *;q=0.1", "gzip"),
    ("br, deflate", None),
    ("identity", None),
    ("gzip;q=0", None),
    ("gzip;q=x", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("asked", "given"), ACCEPTED)
@pytest.mark.parametrize("limit", [100, 1_000])
async def test_the_client_chooses_the_coding(
    sqlite: Hub, store: str, asked: str | None, given: str | None, limit: int
) -> None:
    """This holds for whole and streamed answers, whose content does not depend on the coding."""
    path = f"/{store}?limit={limit}"
    headers = [ELSEWHERE] if asked is None else [ELSEWHERE, f"Accept-Encoding: {asked}"]
    answer, plain = await ask(sqlite, path, *headers), await ask(sqlite, path)
    assert (answer.status, answer.headers.get("content-encoding")) == (200, given)
    assert unpacked(answer) == plain.body
    assert "Accept-Encoding" in answer.headers["vary"]
    if given:
        assert len(answer.body) < len(plain.body) / 3


async def test_a_list_that_streams_within_this_machine_is_not_compressed(sqlite: Hub, store: str) -> None:
    answer = await ask(sqlite, f"/{store}?limit=1000", "Accept-Encoding: zstd, gzip")
    assert "content-encoding" not in answer.headers
    assert "Accept-Encoding" not in answer.headers.get("vary", "")
    assert (await ask(sqlite, f"/{store}?limit=100", "Accept-Encoding: zstd")).headers["content-encoding"] == "zstd"


async def test_small_answers_and_heads_are_left_alone(sqlite: Hub, store: str) -> None:
    """HEAD has the length of the answer to GET, or none if that one is compressed."""
    small = await ask(sqlite, f"/{store}?limit=1", "Accept-Encoding: gzip")
    assert "content-encoding" not in small.headers
    assert "Accept-Encoding" not in small.headers.get("vary", "")
    for limit in (100, 1_000):
        head = await ask(sqlite, f"/{store}?limit={limit}", "Accept-Encoding: gzip", ELSEWHERE, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert not head.headers.keys() & {"content-encoding", "content-length", "transfer-encoding"}
        assert "Accept-Encoding" in head.headers["vary"]
    plain = await ask(sqlite, f"/{store}?limit=100", method="HEAD")
    assert int(plain.headers["content-length"]) == len((await ask(sqlite, f"/{store}?limit=100")).body)


async def test_a_conditional_request_works_as_without(sqlite: Hub) -> None:
    """The ETag is the revision and does not depend on the coding."""
    store = await sqlite.define()
    made = await sqlite.admin.make(store, text="x" * 2_000)
    answer = await ask(sqlite, f"/{store}/{made['_id']}", "Accept-Encoding: gzip")
    assert (answer.headers["etag"], answer.headers["content-encoding"]) == ('"1"', "gzip")
    again = await ask(sqlite, f"/{store}/{made['_id']}", "Accept-Encoding: gzip", 'If-None-Match: "1"')
    assert (again.status, again.body) == (304, b"")
    assert "Accept-Encoding" in again.headers["vary"]


async def test_large_answers_are_compressed(sqlite: Hub) -> None:
    """The answer to a bulk creation is streamed; a few large entities may be answered whole."""
    store = await sqlite.define()
    headers = {"Accept-Encoding": "gzip", "X-Forwarded-For": "203.0.113.9"}
    bodies = [{"text": "x" * 500_000} for _ in range(4)]
    made = await sqlite.admin.request("POST", f"/{store}", json=bodies, headers=headers)
    listed = await sqlite.admin.request("GET", f"/{store}", headers=headers)
    assert (made.headers["content-encoding"], listed.headers["content-encoding"]) == ("gzip", "gzip")
    assert made.json()["entities"] == listed.json()


@pytest.mark.parametrize(("setting", "streams"), [("always", "gzip"), ("off", None)])
async def test_the_setting_decides(tmp_path: Path, setting: str, streams: str | None) -> None:
    database = Database("sqlite", str(tmp_path / "hub.db"))
    async with running_hub(database, tmp_path / "hub", compression=setting) as hub:
        store = await hub.define()
        await hub.admin.make_all(store, [{"text": "x" * 500} for _ in range(1_000)])
        answer = await ask(hub, f"/{store}", "Accept-Encoding: gzip")
        assert answer.headers.get("content-encoding") == streams
        assert unpacked(answer).startswith(b"[{")


async def test_browsers_and_libraries_read_it(sqlite: Hub, store: str) -> None:
    async with httpx.AsyncClient(trust_env=False, headers=sqlite.admin.http.headers) as http:
        answer = await http.get(f"{sqlite.url}{API}/{store}?limit=50")
    assert answer.headers["content-encoding"] in ("zstd", "gzip")
    assert len(answer.json()) == 50
