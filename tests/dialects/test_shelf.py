"""A further dialect uses only the kit: it has its own key, errors, pages, uploads and document.

All answers below its prefix have its format, even those of the server and the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from tests.dialects import serving, shelf
from tests.platform.raw import token_of, wire
from tests.support.engines import sqlite_database
from tests.support.hub import PATIENCE, Client, Hub, HubProcess
from tests.support.imports import imported
from tests.support.program import PYTHON, ROOT

pytestmark = pytest.mark.engine("sqlite")  # the kit is the same on both engines

BOOKS = "/shelf/v2/books"
PROGRAM = (PYTHON, serving.__file__, str(ROOT))
MOST = 40
SETTINGS: dict[str, object] = {
    "max_head_bytes": 8_192,
    "head_timeout": 1,
    "allowed_hosts": "127.0.0.1,hub",
    "root_path": "/outer",
    "max_connections_per_address": MOST,
    "trusted_proxies": "10.0.0.1",
}


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("shelf")
    database = sqlite_database(folder)
    process = await asyncio.to_thread(HubProcess, database, folder / "data", SETTINGS, PROGRAM)
    hub = Hub(process, database)
    try:
        await hub.open()
        await hub.admin.make("stores", {"name": "books"})
        yield hub
    finally:
        await hub.close()
        await asyncio.to_thread(process.stop)


@pytest.fixture
async def reader(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key."""
    headers = {"X-Shelf-Key": token_of(hub.admin.http.headers)}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, trust_env=False, timeout=PATIENCE) as client:
        yield client


def key_of(client: Client) -> str:
    return token_of(client.http.headers)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check an error answer of the shelf; return its problem document."""
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["problem"]
    return found


async def add(reader: httpx.AsyncClient, title: str, cover: bytes = b"picture", **more: str) -> httpx.Response:
    return await reader.post(BOOKS, data={"title": title} | more, files={"cover": ("a.png", cover)})


def test_it_stands_on_the_kit_alone() -> None:
    assert not [name for name in imported(Path(shelf.__file__)) if name.startswith("hub.dialects.platform")]


async def test_an_upload_is_an_entity_of_the_platform_too(hub: Hub, reader: httpx.AsyncClient) -> None:
    answer = await add(reader, "Emma", b"x" * 150_000)
    assert answer.status_code == 201, answer.text
    entity = await hub.admin.see("books", answer.json()["_id"])
    assert (entity["title"], entity["cover"], entity["size"]) == ("Emma", "a.png", 150_000)


async def test_pages_have_their_own_parameters(reader: httpx.AsyncClient) -> None:
    before = len((await reader.get(BOOKS, params={"size": 100})).json()["books"])
    for number in range(3):
        assert (await add(reader, f"Volume {number}")).status_code == 201
    first = (await reader.get(BOOKS, params={"page": 1, "size": before + 2})).json()
    second = (await reader.get(BOOKS, params={"page": 2, "size": before + 2})).json()
    assert (len(first["books"]), len(second["books"]), second["page"]) == (before + 2, 1, 2)
    assert problem(await reader.get(BOOKS, params={"page": "0"}), 400)["fields"] == {
        "page": ["must be a whole number from 1"]
    }


async def test_its_key_counts_and_no_other_credential(hub: Hub) -> None:
    token = token_of(hub.admin.http.headers)
    async with httpx.AsyncClient(base_url=hub.url, trust_env=False, timeout=PATIENCE) as client:
        problem(await client.get(BOOKS), 401)
        problem(await client.get(BOOKS, headers={"Authorization": f"Bearer {token}"}), 401)
        problem(await client.get(BOOKS, headers={"X-Shelf-Key": "wrong"}), 401)
        assert (await client.get(BOOKS, headers={"X-Shelf-Key": token})).status_code == 200
        assert (await client.get("/api/v1/books", headers={"X-Shelf-Key": token})).json()["code"] == "401"


@pytest.mark.parametrize(
    ("more", "cover", "status"),
    [
        ({"a": "1", "b": "2", "c": "3"}, b"x", 400),
        ({"a": "x" * 1_001}, b"x", 400),
        ({}, b"x" * 200_001, 413),
    ],
    ids=["too many fields", "a long field", "too many bytes"],
)
async def test_an_upload_beyond_its_bounds(
    reader: httpx.AsyncClient, more: dict[str, str], cover: bytes, status: int
) -> None:
    problem(await add(reader, "Emma", cover, **more), status)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=x; charset=idna",
    ],
)
async def test_what_is_no_form(reader: httpx.AsyncClient, kind: str) -> None:
    problem(await reader.post(BOOKS, content=b"nonsense", headers={"Content-Type": kind}), 400)


async def test_errors_outside_its_handlers_have_its_shape(hub: Hub, reader: httpx.AsyncClient) -> None:
    assert problem(await reader.get("/shelf/v2/nowhere"), 404)["where"] == "/shelf/v2/nowhere"
    answer = await reader.put(BOOKS)
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    problem(await reader.get(BOOKS, headers={"Host": "elsewhere"}), 421)
    problem(await reader.get(BOOKS + "%0Ax"), 404)
    problem(await reader.get(BOOKS, headers={"Origin": "no origin"}), 403)


async def test_paths_of_nobody_have_the_platforms_shape(reader: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/shelf/v1/books", "/api/v1/nowhere/at/all"):
        assert (await reader.get(path)).json()["code"] in ("401", "404")


@pytest.mark.parametrize("path", ["/shelf/v2/books", "/outer/shelf/v2/books", "/sh%65lf/v2/books"])
@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b" HTTP/1.1\r\nHost: hub\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n", 431),
        (b" HTTP/1.1\r\nHost: hub\r\nX-", 408),
        (b" HTTP/1.1\r\nHost: hub\r\nHost: hub\r\n\r\n", 400),
        (b" HTTP/1.1\r\nHost: hub\r\nExpect: tea\r\n\r\n", 417),
    ],
    ids=["431", "408", "400", "417"],
)
async def test_what_the_server_refuses_has_its_shape(hub: Hub, path: str, rest: bytes, status: int) -> None:
    """The application never sees these requests."""
    async with wire(hub.process.port) as connection:
        await connection.send(b"GET " + path.encode() + rest)
        answer = await connection.answer()
        assert (answer.status, answer.json()["problem"]["where"]) == (status, BOOKS)


async def test_the_server_refuses_in_the_platforms_shape_elsewhere(hub: Hub) -> None:
    for target in (b"/api/v1/books", b"/", b"*"):
        async with wire(hub.process.port) as connection:
            await connection.send(b"GET " + target + b" HTTP/1.1\r\nHost: hub\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n")
            assert (await connection.answer()).json()["code"] == "431"


async def test_a_refused_connection_has_its_shape(hub: Hub) -> None:
    """Only the first line of the request is parsed."""
    async with AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(wire(hub.process.port))
        connection = await stack.enter_async_context(wire(hub.process.port))
        await connection.send(b"GET /outer/shelf/v2/books?page=1 HTTP/1.1\r\nHost: hub\r\n\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.json()["problem"]["where"]) == (503, BOOKS)


FORM = b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\n%b\r\n' + (
    b'--x\r\nContent-Disposition: form-data; name="cover"; filename="a.png"\r\n\r\npicture\r\n--x--\r\n'
)


async def slow_upload(hub: Hub, key: str, title: str, meanwhile: Callable[[], Awaitable[Any]]) -> int:
    """Upload a form whose second part is sent after `meanwhile`; return the status."""
    form = FORM % title.encode()
    head = b"POST %b HTTP/1.1\r\nHost: hub\r\nX-Shelf-Key: %b\r\nContent-Length: %d\r\n" % (
        BOOKS.encode(), key.encode(), len(form)
    )  # fmt: skip
    async with wire(hub.process.port) as connection:
        # The interim response means that the call was admitted and its handler waits for the body.
        await connection.send(head + b"Content-Type: multipart/form-data; boundary=x\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.head())[0] == 100
        await connection.send(form[:50])
        await meanwhile()
        await connection.send(form[50:])
        return (await connection.answer()).status


async def test_an_upload_of_a_key_that_is_revoked_meanwhile_adds_nothing(hub: Hub) -> None:
    user = await hub.as_user()
    [token] = await hub.admin.list("tokens", {"user": user.id})
    status = await slow_upload(hub, key_of(user), "Revoked", lambda: hub.admin.delete(f"/tokens/{token['_id']}"))
    assert status == 401
    assert not await hub.admin.list("books", {"title": "Revoked"})


async def test_an_upload_of_somebody_who_changes_meanwhile_is_judged_anew(hub: Hub) -> None:
    user, group = await hub.as_user(), await hub.group()
    move = {"group": group}
    assert await slow_upload(hub, key_of(user), "Moved", lambda: hub.admin.patch(f"/users/{user.id}", move)) == 201
    [book] = await hub.admin.list("books", {"title": "Moved"})
    assert book["group"] == group


async def test_its_document_is_valid(reader: httpx.AsyncClient) -> None:
    document = (await reader.get("/shelf/v2/openapi.json", headers={"X-Shelf-Key": ""})).json()
    validate(document)
    assert set(document["paths"]) == {BOOKS}
