"""Authentication of live clients: how it begins, how it ends, and how it changes without losing subscriptions."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.live.conftest import Connect, StartHub
from tests.support.hub import Client, Hub, entity_of, eventually
from tests.support.live import (
    PASSWORD,
    SOON,
    Beacon,
    Ended,
    Refused,
    credentials,
    ends_as_revoked,
    live,
    matches_rest,
    ops,
    socket_url,
    token_of,
    websocket,
)
from tests.support.standstill import read_metrics


@pytest.fixture
async def session(hub: Hub) -> Client:
    """A user who has signed in with a cookie."""
    somebody = await hub.as_user(password=PASSWORD)
    return await hub.as_session(somebody.user["login"], PASSWORD)


@pytest.mark.parametrize(("version", "way"), [(3, "bearer"), (3, "query"), (4, "bearer"), (4, "query"), (4, "auth")])
async def test_a_token_lets_in(hub: Hub, user: Client, version: int, way: str) -> None:
    """The token may be in the header, the query or, with EIO=4, the payload of CONNECT. The client is the token's
    user."""
    token = token_of(user)
    options: dict[str, Any] = {
        "bearer": {"headers": {"Authorization": f"Bearer {token}"}},
        "query": {"query": {"token": token}},
        "auth": {"auth": {"token": token}},
    }[way]
    async with live(hub, version=version, **options) as client:
        assert (await client.watch("users")).view.keys() == {user.id}


@pytest.mark.parametrize("version", [3, 4])
async def test_a_cookie_lets_in(hub: Hub, session: Client, version: int) -> None:
    """A cookie counts on pages of the hub's own origin; from another site it is ignored."""
    async with live(hub, session, version=version) as client:
        assert (await client.watch("users")).view.keys() == {session.id}
    own = {"Origin": hub.url, "Sec-Fetch-Site": "same-origin"}
    async with live(hub, session, version=version, headers=own) as client:
        assert (await client.watch("users")).view.keys() == {session.id}
    for foreign in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(Refused):
            async with live(hub, session, version=version, headers=foreign):
                pass


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("token", [None, "nonsense", "é" * 10])
async def test_without_valid_credentials_nobody_gets_in(hub: Hub, version: int, token: str | None) -> None:
    """The refusal has the protocol's own format."""
    with pytest.raises(Refused, match=r"^Unauthorized$"):
        async with live(hub, version=version, query={"token": token} if token else None):
            pass


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_deleted_token_ends_its_connections(hub: Hub, connected: Connect, user: Client, admin: Client) -> None:
    """They end soon, with a notice. The user's other tokens keep working; the deleted one is refused."""
    first, second = await connected(user), await connected(await hub.with_token(user.user))
    await first.watch("users")
    [token, _] = await admin.list("tokens", {"user": user.id, "sort": "_id"})
    began = time.monotonic()
    entity_of(await admin.delete(f"/tokens/{token['_id']}"))
    await ends_as_revoked(first, began)
    assert (await second.ask("unsubscribe", {"channel": "x"}))["error"]["code"] == "404"
    with pytest.raises(Refused, match=r"^Unauthorized$"):
        async with live(hub, user):
            pass


async def test_signing_out_ends_the_connection(connected: Connect, session: Client) -> None:
    client = await connected(session)
    await client.watch("users")
    began = time.monotonic()
    assert (await session.delete("/auth")).status_code == 200
    await ends_as_revoked(client, began)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_a_user_who_is_disabled_or_deleted_is_gone(
    connected: Connect, user: Client, admin: Client, how: str
) -> None:
    """All connections of the user end, and later changes are not delivered."""
    clients = [await connected(user), await connected(user, version=3)]
    await clients[0].watch("users")
    began = time.monotonic()
    path = f"/users/{user.id}"
    entity_of(await (admin.delete(path) if how == "deleted" else admin.patch(path, {"disabled": True})))
    for client in clients:
        await ends_as_revoked(client, began)
    assert "disabled" not in "".join(clients[0].packets[1:])


async def test_an_expired_token_ends_its_connection(hub: Hub, connected: Connect, user: Client) -> None:
    """It ends at the time of expiry, without any request or change."""
    expires = int(time.time() * 1000) + 2_500
    client = await connected(await hub.with_token(user.user, expires=expires))
    await client.watch("users")
    assert await client.ending() == ["expired"]
    assert time.time() * 1000 - expires < SOON * 1000


async def test_no_change_after_the_expiry_of_a_token_is_delivered(
    hub: Hub, connected: Connect, user: Client, store: str
) -> None:
    """The four tokens expire at different moments of a second. A check each second would deliver changes for 750 ms
    after one of them in each attempt. A busy machine may need several attempts."""
    for lead in (2_000, 8_000, 30_000):
        if await delivered_late(hub, connected, user, store, lead) < 500:
            return
    pytest.fail("changes are delivered after the expiry")


async def delivered_late(hub: Hub, connected: Connect, user: Client, store: str, lead: int) -> float:
    """Connect clients whose tokens expire in `lead` milliseconds, at different moments of a second; return for how many
    milliseconds after that a change was delivered at most. It is infinite if `lead` was too short to connect."""
    began = int(time.time() * 1000) + lead
    expiries = [began + phase for phase in (0, 250, 500, 750)]
    try:
        clients = [await connected(await hub.with_token(user.user, expires=expires)) for expires in expiries]
        watches = [await client.watch(store) for client in clients]
    except (Refused, Ended):
        return math.inf
    while not all(client.closed.is_set() for client in clients):
        await user.make(store)
    return max(
        max((event["entity"]["time"] for event in watch.events), default=0) - expires
        for watch, expires in zip(watches, expiries, strict=True)
    )


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_token_narrowed_while_it_is_used(
    hub: Hub, connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Its new scopes decide immediately which subscriptions continue."""
    token = await hub.admin.make("tokens", {"name": "t", "user": user.id, "scopes": ["GET /*"]})
    client = await connected(hub.client(token["token"], user.user))
    watch = await client.watch(store)
    answer = await hub.admin.patch(f"/tokens/{token['_id']}", {"scopes": [f"GET /{beacon.store}/*"]})
    entity_of(answer)
    await user.make(store)
    await client.caught_up(beacon)
    assert watch.ended is not None
    assert watch.ended["code"] == "403"
    assert watch.take() == []


async def test_authenticate_as_the_same_user_changes_nothing(
    hub: Hub, connected: Connect, user: Client, admin: Client, store: str, beacon: Beacon
) -> None:
    """The subscription continues with a new token, without a gap and without a notice."""
    client = await connected(user)
    watch = await client.watch(store)
    fresh = await hub.with_token(user.user)
    await user.make(store, n=1)
    assert await client.ask("authenticate", {"token": token_of(fresh)}) == {"ok": True}
    await user.make(store, n=2)
    for token in await admin.list("tokens", {"user": user.id, "sort": "_id", "limit": "1"}):
        entity_of(await admin.delete(f"/tokens/{token['_id']}"))
    await fresh.make(store, n=3)
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in watch.take()] == [1, 2, 3]


async def test_authenticate_as_somebody_else_moves_the_views(
    hub: Hub, connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Entities that only the new user sees enter, those that only the first one saw leave, and forbidden subscriptions
    end."""
    other = await hub.as_user(roles=[await hub.role(f"* /{store}/*", f"GET /{beacon.store}/*")])
    beacon.shine_for(other.id)
    closed = await hub.define()
    client = await connected(user)
    watch, ended = await client.watch(store), await client.watch(closed)
    mine, theirs = await user.make(store), await other.make(store)
    await client.caught_up(beacon)
    watch.take()
    assert await client.ask("authenticate", {"token": token_of(other)}) == {"ok": True}
    await user.make(store)
    last = await other.make(store)
    await client.caught_up(beacon)
    events = ops(watch.take())
    assert {*events[:2]} == {("remove", mine["_id"]), ("insert", theirs["_id"])}
    assert events[2:] == [("insert", last["_id"])]
    assert ended.ended is not None
    assert ended.ended["code"] == "403"
    await matches_rest(watch, other)


@pytest.mark.parametrize("payload", [{"token": "nonsense"}, {"token": ""}, {"token": 5}, {}, None])
async def test_a_bad_token_changes_nothing(
    connected: Connect, user: Client, store: str, beacon: Beacon, payload: Any
) -> None:
    """`authenticate` is refused, and the client keeps its user."""
    client = await connected(user)
    watch = await client.watch(store)
    answer = await client.ask("authenticate", payload)
    assert answer["ok"] is False
    assert answer["error"]["code"] == ("401" if payload == {"token": "nonsense"} else "400")
    await user.make(store)
    await client.caught_up(beacon)
    assert len(watch.take()) == 1


async def test_the_note_of_a_tokens_use_is_no_reason_to_look_again(own_hub: StartHub) -> None:
    """The update of a token's last use does not affect its sessions; their visibility is not looked up again.

    Looking it up again sends a position. This hub sends no other position during the test.
    """
    hub = await own_hub(live_position_every=3600)
    store = await hub.define()
    fresh = await hub.with_token((await hub.as_user()).user)
    async with live(hub, fresh) as client:
        watch = await client.watch(store)
        before = len(client.positions)
        await fresh.get("/auth")

        async def noted() -> bool:
            return any(token["last_used"] for token in await fresh.list("tokens", {"sort": "-time", "limit": "1"}))

        await eventually(noted)
        made = await fresh.make(store, n=1)
        await client.until(lambda: watch.events)
        assert ops(watch.take()) == [("insert", made["_id"])]
        assert len(client.positions) == before


async def test_who_joins_at_once_finds_no_more_places(own_hub: StartHub) -> None:
    """None of them has joined yet when their token, which the hub has to look up, comes in."""
    most = 5
    hub = await own_hub(live_max_connections=most)
    headers = credentials(await hub.as_user())
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(websocket(socket_url(hub.url), additional_headers=headers))
            for _ in range(2 * most)
        ]
        for socket in sockets:
            await socket.recv()
        await asyncio.gather(*(socket.send("40") for socket in sockets))
        answers = await asyncio.gather(*(socket.recv() for socket in sockets))
        assert answers.count('44{"message":"Too many connections"}') == most
        assert (await read_metrics(hub.url)).value("hub_limit_reached_total", limit="live_max_connections") == most
