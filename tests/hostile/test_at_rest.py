"""The files of a hub contain no password, and no plain digest that would allow guessing one."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from pymongo import AsyncMongoClient

from tests.support import mongod
from tests.support.engines import Database, mongo_database, sqlite_database
from tests.support.hub import ADMIN_PASSWORD, Hub, running_hub, unique

DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2b")


def traces(password: str, bodies: list[bytes]) -> Iterator[bytes]:
    """Yield the password, its plain digests and those of the request bodies with it, in the usual encodings."""
    yield password.encode()
    for secret in (password.encode(), *bodies):
        for name in DIGESTS:
            digest = hashlib.new(name, secret).digest()
            yield digest
            yield digest.hex().encode()
            yield base64.b64encode(digest).rstrip(b"=")
            yield base64.urlsafe_b64encode(digest).rstrip(b"=")


async def use_a_password(hub: Hub) -> tuple[list[str], list[bytes]]:
    """Send passwords in every possible way; return the passwords and the request bodies with them."""
    passwords = [f"first {secrets.token_hex(8)}", f"second {secrets.token_hex(8)}", f"wrong {secrets.token_hex(8)}"]
    login = unique("user")
    created = orjson.dumps({"login": login, "password": passwords[0]})
    for _ in range(2):
        key = {"idempotency_key": "made-once", "content_type": "application/json"}
        answer = await hub.admin.send("POST", "/users", created, **key)
        assert answer.status_code == 200, answer.text
    session = await hub.as_session(login, passwords[0])
    await hub.token_of(login, passwords[0])
    wrong = orjson.dumps({"login": login, "password": passwords[2]})
    assert (await hub.client().send("POST", "/auth", wrong)).status_code == 401
    await hub.client().send("POST", "/auth/token", orjson.dumps({"login": "nobody", "password": passwords[2]}))
    change = orjson.dumps({"password": passwords[1], "current_password": passwords[0]})
    answer = await session.send("PATCH", f"/users/{session.id}", change)
    assert answer.status_code == 200, answer.text
    return [*passwords, ADMIN_PASSWORD], [created, wrong, change]


def search(content: bytes, passwords: list[str], bodies: list[bytes], place: str) -> None:
    for password in passwords:
        for trace in traces(password, bodies):
            assert trace not in content, f"{trace!r} of {password.split()[0]} is in {place}"


ZEROS = re.compile(rb"\0{65,}")
"""More zeros than a trace has. MongoDB's journal is 300 MB of them at first."""


def search_files(folder: Path, passwords: list[str], bodies: list[bytes]) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        search(ZEROS.sub(bytes(64), path.read_bytes()), passwords, bodies, path.name)


@pytest.mark.engine("sqlite")
async def test_the_sqlite_file_and_its_folder_hold_no_password(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    async with running_hub(database, tmp_path / "hub") as hub:
        passwords, bodies = await use_a_password(hub)
        search_files(tmp_path, passwords, bodies)  # the write-ahead log too
    search_files(tmp_path, passwords, bodies)


@pytest.mark.engine("mongodb")
async def test_the_mongodb_folder_and_every_document_hold_no_password(tmp_path: Path) -> None:
    with mongod.running("--data", str(tmp_path / "mongod")) as server:
        database = mongo_database(server.url)
        async with running_hub(database, tmp_path / "hub") as hub:
            passwords, bodies = await use_a_password(hub)
        await search_documents(database, passwords, bodies)
    search_files(tmp_path, passwords, bodies)


async def search_documents(database: Database, passwords: list[str], bodies: list[bytes]) -> None:
    """Search each document as the server returns it, the oplog's too, because files may be compressed."""
    async with AsyncMongoClient[dict[str, object]](database.location) as client:
        collections = [client.local["oplog.rs"]]
        ours = client.get_default_database()
        collections += [ours[name] for name in await ours.list_collection_names()]
        assert len(collections) > 5
        for collection in collections:
            async for document in collection.find({}):
                search(repr(document).encode(), passwords, bodies, collection.name)
