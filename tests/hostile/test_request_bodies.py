"""Request bodies: size limits by call and principal, the limit on all of them together, and compression."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from hub.http import zstd
from hub.http.inflate import MAX_ZSTD_FRAMES
from tests.hostile.harness import resident
from tests.hostile.many_connections import sockets, wire_from
from tests.platform.raw import Wire, request, token_of, wire
from tests.support.engines import sqlite_database
from tests.support.hub import Client, Hub, StartHub, eventually, running_hub
from tests.support.standstill import LONGEST_TURN, limit_reached, no_standstill
from tests.support.tasks import end

pytestmark = pytest.mark.engine("sqlite")  # bodies are refused before the engine is used

MIB = 1_048_576
EXPECT = "Expect: 100-continue"


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    bounds = {"max_buffered_bytes": 20 * MIB, "max_bulk_body_bytes": 8 * MIB}
    return await sqlite_hub(**bounds)


@pytest.fixture(scope="module")
async def store(hub: Hub) -> str:
    return await hub.define()


@pytest.fixture(scope="module")
async def reader(hub: Hub) -> Client:
    """A user who may only read."""
    return await hub.with_token((await hub.as_user()).user, scopes=["GET /*"])


@pytest.fixture
async def connection(hub: Hub) -> AsyncIterator[Wire]:
    async with wire(hub.process.port) as connection:
        yield connection


@pytest.fixture(scope="module")
def token(hub: Hub) -> str:
    return token_of(hub.admin.http.headers)


@pytest.mark.parametrize("path", ["/auth", "/auth/token", "/auth/reset", "/auth/reset/confirm"])
@pytest.mark.parametrize("kind", ["declared", "chunked"])
async def test_signing_in_takes_little(hub: Hub, path: str, kind: str) -> None:
    """A body of 2 MiB without credentials is refused and does not block the loop."""
    body = b"[" + b"[]," * 700_000 + b"[]]"
    async with no_standstill(hub.url):
        if kind == "declared":
            answer = await hub.client().send("POST", path, body)
        else:

            async def pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 50_000):
                    yield body[start : start + 50_000]

            answer = await hub.client().request("POST", path, content=pieces())
    assert answer.status_code == 413
    assert answer.json()["errors"] == {"body": ["The body must not exceed 16384 bytes."]}


async def test_long_logins_and_passwords_fit(hub: Hub) -> None:
    """A password of a thousand characters beyond the BMP, each sent as two JSON escapes."""
    body = orjson.dumps({"login": "a", "password": "b"}).replace(b'"b"', b'"' + rb"\ud83d\ude00" * 1_000 + b'"')
    assert (await hub.client().send("POST", "/auth", body)).status_code == 401


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_only_creating_takes_large_arrays(hub: Hub, store: str, method: str) -> None:
    body = orjson.dumps([{"text": "x" * 1_000} for _ in range(2_000)])
    made = await hub.admin.make(store)
    answer = await hub.admin.send(method, f"/{store}/{made['_id']}", body)
    assert answer.status_code == 413
    assert answer.json()["errors"] == {"body": [f"The body must not exceed {MIB} bytes."]}
    assert (await hub.admin.send("POST", f"/{store}", body)).status_code == 200


@pytest.mark.parametrize(
    ("path", "credential", "status"),
    [("store", "nobody", 401), ("store", "reader", 403), ("/batch", "nobody", 401), ("/batch", "reader", 413)],
)
async def test_who_may_not_create_is_told_before_the_body_comes(
    connection: Wire, store: str, reader: Client, path: str, credential: str, status: int
) -> None:
    """A small batch of a reader is answered by its requests, so it has the limit of other bodies."""
    token = token_of(reader.http.headers) if credential == "reader" else "unknown"
    path = f"/{store}" if path == "store" else path
    await connection.send(request("POST", path, token, f"Content-Length: {6 * MIB}", EXPECT))
    assert (await connection.answer()).status == status


async def test_only_who_may_write_sends_large_batches(hub: Hub, store: str, reader: Client) -> None:
    """To some store, by any method."""
    text = {"text": "x" * 300_000}
    batch = {"requests": [{"method": "POST", "path": f"/{store}", "body": text}] * 4}
    answer = await reader.post("/batch", batch)
    assert answer.status_code == 413
    assert answer.json()["errors"] == {"body": [f"The body must not exceed {MIB} bytes."]}
    assert (await reader.post("/batch", {"requests": batch["requests"][:1]})).status_code == 403
    writer = await hub.with_token((await hub.as_user()).user, scopes=[f"POST /{store}/*"])
    assert (await writer.post("/batch", batch)).status_code == 200


@pytest.mark.parametrize(("path", "size"), [("/auth", 20_000), ("/auth/token", MIB), ("store", 8 * MIB + 1)])
async def test_who_asks_whether_to_send_too_much_is_told_not_to(
    connection: Wire, store: str, token: str, path: str, size: int
) -> None:
    """The answer is 413 immediately, without 100 Continue before it."""
    path = f"/{store}" if path == "store" else path
    await connection.send(request("POST", path, token, f"Content-Length: {size}", EXPECT))
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert await connection.closed()


async def test_the_setting_is_named_that_is_exceeded(hub: Hub, store: str) -> None:
    before = {name: await limit_reached(hub, name) for name in ("max_body_bytes", "max_bulk_body_bytes")}
    large = b'{"text":"' + b"x" * MIB + b'"}'
    assert (await hub.admin.send("POST", f"/{store}", large)).status_code == 413
    many = b"[" + b"{}," * 3 * MIB + b"{}]"
    answer = await hub.admin.send("POST", f"/{store}", many)
    assert answer.json()["errors"] == {"body": [f"The body must not exceed {8 * MIB} bytes."]}
    for name, count in before.items():
        assert await limit_reached(hub, name) == count + 1


async def test_unfinished_bodies_have_a_limit_together(hub: Hub, store: str, token: str) -> None:
    """One address may use half of the limit; beyond that it is refused, and other addresses are not affected."""
    before = resident(hub.process.pid)
    unfinished = request("POST", f"/{store}", token, f"Content-Length: {7 * MIB}") + b"[" + b" " * (4 * MIB)
    async with AsyncExitStack() as stack:
        hoarders = [await stack.enter_async_context(wire_from(hub, "127.0.0.2")) for _ in range(20)]
        sending = [asyncio.create_task(hoarder.send(unfinished)) for hoarder in hoarders]
        await eventually(lambda: limit_reached(hub, "max_buffered_bytes"))
        small = request("POST", f"/{store}", token, "Content-Length: 7") + b'{"n":1}'
        async with wire_from(hub, "127.0.0.3") as other:
            await other.send(small)
            assert (await other.answer()).status == 200
        assert resident(hub.process.pid) - before < 60 * MIB
        await end(*sending)


async def test_a_body_beyond_the_common_limit_is_told_so(hub: Hub, store: str, token: str) -> None:
    """Of two bodies that exceed it together, the one whose next piece is too much."""
    async with AsyncExitStack() as stack:
        held = request("POST", f"/{store}", token, f"Content-Length: {7 * MIB}") + b"[" + b" " * (5 * MIB)
        senders = [await stack.enter_async_context(wire_from(hub, "127.0.0.2")) for _ in range(2)]
        sending = [asyncio.create_task(each.send(held)) for each in senders]
        answering = [asyncio.create_task(each.answer()) for each in senders]
        answered, waiting = await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
        answer = answered.pop().result()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert "body" in answer.json()["errors"]
        assert int(answer.headers["retry-after"]) >= 1
        await end(*sending, *waiting)


async def joined_by_polling(hub: Hub) -> str:
    """Connect a live client by polling; return the target of its POSTs."""
    target = "/socket.io/?EIO=4&transport=polling"
    http = hub.admin.http
    opened = await http.get(hub.url + target)
    target += "&sid=" + orjson.loads(opened.text[1:])["sid"]
    assert (await http.post(hub.url + target, content=b"40")).text == "ok"
    assert (await http.get(hub.url + target)).text.startswith("40")
    return target


async def test_polled_bodies_count_too(hub: Hub) -> None:
    """Bodies that joined clients POST to the live endpoint count as well."""
    loop, before = asyncio.get_running_loop(), await limit_reached(hub, "max_buffered_bytes")
    targets = [await joined_by_polling(hub) for _ in range(15)]
    async with sockets(hub, 15, "127.0.0.2") as clients:
        sending = []
        for one, target in zip(clients, targets, strict=True):
            head = f"POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: 999000\r\n\r\n".encode()
            sending.append(asyncio.create_task(loop.sock_sendall(one, head + b"4" * 900_000)))
        await eventually(lambda: limit_is_reached(hub, before))
        await end(*sending)


async def limit_is_reached(hub: Hub, before: float) -> bool:
    return await limit_reached(hub, "max_buffered_bytes") > before


# Compressed bodies.


def bare_deflate(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


def summed(body: bytes) -> bytes:
    return zstd.compress(body, options={zstd.CompressionParameter.checksum_flag: 1})


def flushed(body: bytes) -> bytes:
    """Return the whole content without the end of the frame."""
    packer = zstd.ZstdCompressor()
    return packer.compress(body, packer.FLUSH_BLOCK)


PACKERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", [*PACKERS, "GZIP", "gzip , identity", "identity", "bare"])
async def test_a_compressed_body_is_a_body(hub: Hub, store: str, coding: str) -> None:
    """One entity and many, small and large, in POST and PATCH."""
    name = coding.strip().lower().partition(" ")[0]
    pack = bare_deflate if coding == "bare" else PACKERS.get(name, bytes)
    headers = {"Content-Encoding": "deflate" if coding == "bare" else coding}
    text = "".join(random.Random(1).choices("abcdefgh", k=300_000))
    for body in ({"n": 1}, {"text": text}):
        made = await hub.admin.request("POST", f"/{store}", content=pack(orjson.dumps(body)), headers=headers)
        assert made.status_code == 200, made.text
        changed = pack(orjson.dumps({"n": 2}))
        answer = await hub.admin.request("PATCH", f"/{store}/{made.json()['_id']}", content=changed, headers=headers)
        assert answer.json() == made.json() | {"n": 2, "_rev": 2, "_at": answer.json()["_at"]}
    many = orjson.dumps([{"n": n, "text": "x" * 500} for n in range(5_000)])
    answer = await hub.admin.request("POST", f"/{store}", content=pack(many), headers=headers)
    assert len(answer.json()["entities"]) == 5_000


async def test_members_of_gzip_are_one_body(hub: Hub, store: str) -> None:
    body = gzip.compress(b'{"a":') + gzip.compress(b"") + gzip.compress(b"1}")
    assert (await hub.admin.send("POST", f"/{store}", body, content_encoding="gzip")).json()["a"] == 1


async def test_frames_of_zstd_are_one_body(hub: Hub, store: str) -> None:
    body = zstd.compress(b'{"a":') + zstd.compress(b"") * (MAX_ZSTD_FRAMES - 2) + summed(b"1}")
    assert (await hub.admin.send("POST", f"/{store}", body, content_encoding="zstd")).json()["a"] == 1


@pytest.mark.parametrize("before", [b" " * 300_000, b"\xef\xbb\xbf" + b" " * 300_000])
async def test_blanks_before_a_large_compressed_array_are_looked_past(hub: Hub, store: str, before: bytes) -> None:
    body = before + orjson.dumps([{"text": "x" * 1_000} for _ in range(2_000)])
    for sent, headers in ((body, {}), (gzip.compress(body), {"content_encoding": "gzip"})):
        assert (await hub.admin.send("POST", f"/{store}", sent, **headers)).status_code == 200


BOMBS = {
    "gzip": lambda size: gzip.compress(b"[" + b" " * size),
    "deflate": lambda size: zlib.compress(b"[" + b" " * size),
    "zstd": lambda size: zstd.compress(b"[" + b" " * size),
    "object": lambda size: gzip.compress(b"{" + b" " * size),
}


@pytest.mark.parametrize("kind", BOMBS)
async def test_what_a_body_inflates_to_has_the_limit_of_bodies(hub: Hub, store: str, kind: str) -> None:
    """100 MiB compressed to some 100 kB are refused at the same size as a plain body, without blocking the loop."""
    bomb = BOMBS[kind](100 * MIB)
    coding = "gzip" if kind == "object" else kind
    before = resident(hub.process.pid)
    async with no_standstill(hub.url):
        answers = await asyncio.gather(
            hub.admin.send("POST", f"/{store}", bomb, content_encoding=coding),
            hub.admin.send("PATCH", f"/{store}/{'0' * 24}", bomb, content_encoding=coding),
            hub.client().send("POST", "/auth", bomb[:10_000], content_encoding=coding),
        )
    assert [answer.status_code for answer in answers] == [413] * 3
    assert resident(hub.process.pid) - before < 60 * MIB


def repeated(size: int) -> bytes:
    """Return an entity and `size` blanks in zstd, where four bytes encode 128 KiB."""
    blocks = [b"[{}", *[b" "] * (size // 131_072), b"]"]
    packed = bytearray(b"\x28\xb5\x2f\xfd\x00\x68")
    for number, block in enumerate(blocks, 1):
        is_repeated = block == b" "
        length = 131_072 if is_repeated else len(block)
        packed += (length << 3 | is_repeated << 1 | (number == len(blocks))).to_bytes(3, "little") + block
    return bytes(packed)


async def test_two_kilobytes_that_are_sixty_megabytes_are_not_inflated_on_the_loop(tmp_path: Path) -> None:
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub") as hub:
        store = await hub.define()
        bomb = repeated(60 * MIB)
        assert len(bomb) < 2_048
        async with no_standstill(hub.url, LONGEST_TURN / 2):
            for _ in range(5):
                assert (await hub.admin.send("POST", f"/{store}", bomb, content_encoding="zstd")).status_code == 200


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "utf-8", "gzip;q=1", "\xe9"])
async def test_another_coding_is_refused_by_name(hub: Hub, store: str, coding: str) -> None:
    headers = {"Content-Encoding": coding.encode("latin-1")}
    answer = await hub.admin.request("POST", f"/{store}", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert answer.json()["tags"] == ["error_unsupported_media_type"]
    assert "Content-Encoding" in answer.json()["errors"]


BROKEN = {
    "not compressed": ("gzip", b'{"a":1}'),
    "empty": ("gzip", b""),
    "cut short": ("gzip", gzip.compress(b'{"a":1}')[:-4]),
    "a wrong sum": ("gzip", gzip.compress(b'{"a":1}')[:-8] + b"12345678"),
    "something behind it": ("gzip", gzip.compress(b'{"a":1}') + b"more"),
    "many members": ("gzip", gzip.compress(b"") * 5_000 + gzip.compress(b"{}")),
    "not deflate": ("deflate", b'{"a":1}'),
    "deflate cut short": ("deflate", zlib.compress(b'{"a":1}')[:-2]),
    "behind deflate": ("deflate", zlib.compress(b'{"a":1}') + b"more"),
    "not zstd": ("zstd", b'{"a":1}'),
    "zstd cut short": ("zstd", zstd.compress(b'{"a":1}')[:-3]),
    "zstd without its sum": ("zstd", summed(b'{"a":1}')[:-4]),
    "zstd without its last block": ("zstd", flushed(b'{"a":1}')),
    "many frames": ("zstd", zstd.compress(b"") * 5_000 + zstd.compress(b"{}")),
    "a frame too many": ("zstd", zstd.compress(b"") * MAX_ZSTD_FRAMES + zstd.compress(b"{}")),
    "a huge window": ("zstd", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"),
}


@pytest.mark.parametrize(("coding", "body"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_compressed_body_is_refused(hub: Hub, store: str, coding: str, body: bytes) -> None:
    answer = await hub.admin.send("POST", f"/{store}", body, content_encoding=coding)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"].keys() == {"body"}
