"""The servers that the hub is compared with, and equal requests for all: two Feathers applications and one of Eve.

All of them use the same MongoDB. `benchmarks/peers/` holds the applications; docs/performance.md describes their setup.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from benchmarks.data import READINGS, STATIONS, WRITES, Scene, body
from benchmarks.packages import npm_packages, python_packages
from benchmarks.processes import START_SECONDS, Cores, mongod_pid, on_cores
from benchmarks.watchers import ClientPool

APPLICATIONS: Final = Path(__file__).parent / "peers"
FILL_AT_ONCE: Final = 1_000
BULK: Final = 1_000
PREBUILT: Final = 2_000

LIVE_CLIENTS: Final = 100

READ, LIST, FILTERED, SORTED, CREATE, BULK_CREATE, LIVE = OPERATIONS = (
    "read by id",
    "list of 100",
    "100 of one station",
    "50 of one station, sorted by value",
    "durable create",
    "bulk create, 1 000 in a request",
    f"live delivery to {LIVE_CLIENTS} clients",
)

SORTED_INDEX: Final = ["station", "-value"]
"""Serves SORTED. The stores of all servers for reading have such an index, those for writing have not."""

Build = Callable[[str, str, bytes], bytes]
"""Makes the bytes of a request from method, path and content."""


@dataclass(slots=True)
class LiveDelivery:
    """The watchers of one server, all of which receive every change of READINGS.

    `subscription` is that of each watcher. `change(number)` returns the request that sets the value of an entity to
    this number. `next` is the first number that has not been written: a change to the value that an entity has would
    make no event.
    """

    pool: ClientPool
    subscription: str
    change: Callable[[int], bytes]
    next: int = 1_000


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server with entities. `requests` has, for each operation, the requests to send over and over. `live` is
    None for a server whose live delivery is not measured."""

    name: str
    address: tuple[str, int]
    pid: int
    database_pid: int | None
    requests: dict[str, Sequence[bytes]]
    live: LiveDelivery | None = None

    def has(self, operation: str) -> bool:
        return operation in self.requests or (operation == LIVE and self.live is not None)


def hub_subject(scene: Scene) -> Subject:
    """Return the hub, with requests of an ordinary user with a Bearer token."""
    lists = {
        LIST: [f"{READINGS}?limit=100"],
        FILTERED: [f"{READINGS}?station={s}&limit=100" for s in stations()],
        SORTED: [f"{READINGS}?station={s}&sort=-value&limit=50" for s in stations()],
    }
    requests = every_request(lambda m, path, content: scene.request(m, path, content=content), scene.ids, lists)
    hub, ids = scene.hub, scene.ids
    address = hub.host, hub.port

    def change(number: int) -> bytes:
        return scene.request("PATCH", f"{READINGS}/{ids[number % len(ids)]}", content=b'{"value":%d}' % number)

    pool = ClientPool(address, "40" + orjson.dumps({"token": scene.user}).decode())
    live = LiveDelivery(pool, orjson.dumps({"store": READINGS}).decode(), change)
    return Subject(f"hub, {hub.engine}", address, hub.pid, hub.database_pid, requests, live)


def every_request(build: Build, ids: Sequence[str], lists: dict[str, list[str]]) -> dict[str, Sequence[bytes]]:
    """Return the requests by operation. `lists`: the paths of the lists, which differ between servers."""
    bodies = [body(number) for number in range(PREBUILT)]
    arrays = [bodies[start : start + BULK] for start in range(0, PREBUILT, BULK)]
    return {
        READ: [build("GET", f"{READINGS}/{id}", b"") for id in ids[:PREBUILT]],
        **{name: [build("GET", path, b"") for path in paths] for name, paths in lists.items()},
        CREATE: [build("POST", WRITES, orjson.dumps(each)) for each in bodies],
        BULK_CREATE: [build("POST", WRITES, orjson.dumps(array)) for array in arrays],
    }


def stations() -> list[str]:
    return [f"station-{number:04}" for number in range(STATIONS)]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with.

    `command` returns its command line for the URL of its database. The server prints its port and, if it authenticates
    callers, a token. `ids_of` reads the ids from its answer to the creation of an array.
    """

    name: str
    command: Callable[[str], list[str]]
    lists: dict[str, list[str]]
    ids_of: Callable[[Any], list[str]]


def feathers(name: str, script: str) -> Peer:
    """Return the Feathers application of this script."""

    def command(database_url: str) -> list[str]:
        # Node looks for packages beside the script, so the script is copied to the packages.
        source = APPLICATIONS / "feathers"
        return ["node", str(shutil.copy(source / script, npm_packages(source))), database_url]

    lists = {
        LIST: [f"{READINGS}?$limit=100&$sort[_id]=1"],
        FILTERED: [f"{READINGS}?station={s}&$limit=100&$sort[_id]=1" for s in stations()],
        SORTED: [f"{READINGS}?station={s}&$limit=50&$sort[value]=-1" for s in stations()],
    }
    return Peer(name, command, lists, ids_of=lambda answer: [entity["_id"] for entity in answer])


def eve_command(database_url: str) -> list[str]:
    folder = APPLICATIONS / "eve"
    return [str(python_packages(folder / "constraints.txt")), str(folder / "server.py"), database_url]


SIGNED_IN: Final = feathers("Feathers 5, signed in", "signed_in.mjs")
FEATHERS: Final = feathers("Feathers 5, open", "server.mjs")
EVE: Final = Peer(
    name="Eve 2.3",
    command=eve_command,
    lists={
        LIST: [f"{READINGS}?max_results=100&sort=_id"],
        FILTERED: [f"{READINGS}?where=%7B%22station%22:%22{s}%22%7D&max_results=100&sort=_id" for s in stations()],
        SORTED: [f"{READINGS}?where=%7B%22station%22:%22{s}%22%7D&max_results=50&sort=-value" for s in stations()],
    },
    ids_of=lambda answer: [entity["_id"] for entity in answer["_items"]],
)


@contextmanager
def running_peer(peer: Peer, server_url: str, cores: Cores, entities: int) -> Iterator[Subject]:
    """Run a peer with `entities` entities on the hub's core, with its own database on the MongoDB at `server_url`."""
    url = urlsplit(server_url)._replace(path=f"/peer_bench_{secrets.token_hex(6)}").geturl()
    with on_cores(cores.hub):
        process = subprocess.Popen(peer.command(url), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port, _, token = process.stdout.readline().strip().partition(" ")
        if not port.isdigit():
            raise RuntimeError(f"{peer.name} did not start: see above")
        address = ("127.0.0.1", int(port))
        headers = {"authorization": f"Bearer {token}"} if token else {}
        ids = fill(peer, address, headers, entities)
        requests = every_request(lambda m, p, c: plain_request(address, headers, m, p, c), ids, peer.lists)
        yield Subject(peer.name, address, process.pid, mongod_pid(url), requests)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        process.stdout.close()


def plain_request(address: tuple[str, int], headers: dict[str, str], method: str, path: str, content: bytes) -> bytes:
    """Return the bytes of a request like the hub's, with these headers."""
    head = f"{method} /{path} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head += "accept: application/json\r\nuser-agent: hub-benchmark\r\n"
    if content:
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


def fill(peer: Peer, address: tuple[str, int], headers: dict[str, str], entities: int) -> list[str]:
    """Create the entities and return their ids."""
    ids: list[str] = []
    url = f"http://{address[0]}:{address[1]}"
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as http:
        for start in range(0, entities, FILL_AT_ONCE):
            bodies = [body(number) for number in range(start, min(start + FILL_AT_ONCE, entities))]
            answer = http.post(f"/{READINGS}", json=bodies)
            answer.raise_for_status()
            ids += peer.ids_of(answer.json())
    return ids
