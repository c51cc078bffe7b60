"""Changes of a definition with its data: in one request if the hub takes that, otherwise in steps, with progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from hub.cli.client import Client, Refused
from hub.cli.meter import Meter
from hub.cli.output import Failure, note
from stores.records import Entity

STEP: Final = 200
"""Entities that one step changes, unless they are so large that the hub refuses."""


@dataclass
class _Steps:
    """The steps of a change, as a file that is being read: for the bar of progress."""

    size: int | None
    done: int = 0

    def position(self) -> int:
        return self.done


async def change_data(client: Client, store: Entity, parts: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Change `parts` of a store's definition, and its entities by `data`. Raises Refused."""
    path = path_of_definition(store)
    try:
        await client.call("PATCH", path, {**parts, "data": data}, patiently=True)
    except Refused as refusal:
        if not _is_beyond_one_commit(refusal) or store.get("pending"):
            raise
    else:
        return
    begun = await client.call("PATCH", path, {**parts, "data": {**data, "steps": True}}, patiently=True)
    note(f"{store['name']} is read-only until all of its entities are changed")
    await finish(client, begun)


async def finish(client: Client, store: Entity) -> None:
    """Carry out the rest of a change in steps. Raises Failure, after which it can be called again."""
    name, pending, size = store["name"], store.get("pending"), STEP
    if pending is None:
        raise Failure(f"no change of {name} is left unfinished")
    steps = _Steps(pending["total"], pending["done"])
    with Meter(f"change of {name}", steps) as meter:
        while pending is not None:
            steps.done = min(pending["done"], pending["total"])
            meter.show(pending["done"])
            try:
                pending = (await _step(client, store, size)).get("pending")
            except Refused as refusal:
                if not _is_beyond_one_commit(refusal) or size == 1:
                    raise Failure(f"{refusal}; continue by hub field resume {name}") from refusal
                size = max(1, size // 4)


def _is_beyond_one_commit(refusal: Refused) -> bool:
    """Return whether the hub, or its database, has refused to change so much in one commit."""
    return (refusal.status, *refusal.errors) in _BEYOND


_BEYOND: Final = frozenset(
    {
        (HTTPStatus.CONFLICT, "data"),
        (HTTPStatus.BAD_REQUEST, "filter"),
        (HTTPStatus.BAD_REQUEST, "body"),  # the cache of MongoDB
        (HTTPStatus.SERVICE_UNAVAILABLE, "query"),  # it takes too long
    }
)


async def _step(client: Client, store: Entity, size: int) -> Entity:
    body = {"data": {"continue": size}}
    changed: Entity = await client.call("PATCH", path_of_definition(store), body, patiently=True)
    return changed


def path_of_definition(store: Entity) -> str:
    return f"/stores/{store['_id']}"
