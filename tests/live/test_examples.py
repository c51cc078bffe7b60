"""The example clients over a restart of the hub: they print every change once, in order, and stop when refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from realtime.socketio import SocketIOServer
from tests.support.engines import sqlite_database
from tests.support.hub import PATIENCE, entity_of, running_hub
from tests.support.live import token_of
from tests.support.ports import free_port
from tests.wire.serving import serving

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"


@dataclass
class Example:
    """A running example; `lines` is its output."""

    process: asyncio.subprocess.Process
    lines: list[list[str]] = field(default_factory=list)

    async def until(self, *start: str) -> list[str]:
        """Read until a line begins with these words; return that line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, self.lines
                self.lines.append(line.rstrip("\n").split(" ", 3))
                if self.lines[-1][: len(start)] == [*start]:
                    return self.lines[-1]

    def changes(self) -> list[tuple[str, Any]]:
        """Return each change as operation and number, or operation and id for a removal."""
        found = [line for line in self.lines if line[0] in ("insert", "update", "remove")]
        return [(op, id if op == "remove" else json.loads(entity)["n"]) for op, _, id, entity in found]


@asynccontextmanager
async def example(name: str, packages: Path, folder: Path, *arguments: str) -> AsyncIterator[Example]:
    """Run a client of `examples/` as a separate process."""
    if name == "client.mjs":
        library = folder / "node_modules" / "socket.io-client"
        library.parent.mkdir(parents=True, exist_ok=True)
        if not library.exists():
            library.symlink_to(packages / "node_modules" / "socket.io-client-4")
        (folder / name).write_text((EXAMPLES / name).read_text())
        command = ["node", str(folder / name)]
    else:
        command = [sys.executable, str(EXAMPLES / name)]
    environment = {**os.environ, "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "0.1", "WEBSOCKETS_BACKOFF_MIN_DELAY": "0.1"}
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    try:
        yield Example(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.engine("sqlite")
@pytest.mark.timeout(400)  # the first time the packages are installed
@pytest.mark.parametrize("name", ["client.mjs", "client.py"])
async def test_an_example_goes_on_after_a_restart(packages: Path, tmp_path: Path, name: str) -> None:
    """It also prints changes written while it was away. It takes a new snapshot when its store is redefined, and stops
    when its token is revoked."""
    database, folder = sqlite_database(tmp_path), tmp_path / "hub"
    port = free_port()
    async with running_hub(database, folder, port=port) as hub:
        store = await hub.define(open=True)
        somebody = await hub.as_user()
        old = await somebody.make(store, n=0)
        token = token_of(somebody)
        async with example(name, packages, tmp_path, hub.url, token, store) as client:
            _, _, listed = (" ".join(await client.until("snapshot", store))).split(" ", 2)
            assert json.loads(listed) == [old]
            await somebody.make(store, n=1)
            await client.until("insert", store)
            await asyncio.to_thread(hub.process.stop, signal.SIGTERM)
            await client.until("notice", "shutdown")
            async with running_hub(database, folder, port=port) as again:
                admin, somebody = again.admin, again.client(token)
                made = await somebody.make(store, n=2)
                await client.until("insert", store, made["_id"])
                await somebody.patch(f"/{store}/{made['_id']}", {"n": 3, "text": "é😀 مرحبا"})
                await somebody.delete(f"/{store}/{old['_id']}")
                await client.until("remove", store)
                assert client.changes() == [("insert", 1), ("insert", 2), ("update", 3), ("remove", old["_id"])]
                [definition] = await admin.list("stores", {"name": store})
                fields = [{"id": "note", "type": "Text"}]
                entity_of(await admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))
                await client.until("ended", store)
                await client.until("snapshot", store)
                [known] = await admin.list("tokens", {"user": made["owner"]})
                entity_of(await admin.delete(f"/tokens/{known['_id']}"))
                await client.until("notice", "revoked")
                await client.until("refused", "Unauthorized")
                assert await client.process.wait() == 1


@pytest.mark.timeout(400)  # the first time the packages are installed
@pytest.mark.parametrize("name", ["client.mjs", "client.py"])
async def test_an_example_ignores_events_of_unknown_channels(packages: Path, tmp_path: Path, name: str) -> None:
    """For instance of a subscription that has ended meanwhile."""
    server = SocketIOServer()

    async def subscribe(sid: str, request: dict[str, Any]) -> dict[str, Any]:
        events.append(asyncio.create_task(send(sid)))  # it begins after the answer
        return {"ok": True, "channel": "known", "position": "1"}

    async def send(sid: str) -> None:
        change = {"op": "insert", "store": "notes", "_rev": 1, "time": 1}
        await server.emit("change", {**change, "channel": "old", "_id": "a", "entity": {"n": 1}, "position": "2"}, sid)
        await server.emit("ended", {"channel": "old", "error": {"code": "410", "message": "Gone"}}, sid)
        await server.emit(
            "change", {**change, "channel": "known", "_id": "b", "entity": {"n": 2}, "position": "3"}, sid
        )

    events: list[asyncio.Task[None]] = []
    server.on("subscribe", subscribe)
    async with serving(server.eio, "/socket.io/") as served:
        url = f"http://127.0.0.1:{served.port}"
        async with example(name, packages, tmp_path, url, "token", "notes") as client:
            await client.until("insert", "notes", "b")
            assert client.changes() == [("insert", 2)]
            assert len(events) == 1
