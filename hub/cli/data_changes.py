"""Changes of a definition with its data: in one request if the hub takes that, otherwise in steps, with progress."""

from __future__ import annotations

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


async def change_definition(
    client: Client, store: Entity, parts: Entity, data: Any = None, *, alone: bool = True
) -> bool:
    """Change `parts` of a store's definition, and its entities by `data`. Return whether that has changed anything.

    With `alone`, nobody else may have changed the definition since it was read. Raises Refused and Failure."""
    rev = store["_rev"] if alone else None
    body = parts if data is None else {**parts, "data": data}
    try:
        answer = await _patch(client, store, body, rev)
    except Refused as refusal:
        if not _is_beyond_one_commit(refusal) or store.get("pending") or not isinstance(data, dict):
            raise
        begun = await _patch(client, store, {**parts, "data": {**data, "steps": True}}, rev)
        note(f"{store['name']} is read-only until all of its entities are changed")
        await finish(client, begun)
        return True
    return data is not None or bool(answer["_rev"] != store["_rev"])


async def _patch(client: Client, store: Entity, body: Entity, rev: int | None = None) -> Entity:
    try:
        answer: Entity = await client.call("PATCH", f"/stores/{store['_id']}", body, rev=rev, patiently=True)
    except Refused as refusal:
        if refusal.status != HTTPStatus.PRECONDITION_FAILED:
            raise
        raise Failure(f"the definition of {store['name']} has just been changed: run the command again") from refusal
    return answer


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
                pending = (await _patch(client, store, {"data": {"continue": size}})).get("pending")
            except Refused as refusal:
                if not _is_beyond_one_commit(refusal) or size == 1:
                    raise Failure(f"{refusal}; {_how_to_go_on(refusal, name)}") from refusal
                size = max(1, size // 4)


def _how_to_go_on(refusal: Refused, name: str) -> str:
    if refusal.status in (HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        return f"change or delete the entity as an administrator, then continue by hub field resume {name}"
    return f"continue by hub field resume {name}"


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
