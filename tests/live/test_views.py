"""The View alone decides visibility: fields that only the View hides, not the store's definition, appear in no answer
and no event, and cannot be named in a query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from auth import policy
from auth.policy import authorize
from auth.principal import Principal
from auth.view import View
from hub.app import assemble
from hub.dialects.platform.parameters import ListParameters, ListRequest
from hub.running import Hub
from hub.settings import Settings
from realtime.session import LiveSession
from stores.errors import InvalidQuery
from stores.parse import FilterLimits
from stores.query import WHOLE, Projection, Query
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support.ear import PASSWORD, Ear
from tests.support.hub import eventually

STORE = "orders"
FIELDS = [
    {"id": "name", "type": "Text", "search": True},
    {"id": "margin", "type": "Number", "unique": True},
    {"id": "note", "type": "Text", "search": True},
]
HIDDEN = frozenset({"margin", "note"})


@dataclass
class World:
    """A hub with an order of `user`, whose View hides `margin` and `note`; `admin` sees them."""

    hub: Hub
    admin: Principal
    user: Principal
    credential: str
    id: str

    @property
    def view(self) -> View:
        return authorize(self.user, self.hub.registry.get(STORE), "GET")

    def asked(self, *pairs: tuple[str, str]) -> ListRequest:
        return ListParameters(self.view, list(pairs), FilterLimits(), 100).read()

    async def seen_by_admin(self) -> Entity:
        return entity_of(await self.hub.entities.get(self.admin, STORE, self.id, WHOLE))


def entity_of(made: tuple[bytes, int]) -> Entity:
    found: Entity = orjson.loads(made[0])
    return found


async def body_of(body: Any) -> Sequence[Entity]:
    text = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
    found: list[Entity] = orjson.loads(text)
    return found


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    make = policy._make_view

    def narrower(principal: Principal, definition: StoreDefinition, method: str) -> View | None:
        view = make(principal, definition, method)
        is_his = view is not None and definition.name == STORE and not principal.admin
        return replace(view, hidden=view.hidden | HIDDEN) if view is not None and is_his else view

    monkeypatch.setattr(policy, "_make_view", narrower)
    hub = assemble(Settings(data_dir=tmp_path, admin_password=PASSWORD))  # type: ignore[arg-type]
    async with hub.run():
        admin = await hub.resolver.resolve(hub.control_token)
        entities = hub.entities
        await entities.create(admin, "stores", [{"name": STORE, "fields": FIELDS}])
        [made] = await entities.create(admin, "users", [{"login": "ada", "password": PASSWORD}])
        token = {"name": "test", "user": entity_of(made)["_id"]}
        credential = entity_of((await entities.create(admin, "tokens", [token]))[0])["token"]
        user = await hub.resolver.resolve(credential)
        order = entity_of((await entities.create(user, STORE, [{"name": "a"}]))[0])
        await entities.change(admin, STORE, order["_id"], {"margin": 7, "note": "secret"}, None)
        yield World(hub, admin, user, credential, order["_id"])


async def test_no_answer_shows_what_the_view_hides(world: World) -> None:
    """Reads by id, lists, counts, the history, and the answers to writes."""
    entities, user = world.hub.entities, world.user
    assert {"margin", "note"} <= (await world.seen_by_admin()).keys()
    assert HIDDEN.isdisjoint(entity_of(await entities.get(user, STORE, world.id, WHOLE)))
    only = Projection((("margin",), ("name",)))
    assert entity_of(await entities.get(user, STORE, world.id, only)) == {"_id": world.id, "name": "a"}
    [listed] = await body_of((await entities.find(user, STORE, Query())).body)
    assert HIDDEN.isdisjoint(listed)
    summary = await entities.summarize(user, STORE, Query().where, WHOLE)
    assert summary.first is not None
    assert HIDDEN.isdisjoint(orjson.loads(summary.first))
    history = await entities.history(user, STORE, world.id)
    assert [*map(len, (entry.changed for entry in history.entries))] != []
    assert all(HIDDEN.isdisjoint(entry.changed) for entry in history.entries)
    assert HIDDEN.isdisjoint(entity_of(await entities.change(user, STORE, world.id, {"name": "b"}, None)))
    assert HIDDEN.isdisjoint(entity_of(await entities.delete(user, STORE, world.id, None)))


async def test_a_replacement_keeps_what_the_view_hides(world: World) -> None:
    shown = await world.hub.entities.replace(world.user, STORE, world.id, {"name": "b"}, None)
    assert HIDDEN.isdisjoint(entity_of(shown))
    kept = await world.seen_by_admin()
    assert (kept["name"], kept["margin"], kept["note"]) == ("b", 7, "secret")


async def test_no_query_names_what_the_view_hides(world: World) -> None:
    """Conditions, filters, sorts, projections and keys of upserts are refused; a search ignores the hidden fields."""
    for pair in (
        ("margin", "7"),
        ("margin[gt]", "1"),
        ("filter", '{"$or":[{"margin.a":7}]}'),
        ("sort", "-margin"),
        ("only", "name,note"),
    ):
        with pytest.raises(InvalidQuery, match="has no field"):
            world.asked(pair)
    with pytest.raises(InvalidQuery):
        await world.hub.entities.upsert(world.user, STORE, "margin", [{"margin": 7}])
    for text, count in (("secret", 0), ("a", 1)):
        request = world.asked(("search", text))
        listing = await world.hub.entities.find(world.user, STORE, request.query)
        assert len(await body_of(listing.body)) == count


async def test_no_event_shows_what_the_view_hides(world: World) -> None:
    """Snapshots, live events and delta sync contain them neither in the entity nor among the changed fields."""
    hub, ear, answers = world.hub, Ear(), list[bytes]()
    session = LiveSession(hub.session_registry.context, ear, world.user, world.credential)
    hub.session_registry.open(session)
    await session.request("subscribe", {"store": STORE, "filter": {"margin": 7}}, answers.append)
    await session.request("subscribe", {"store": STORE, "snapshot": True}, answers.append)
    refused, accepted = map(orjson.loads, answers)
    assert (refused["ok"], [*refused["error"]["errors"]]) == (False, ["margin"])
    assert HIDDEN.isdisjoint(accepted["entities"][0])
    await hub.entities.change(world.admin, STORE, world.id, {"margin": 8}, None)
    await hub.entities.change(world.admin, STORE, world.id, {"margin": 9, "note": "b", "name": "b"}, None)

    async def is_told() -> bool:
        return len(ear.changes()) >= 2

    await eventually(is_told)
    events = [event for name, event in ear.said if name == "change"]
    assert [{*event["changed"]} - {"_at"} for event in events] == [{"_rev"}, {"_rev", "name"}]
    assert all(HIDDEN.isdisjoint(event["entity"]) for event in events)
    delta = await hub.delta.since(world.user, STORE, accepted["position"], Query().where, WHOLE, 10)
    assert [{*change.changed} - {"_at"} for change in delta.changes] == [{"_rev"}, {"_rev", "name"}]
    assert all(change.entity and HIDDEN.isdisjoint(change.entity) for change in delta.changes)
    await hub.session_registry.close(session)
