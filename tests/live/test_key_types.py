"""A field by which other stores refer gets another type: filters on those references mean something else then, so the
views of these stores end, as those of its own store do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from stores.records import Entity
from tests.live.conftest import Connect
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub
from tests.support.live import Beacon, Watch, matches_rest, ops

TEXT: dict[str, Any] = {"id": "mail", "type": "Text", "unique": True}
EMAIL = TEXT | {"type": "Email"}
FILTERS: list[Entity] = [{"of": {"$ne": "Ann@Example.com"}}, {"of": "Ann@Example.com"}]
"""A filter that the entity matches while the key is a Text, and one that it matches while it is an Email."""


@dataclass(frozen=True)
class Chain:
    """`near` refers to `target` by its mail, `far` to `near` by that reference. `path` is the target's definition."""

    target: str
    near: str
    far: str
    path: str


@pytest.fixture
async def chain(hub: Hub, admin: Client, user: Client) -> Chain:
    def by(store: str, field: str) -> Entity:
        return {"id": "of", "type": "Reference", "store": store, "by": field, "unique": True}

    target = await hub.define(fields=[TEXT])
    near = await hub.define(fields=[by(target, "mail")], open=True)
    inner = {"id": "o", "type": "Object", "fields": [by(near, "of") | {"unique": False}]}
    far = await hub.define(fields=[by(near, "of"), inner])
    await user.make(target, mail="ann@example.com")
    for store in (near, far):
        await user.make(store, of="ann@example.com")
    return Chain(target, near, far, await definition_of(admin, target))


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("back", [False, True])
async def test_a_new_type_of_a_key_ends_the_views_of_what_refers_by_it(
    connected: Connect, hub: Hub, admin: Client, user: Client, chain: Chain, beacon: Beacon, back: bool
) -> None:
    """Through a further reference too. A new snapshot shows what REST shows; a new label ends nothing."""
    first, second = (EMAIL, TEXT) if back else (TEXT, EMAIL)
    good(await admin.patch(chain.path, {"fields": [first]}))
    other = await hub.define()
    client = await connected(user)
    await client.caught_up(beacon)
    watches = [await client.watch(store, filter=each) for store in (chain.near, chain.far) for each in FILTERS]
    unconcerned = await client.watch(other)
    assert [len(watch.view) for watch in watches] == ([0, 1, 0, 1] if back else [1, 0, 1, 0])
    good(await admin.patch(chain.path, {"label": "Addresses"}))
    good(await admin.patch(chain.path, {"fields": [first | {"label": "Mail"}]}))
    await client.caught_up(beacon)
    assert [watch.ended for watch in watches] == [None] * 4
    good(await admin.patch(chain.path, {"fields": [second]}))
    await user.make(other)
    await client.caught_up(beacon)
    assert [(watch.ended or {}).get("code") for watch in watches] == ["410"] * 4
    assert [op for op, _ in ops(unconcerned.take())] == ["insert"]
    for watch in watches:
        again = await client.watch(watch.request["store"], filter=watch.request["filter"])
        await matches_rest(again, user)
        assert len(again.view) == 1 - len(watch.view)


@pytest.mark.gate("sqlite", "mongodb")
async def test_positions_from_before_a_new_type_of_a_key_are_gone(
    connected: Connect, admin: Client, user: Client, chain: Chain, beacon: Beacon
) -> None:
    """For delta sync and for clients that resume, which take a new snapshot if they may. Positions after it are good,
    also when the key has got its former type back."""
    client = await connected(user)
    watches = [await client.watch(store, filter=FILTERS[0]) for store in (chain.near, chain.far)]
    await client.close()

    async def since(watch: Watch, limit: int) -> Any:
        params = {"since": watch.position, "filter": json.dumps(FILTERS[0]), "limit": str(limit)}
        return await user.get(f"/{watch.request['store']}", params)

    good(await admin.patch(chain.path, {"label": "Addresses"}))
    for watch in watches:
        for limit in (0, 100):
            good(await since(watch, limit))
    for kind, found in ((EMAIL, 0), (TEXT, 1)):
        good(await admin.patch(chain.path, {"fields": [kind]}))
        another = await connected(user)
        await another.caught_up(beacon)
        for number, watch in enumerate(watches):
            for limit in (0, 100):
                refused(await since(watch, limit), 410)
            answer = await another.subscribe(watch.request["store"], filter=FILTERS[0], since=watch.position)
            assert answer["error"]["code"] == "410"
            watches[number] = again = await another.resume(watch, snapshot="auto")
            assert (again.resync, len(again.view)) == (True, found)
            good(await since(again, 100))
        await another.close()
