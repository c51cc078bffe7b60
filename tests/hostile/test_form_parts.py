"""Multipart forms whose parts take long to parse, and files in them that stay in memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.platform.raw import request, token_of, wire
from tests.support.engines import Database
from tests.support.hub import Hub, eventually, running_hub
from tests.support.standstill import no_standstill

pytestmark = pytest.mark.engine("sqlite")  # the attack is on the parser, not on the engine

FORM = "Content-Type: multipart/form-data; boundary=b"
OPTIONS = ";" * 4_050
PART = f"--b\r\nContent-Disposition: form-data; name=a{OPTIONS}\r\n\r\n\r\n"


def form(*parts: str) -> bytes:
    return "".join([*parts, "--b--\r\n"]).encode()


async def test_parts_with_thousands_of_options(hub: Hub) -> None:
    """They are refused before they are parsed: each would take 3 ms."""
    store = await hub.define(fields=[{"id": "papers", "type": "File"}])
    user = await hub.as_user()
    entity = await user.make(store, {})
    path, token = f"/{store}/{entity['_id']}/files/papers", token_of(user.http.headers)
    many = form(*[PART] * 200)
    async with no_standstill(hub.url):
        async with wire(hub.process.port) as connection:
            await connection.send(request("POST", path, token, FORM, f"Content-Length: {len(many)}") + many)
            answer = await connection.answer()
            assert (answer.status, [*answer.json()["errors"]]) == (400, ["body"])
        async with wire(hub.process.port) as connection:
            one = form('--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n')
            await connection.send(request("POST", path, token, FORM + OPTIONS, f"Content-Length: {len(one)}") + one)
            answer = await connection.answer()
            assert (answer.status, [*answer.json()["errors"]]) == (400, ["Content-Type"])


async def test_small_files_of_unfinished_forms_are_counted(database: Database, tmp_path: Path) -> None:
    """They stay in memory until there are more bytes of them."""
    part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + "x" * 60_000 + "\r\n"
    async with running_hub(database, tmp_path / "hub", max_buffered_bytes=1_200_000) as hub:
        store = await hub.define(fields=[{"id": "papers", "type": "File"}])
        user = await hub.as_user()
        entity = await user.make(store, {})
        head = request("POST", f"/{store}/{entity['_id']}/files/papers", token_of(user.http.headers), FORM)
        head = head.replace(b"\r\n\r\n", b"\r\nContent-Length: 70000\r\n\r\n")
        async with AsyncExitStack() as stack:
            for _ in range(15):
                connection = await stack.enter_async_context(wire(hub.process.port))
                await connection.send(head + part.encode())

            async def is_refused() -> bool:
                async with wire(hub.process.port) as further:
                    body = b'{"text":"%s"}' % (b"x" * 400_000)
                    sent = request("POST", f"/{store}", token_of(user.http.headers), f"Content-Length: {len(body)}")
                    await further.send(sent + body)
                    answer = await further.answer()
                    return (answer.status, [*answer.json()["errors"]]) == (503, ["body"])

            await eventually(is_refused)
