"""Every way in which the platform API makes, changes and deletes entities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx

from stores.records import SYSTEM_FIELDS, Entity
from tests.support.hub import Client, unique

Answer = Awaitable[httpx.Response]
Make = Callable[[Client, str, Entity], Answer]
Change = Callable[[Client, str, Entity, Entity], Answer]
"""Takes the caller, the store, the entity and the changes."""
Delete = Callable[[Client, str, Entity], Answer]


def batch(client: Client, method: str, path: str, body: Entity | None = None, **more: Any) -> Answer:
    request = {"method": method, "path": path, **({} if body is None else {"body": body}), **more}
    return client.post("/batch", {"requests": [request]})


def refs(body: Entity) -> Entity:
    return {"ref": unique("r"), **body}


MAKE: Final[Mapping[str, Make]] = {
    "one": lambda client, store, body: client.post(f"/{store}", body),
    "array": lambda client, store, body: client.post(f"/{store}", [body]),
    "upsert": lambda client, store, body: client.post(f"/{store}", refs(body), {"upsert": "ref"}),
    "upserts": lambda client, store, body: client.post(f"/{store}", [refs(body)], {"upsert": "ref"}),
    "batch": lambda client, store, body: batch(client, "POST", f"/{store}", body),
    "batch upsert": lambda client, store, body: batch(client, "POST", f"/{store}?upsert=ref", refs(body)),
}


def own(entity: Entity) -> Entity:
    """Return what a caller sends of an entity to replace it."""
    return {name: value for name, value in entity.items() if name not in SYSTEM_FIELDS}


def path_of(store: str, entity: Entity) -> str:
    return f"/{store}/{entity['_id']}"


CHANGE: Final[Mapping[str, Change]] = {
    "patch": lambda client, store, entity, body: client.patch(path_of(store, entity), body),
    "operators": lambda client, store, entity, body: client.patch(path_of(store, entity), {"$set": body}),
    "put": lambda client, store, entity, body: client.put(path_of(store, entity), own(entity) | body),
    "bulk": lambda client, store, entity, body: client.patch(f"/{store}", body, {"ref": entity["ref"]}),
    "bulk operators": lambda client, store, entity, body: client.patch(
        f"/{store}", {"$set": body}, {"ref": entity["ref"]}
    ),
    "upsert": lambda client, store, entity, body: client.post(f"/{store}", own(entity) | body, {"upsert": "ref"}),
    "upserts": lambda client, store, entity, body: client.post(f"/{store}", [own(entity) | body], {"upsert": "ref"}),
    "batch patch": lambda client, store, entity, body: batch(client, "PATCH", path_of(store, entity), body),
    "batch put": lambda client, store, entity, body: batch(client, "PUT", path_of(store, entity), own(entity) | body),
    "batch upsert": lambda client, store, entity, body: batch(
        client, "POST", f"/{store}?upsert=ref", own(entity) | body
    ),
}

DELETE: Final[Mapping[str, Delete]] = {
    "delete": lambda client, store, entity: client.delete(path_of(store, entity)),
    "bulk": lambda client, store, entity: client.delete(f"/{store}", {"ref": entity["ref"]}),
    "batch": lambda client, store, entity: batch(client, "DELETE", path_of(store, entity)),
}
