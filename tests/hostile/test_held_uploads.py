"""Uploads that are on their way do not use up the room for the bodies of others."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from tests.platform.raw import request, token_of, wire
from tests.support.engines import Database
from tests.support.hub import Client, running_hub

ROOM = 8_000_000
"""Bytes of bodies that the hub holds."""
UPLOADS = 6
BEGIN = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
CONTENT = b"x" * 3_000_000
END = b"\r\n--b--\r\n"


def head(user: Client, path: str) -> bytes:
    length = len(BEGIN) + len(CONTENT) + len(END)
    headers = (f"Content-Length: {length}", "Content-Type: multipart/form-data; boundary=b")
    return request("POST", path, token_of(user.http.headers), *headers)


async def test_files_that_arrive_are_not_held(database: Database, tmp_path: Path) -> None:
    """They go to the disk: all together have more bytes than the hub holds."""
    async with running_hub(database, tmp_path / "hub", max_buffered_bytes=ROOM) as hub, AsyncExitStack() as stack:
        store = await hub.define(
            fields=[{"id": "papers", "type": "File", "many": True}, {"id": "note", "type": "Text"}]
        )
        user = await hub.as_user()
        entity = await user.make(store, {})
        connections = [await stack.enter_async_context(wire(hub.process.port)) for _ in range(UPLOADS)]
        for connection in connections:
            await connection.send(head(user, f"/{store}/{entity['_id']}/files/papers") + BEGIN + CONTENT)
        changed = await user.patch(f"/{store}/{entity['_id']}", {"note": "x"})
        assert changed.status_code == 200, changed.text
        for connection in connections:
            await connection.send(END)
        answers = [await connection.answer() for connection in connections]
        assert [answer.status for answer in answers] == [200] * UPLOADS
        assert len((await user.see(store, entity["_id"]))["papers"]) == UPLOADS
