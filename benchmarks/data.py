"""The data of the benchmarks: stores with indexes, an ordinary user in a group, and entities of about 300 bytes."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from benchmarks.processes import PASSWORD, Hub

READINGS, WRITES = "readings", "writes"
"""The store for reads and the store for writes, so that writes do not change the data that is read."""

STATIONS: Final = 500
LOAD_AT_ONCE: Final = 5_000
SAMPLED_IDS: Final = 10_000

FIELDS: Final[list[dict[str, object]]] = [
    {"id": "station", "type": "Text", "index": True, "required": True},
    {"id": "serial", "type": "Number", "index": True},
    {"id": "note", "type": "Textarea", "search": True},
]


def body(number: int) -> dict[str, Any]:
    """Return one entity as a client sends it."""
    return {
        "station": f"station-{number % STATIONS:04}",
        "serial": number,
        "value": round(20 + (number % 977) / 100, 2),
        "unit": "°C",
        "valid": number % 7 != 0,
        "place": {"city": "Lausanne", "lat": 46.519653, "lon": 6.632273, "floor": number % 12},
        "tags": ["temperature", "indoor", f"line-{number % 20}"],
        "note": "Measured by the roof sensor, averaged over a minute, corrected for drift.",
    }


@dataclass(frozen=True, slots=True)
class Scene:
    """A prepared hub: tokens of an ordinary user and of the administrator, and ids of existing entities."""

    hub: Hub
    user: str
    admin: str
    entities: int
    ids: Sequence[str]

    def request(self, method: str, path: str, token: str = "", content: bytes = b"") -> bytes:
        """Return the bytes of a request, by the ordinary user unless another token is given."""
        head = f"{method} /api/v1/{path} HTTP/1.1\r\nhost: {self.hub.host}:{self.hub.port}\r\n"
        head += f"authorization: Bearer {token or self.user}\r\naccept: */*\r\nuser-agent: hub-benchmark\r\n"
        if content:
            head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
        return head.encode() + b"\r\n" + content

    def http(self) -> httpx.Client:
        """Return a client for single calls as the ordinary user."""
        return client(self.hub, self.user)


def client(hub: Hub, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=f"{hub.url}/api/v1/", headers=headers, timeout=120, trust_env=False)


def sign_in(hub: Hub, login: str, password: str) -> str:
    """Return a long-lived token of the user."""
    with client(hub, "") as http:
        access = made(http, "auth/token", {"login": login, "password": password})["token"]
    with client(hub, access) as http:
        return str(made(http, "tokens", {"name": "benchmark"})["token"])


def made(http: httpx.Client, path: str, value: object) -> Any:
    """Send a POST and return its answer, which must be 200."""
    answer = http.post(path, content=orjson.dumps(value), headers={"content-type": "application/json"})
    if answer.status_code != 200:
        raise RuntimeError(f"POST {path}: {answer.status_code} {answer.text[:500]}")
    return orjson.loads(answer.content)


def accounts(hub: Hub, indexes: Sequence[object] = ()) -> tuple[str, str]:
    """Make the stores and an ordinary user in a group. Return tokens of this user and of the administrator.

    `indexes`: those of READINGS, beside the indexes of its fields.
    """
    admin = sign_in(hub, "admin", PASSWORD)
    password = secrets.token_urlsafe(16)
    with client(hub, admin) as http:
        for name, more in ((READINGS, indexes), (WRITES, ())):
            made(http, "stores", {"name": name, "fields": FIELDS, "indexes": list(more), "open": True})
        group = made(http, "groups", {"name": "Roof"})["_id"]
        made(http, "users", {"login": "sensor", "password": password, "group": group})
    return sign_in(hub, "sensor", password), admin


def prepare(hub: Hub, entities: int, indexes: Sequence[object] = ()) -> Scene:
    """Make stores, a user in a group, and `entities` entities that this user creates through the API.

    `indexes` as for `accounts`.
    """
    user, admin = accounts(hub, indexes)
    with client(hub, user) as http:
        ids = fill(http, entities)
    return Scene(hub, user, admin, entities, ids)


def fill(http: httpx.Client, entities: int, first: int = 0) -> list[str]:
    """Create the entities from number `first` up to `entities`.

    Return the ids of a sample that is spread over all of them, shuffled.
    """
    every = max(1, (entities - first) // SAMPLED_IDS)
    ids: list[str] = []
    for start in range(first, entities, LOAD_AT_ONCE):
        bodies = [body(number) for number in range(start, min(start + LOAD_AT_ONCE, entities))]
        ids += [entity["_id"] for entity in made(http, READINGS, bodies)["entities"][::every]]
    random.Random(1).shuffle(ids)
    return ids
