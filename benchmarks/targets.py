"""The two servers that are compared, behind one protocol: a hub, and a Socket.IO server of Node.

HTTP requests tell both servers what to deliver, and the same clients watch them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

import httpx
import orjson

from benchmarks.data import READINGS, STATIONS, WRITES, Scene, accounts, body, client, made
from benchmarks.packages import npm_packages
from benchmarks.processes import Cores, Hub, running_server
from benchmarks.watchers import ClientPool

Audience = Literal["all", "slice", "nobody"]
"""The recipients of a write: all watchers, those of one slice, or none."""

SOURCES: Final = Path(__file__).parent / "node"
EVERYTHING: Final = orjson.dumps({"store": READINGS}).decode()


def slice_view(number: int) -> str:
    """Return a subscription (JSON) to one of the slices: the entities of one station."""
    return orjson.dumps({"store": READINGS, "filter": {"station": body(number)["station"]}}).decode()


def entity_view(id: str) -> str:
    """Return a subscription (JSON) to one entity."""
    return orjson.dumps({"store": READINGS, "filter": {"_id": id}}).decode()


class Target(Protocol):
    """A server under measurement and its watchers. A write of `number` concerns slice `number % slices`."""

    name: str
    pid: int
    pool: ClientPool
    slices: int

    def write(self, number: int, audience: Audience) -> bytes:
        """Return the request that makes an event with this number."""

    def tidy(self) -> None:
        """Free garbage before memory is read."""


class HubTarget:
    """A write changes one of 500 entities that an ordinary user owns.

    Writes to nobody go to a store without watchers.
    """

    name = "hub"

    def __init__(self, hub: Hub) -> None:
        self.pid = hub.pid
        user, admin = accounts(hub)
        with client(hub, user) as http:
            self.ids = {store: _created(http, store) for store in (READINGS, WRITES)}
        self.scene = Scene(hub, user, admin, STATIONS, self.ids[READINGS])
        self.pool = ClientPool((hub.host, hub.port), "40" + orjson.dumps({"token": user}).decode())
        self.slices = STATIONS

    def write(self, number: int, audience: Audience) -> bytes:
        store = WRITES if audience == "nobody" else READINGS
        path = f"{store}/{self.ids[store][number % self.slices]}"
        return self.scene.request("PATCH", path, content=b'{"value":%d}' % number)

    def tidy(self) -> None:
        """Do nothing: memory is freed when it is no longer used."""


def _created(http: httpx.Client, store: str) -> list[str]:
    """Create an entity for each station, and return their ids."""
    entities = made(http, store, [body(number) for number in range(STATIONS)])["entities"]
    return [entity["_id"] for entity in entities]


class NodeTarget:
    """A write is a POST of the whole event, in the form of the hub's last event."""

    name = "node"

    def __init__(self, pid: int, host: str, port: int, model: ClientPool) -> None:
        self.pid = pid
        self.pool = ClientPool((host, port), "40")
        self.slices = STATIONS
        self._model = model

    def write(self, number: int, audience: Audience) -> bytes:
        event = orjson.loads(self._model.sample.removeprefix(b"42") or b'["change",{"entity":{}}]')[1]
        event["entity"] |= {"value": number, "station": body(number % self.slices)["station"]}
        path = {"all": "emit", "slice": "tell", "nobody": "quiet"}[audience]
        return self._request(path, orjson.dumps(event))

    def _request(self, path: str, content: bytes) -> bytes:
        host, port = self.pool.address
        head = f"POST /{path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content

    def tidy(self) -> None:
        """Collect garbage, which V8 otherwise keeps for long."""
        host, port = self.pool.address
        httpx.post(f"http://{host}:{port}/gc", content=b"0", timeout=60, trust_env=False).raise_for_status()


class Node:
    """An installation of the packages in the lock file.

    Raises OSError or CalledProcessError if there is no Node, or no way to install them.
    """

    def __init__(self) -> None:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.packages = npm_packages(SOURCES) / "node_modules"
        package = orjson.loads((self.packages / "socket.io" / "package.json").read_bytes())
        self.versions = f"socket.io {package['version']} on Node {version}"

    @contextmanager
    def running(self, cores: Cores, model: ClientPool) -> Iterator[NodeTarget]:
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
            folder = Path(name)
            shutil.copy(SOURCES / "fanout.mjs", folder)
            (folder / "node_modules").symlink_to(self.packages)  # Node looks for packages beside the script
            command = ["node", "--expose-gc", "fanout.mjs"]
            with running_server(command, folder, os.environ, cores) as (pid, host, port, _):
                target = NodeTarget(pid, host, port, model)
                yield target
                target.pool.leave()
