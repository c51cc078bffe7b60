"""PocketBase: its program from PyPI, the collections of `benchmarks/peers/pocketbase`, and the requests to it.

PocketBase has its own SQLite. Rules of its collections show a user only its own records. docs/performance.md describes
the setup.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.data import READINGS, WRITES, body
from benchmarks.event_streams import EventStreamPool
from benchmarks.packages import python_packages
from benchmarks.peers import (
    APPLICATIONS,
    BULK,
    BULK_CREATE,
    CREATE,
    FILL_AT_ONCE,
    FILTERED,
    LIST,
    PREBUILT,
    READ,
    SORTED,
    LiveDelivery,
    Subject,
    plain_request,
    stations,
)
from benchmarks.processes import Cores, running_server

SOURCES: Final = APPLICATIONS / "pocketbase"
NAME: Final = "PocketBase 0.40"
USER, VISITOR = "sensor@example.org", "visitor@example.org"
"""The users that the migration makes: the owner of all records, and another."""

CONNECTING: Final = 5
"""Times to connect again to a server that has just announced itself."""


def records(store: str) -> str:
    return f"api/collections/{store}/records"


def creations(bodies: Sequence[dict[str, Any]], store: str) -> dict[str, Any]:
    """Return the body of a request to the batch API that creates a record of each body."""
    return {"requests": [{"method": "POST", "url": f"/{records(store)}", "body": each} for each in bodies]}


@dataclass(frozen=True, slots=True)
class Account:
    """A signed-in user of a running PocketBase."""

    address: tuple[str, int]
    id: str
    token: str

    @classmethod
    def sign_in(cls, address: tuple[str, int], email: str, password: str) -> Account:
        with _client(address) as http:
            given = {"identity": email, "password": password}
            answer = http.post("api/collections/users/auth-with-password", json=given).raise_for_status().json()
        return cls(address, answer["record"]["id"], answer["token"])

    def client(self) -> httpx.Client:
        return _client(self.address, self.headers)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def body(self, number: int) -> dict[str, Any]:
        """Return one record as a client sends it."""
        return {**body(number), "owner": self.id}

    def request(self, method: str, path: str, content: bytes = b"") -> bytes:
        return plain_request(self.address, self.headers, method, path, content)


def _client(address: tuple[str, int], headers: dict[str, str] | None = None) -> httpx.Client:
    transport = httpx.HTTPTransport(retries=CONNECTING)
    return httpx.Client(
        base_url=f"http://{address[0]}:{address[1]}", headers=headers, timeout=120, trust_env=False, transport=transport
    )


@contextmanager
def running_pocketbase(cores: Cores, entities: int) -> Iterator[tuple[Subject, Account]]:
    """Run PocketBase on the hub's core, with `entities` records of a user. Yield it, and another user.

    Raises OSError if the package cannot be installed.
    """
    password = secrets.token_urlsafe(16)
    program = python_packages(SOURCES / "constraints.txt").with_name("pocketbase")
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        folder = Path(name)
        command = [str(program), "serve", f"--http=127.0.0.1:{_free_port()}"]
        command += [f"--dir={folder / 'data'}", f"--migrationsDir={SOURCES / 'migrations'}"]
        environment = os.environ | {"BENCHMARK_PASSWORD": password}
        with running_server(command, folder, environment, cores) as (pid, host, port, _):
            user, visitor = (Account.sign_in((host, port), email, password) for email in (USER, VISITOR))
            with user.client() as http:
                ids = _fill(http, user, entities)
                live = _live(http, user, ids)
                yield Subject(NAME, user.address, pid, None, _requests(user, ids), live), visitor
                live.pool.leave()


def _free_port() -> int:
    """Return a port that is free now: PocketBase does not say which one it chooses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _fill(http: httpx.Client, user: Account, entities: int) -> list[str]:
    """Create the records and return their ids."""
    ids: list[str] = []
    for start in range(0, entities, FILL_AT_ONCE):
        bodies = [user.body(number) for number in range(start, min(start + FILL_AT_ONCE, entities))]
        answer = http.post("api/batch", json=creations(bodies, READINGS)).raise_for_status()
        ids += [each["body"]["id"] for each in answer.json()]
    return ids


def _requests(user: Account, ids: Sequence[str]) -> dict[str, Sequence[bytes]]:
    bodies = [user.body(number) for number in range(PREBUILT)]
    arrays = [bodies[start : start + BULK] for start in range(0, PREBUILT, BULK)]
    first, of_station = f"{records(READINGS)}?skipTotal=1", "filter=station%3D%22{}%22"
    filtered = [f"{first}&perPage=100&sort=@rowid&{of_station.format(s)}" for s in stations()]
    ordered = [f"{first}&perPage=50&sort=-value&{of_station.format(s)}" for s in stations()]
    return {
        READ: [user.request("GET", f"{records(READINGS)}/{id}") for id in ids[:PREBUILT]],
        LIST: [user.request("GET", f"{first}&perPage=100&sort=@rowid")],
        FILTERED: [user.request("GET", path) for path in filtered],
        SORTED: [user.request("GET", path) for path in ordered],
        CREATE: [user.request("POST", records(WRITES), orjson.dumps(each)) for each in bodies],
        BULK_CREATE: [user.request("POST", "api/batch", orjson.dumps(creations(a, WRITES))) for a in arrays],
    }


def _live(http: httpx.Client, user: Account, ids: Sequence[str]) -> LiveDelivery:
    def subscribe(client: str, topics: Sequence[str]) -> None:
        http.post("api/realtime", json={"clientId": client, "subscriptions": topics}).raise_for_status()

    def change(number: int) -> bytes:
        return user.request("PATCH", f"{records(READINGS)}/{ids[number % len(ids)]}", b'{"value":%d}' % number)

    return LiveDelivery(EventStreamPool(user.address, subscribe), f"{READINGS}/*", change)
