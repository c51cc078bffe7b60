"""Rules of the system stores that two concurrent requests could break together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import httpx
import pytest

from stores.records import new_id
from tests.support.engines import Database, fitting_database
from tests.support.hub import Client, Hub, entity_of, eventually, running_hub, unique

pytestmark = pytest.mark.races


@pytest.fixture(scope="module")
async def lone_hub(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hub]:
    """A separate hub, because its administrators change."""
    async with (
        fitting_database(engine_kind, request, tmp_path_factory.mktemp("races")) as database,
        running_hub(database, tmp_path_factory.mktemp("hub")) as hub,
    ):
        yield hub


async def together(*calls: Awaitable[httpx.Response]) -> list[int]:
    """Make concurrent calls; return their statuses in ascending order."""
    return sorted(answer.status_code for answer in await asyncio.gather(*calls))


async def is_admin(client: Client) -> bool:
    answer = await client.get("/auth")
    return answer.status_code == 200 and bool(answer.json()["admin"])


def away(by: Client, whom: Client, way: str) -> Awaitable[httpx.Response]:
    """Remove an administrator in one of several ways."""
    path = f"/users/{whom.id}"
    if way == "deleted":
        return by.delete(path)
    return by.patch(path, {"roles": []} if way == "roles" else {"disabled": True})


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("ways", [("roles", "roles"), ("disabled", "deleted"), ("deleted", "roles")])
async def test_the_last_two_administrators_cannot_remove_each_other(
    lone_hub: Hub, ways: tuple[str, str], races: int
) -> None:
    """One of them remains, whether they take roles, disable or delete, in any combination."""
    hub, one = lone_hub, lone_hub.admin
    role = (await one.list("roles", {"name": "admin"}))[0]["_id"]
    for _ in range(races):
        hub.admin = one
        other = await hub.as_user(roles=[role])
        statuses = await together(away(one, other, ways[0]), away(other, one, ways[1]))
        assert statuses[0] == 200
        assert statuses[1] in (401, 403, 404, 409), statuses
        one = one if await is_admin(one) else other
        assert await is_admin(one)
        assert len(await one.list("users", {"roles": role, "filter": '{"disabled": {"$ne": true}}'})) == 1
    hub.admin = one


async def test_an_administrator_alone_cannot_leave_twice(lone_hub: Hub) -> None:
    """Two different concurrent requests are refused, as each of them alone would be."""
    one = lone_hub.admin
    assert await together(away(one, one, "roles"), away(one, one, "deleted")) == [409, 409]
    assert await is_admin(one)


async def test_groups_that_move_at_once_stay_a_tree(hub: Hub, admin: Client, races: int) -> None:
    """Two groups move below each other, and three in a ring: the move that would close the circle is refused."""
    for size in (2, 3, 2, 3):
        for _ in range(races // 2):
            groups = [await hub.group() for _ in range(size)]
            moves = zip(groups, groups[1:] + groups[:1], strict=True)
            statuses = await together(*(admin.patch(f"/groups/{g}", {"parent": p}) for g, p in moves))
            assert statuses[0] == 200
            assert statuses[-1] == 400, statuses
            for group in groups:
                chain, at = [], str(group)
                while at:
                    assert at not in chain, "a circle"
                    chain.append(at)
                    at = (await admin.see("groups", at))["parent"]


async def test_groups_that_grow_at_once_keep_their_levels(hub: Hub, admin: Client, races: int) -> None:
    """Two moves, or a move and a creation, each of which fits by itself: the tree would have 65 levels with both."""
    upper, middle, lower = [await hub.groups(levels) for levels in (20, 20, 25)]
    for number in range(races):
        moves = admin.patch(f"/groups/{middle[0]}", {"parent": upper[-1]})
        if number % 2:
            grows = admin.patch(f"/groups/{lower[0]}", {"parent": middle[-1]})
        else:
            assert (await admin.patch(f"/groups/{lower[0]}", {"parent": middle[-2]})).status_code == 200
            grows = admin.post("/groups", {"name": unique("group"), "parent": lower[-1]})
        calls = [moves, grows] if number % 4 < 2 else [grows, moves]
        assert await together(*calls) == [200, 400]
        for made in await admin.list("groups", {"parent": lower[-1]}):
            assert (await admin.delete(f"/groups/{made['_id']}")).status_code == 200
        for top in (middle[0], lower[0]):
            assert (await admin.patch(f"/groups/{top}", {"parent": None})).status_code == 200


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_is_given_to_a_user_is_not_deleted_meanwhile(hub: Hub, admin: Client, races: int) -> None:
    """If a role or a group is deleted while a user gets it, one of the two requests is refused."""
    for number in range(races):
        store, made = ("roles", await hub.role("GET /units/*")) if number % 2 else ("groups", await hub.group())
        given = {"roles": [made]} if store == "roles" else {"group": made}
        if number % 4 < 2:
            gets = admin.post("/users", {"login": unique("user"), **given})
        else:
            user = await admin.make("users", {"login": unique("user")})
            gets = admin.patch(f"/users/{user['_id']}", given)
        statuses = await together(gets, admin.delete(f"/{store}/{made}"))
        assert statuses in ([200, 400], [200, 409]), statuses
        holders = await admin.list("users", {"roles" if store == "roles" else "group": made})
        there = (await admin.get(f"/{store}/{made}")).status_code == 200
        assert there is bool(holders)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_group_is_not_deleted_while_another_comes_below_it(hub: Hub, admin: Client, races: int) -> None:
    """The other group is created or moved there."""
    for number in range(races):
        parent = await hub.group()
        if number % 2:
            comes = admin.post("/groups", {"name": unique("group"), "parent": parent})
        else:
            comes = admin.patch(f"/groups/{await hub.group()}", {"parent": parent})
        statuses = await together(comes, admin.delete(f"/groups/{parent}"))
        assert statuses in ([200, 400], [200, 409]), statuses
        below = await admin.list("groups", {"parent": parent})
        assert ((await admin.get(f"/groups/{parent}")).status_code == 200) is bool(below)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("kept_in", ["tokens", "keys"])
async def test_a_deleted_user_has_no_tokens_or_keys(hub: Hub, admin: Client, races: int, kept_in: str) -> None:
    """This includes those created at the same time."""
    body = {"name": "late"} if kept_in == "tokens" else {"name": "late", "kind": "listings"}
    for _ in range(races):
        user = await admin.make("users", {"login": unique("user")})
        makes = admin.post(f"/{kept_in}", body | {"user": user["_id"]})
        statuses = await together(makes, admin.delete(f"/users/{user['_id']}"))
        assert statuses in ([200, 200], [200, 400]), statuses
        assert await admin.list(kept_in, {"user": user["_id"]}) == []


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_token_that_is_revoked_meanwhile_leaves_no_key_behind(hub: Hub, admin: Client, races: int) -> None:
    """The key was made before the revocation, or it is refused: then its secret opens nothing."""
    for _ in range(races):
        user = await hub.as_user()
        [token] = await admin.list("tokens", {"user": user.id})
        made, revoked = await asyncio.gather(
            user.post("/keys", {"name": "late", "kind": "listings"}), admin.delete(f"/tokens/{token['_id']}")
        )
        assert revoked.status_code == 200
        assert made.status_code in (200, 401, 409), made.text
        assert len(await admin.list("keys", {"user": user.id})) == (made.status_code == 200)


@pytest.mark.gate("sqlite", "mongodb")
async def test_keys_made_at_once_are_no_more_than_the_limit(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with (
        fitting_database(engine_kind, request, tmp_path) as database,
        running_hub(database, tmp_path / "hub", max_keys_per_user=3) as hub,
    ):
        user = await hub.as_user()
        statuses = await together(*(user.post("/keys", {"name": "x", "kind": "listings"}) for _ in range(9)))
        assert statuses == [200] * 3 + [400] * 6
        assert len(await user.list("keys")) == 3


@pytest.mark.gate("sqlite", "mongodb")
async def test_nothing_is_shared_with_a_user_who_is_gone(hub: Hub, admin: Client, store: str, races: int) -> None:
    """If a user is deleted at the same time, either the list was set before the deletion, or it is refused. Only the
    list that was set can be sent back."""
    entity = await admin.make(store, {"n": 1})
    path = f"/{store}/{entity['_id']}/access"
    for _ in range(races):
        user = await admin.make("users", {"login": unique("user")})
        share, delete = await asyncio.gather(
            admin.put(path, {"access": [user["_id"]]}), admin.delete(f"/users/{user['_id']}")
        )
        assert delete.status_code == 200
        assert share.status_code in (200, 400)
        assert (await admin.put(path, {"access": [user["_id"]]})).status_code == share.status_code
        assert (await admin.put(path, {"access": [new_id()]})).status_code == 400


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_deleted_user_does_not_come_back_to_a_list(hub: Hub, admin: Client, store: str, races: int) -> None:
    """A list that names a deleted user is sent back while another request removes that user from it."""
    other = (await admin.make("users", {"login": unique("user")}))["_id"]
    for _ in range(races):
        gone = (await admin.make("users", {"login": unique("user")}))["_id"]
        path = f"/{store}/{(await admin.make(store, {'n': 1}))['_id']}/access"
        assert (await admin.put(path, {"access": [gone]})).status_code == 200
        assert (await admin.delete(f"/users/{gone}")).status_code == 200
        back, removal = await asyncio.gather(
            admin.put(path, {"access": [gone, other]}), admin.put(path, {"access": [other]})
        )
        assert (removal.status_code, entity_of(removal)["access"]) == (200, [other])
        assert back.status_code in (200, 400)
        assert (await admin.get(path.removesuffix("/access"))).json()["access"] == [other]


async def delete_while_creating(hub: Hub, admin: Client, creator: Client) -> None:
    """Delete a store during a creation in it: one of the two is refused, and nothing is lost."""
    name = await hub.define()
    [definition] = await admin.list("stores", {"name": name})

    async def is_known() -> bool:
        return (await creator.get(f"/{name}")).status_code == 200

    await eventually(is_known)
    creates, deletes = await asyncio.gather(
        creator.post(f"/{name}", {"n": 1}), admin.delete(f"/stores/{definition['_id']}")
    )
    assert (creates.status_code, deletes.status_code) in ((200, 409), (404, 200)), (creates.text, deletes.text)
    if deletes.status_code == 200:
        await admin.make("stores", {"name": name})
        assert await admin.list(name) == []
    else:
        assert len(await admin.list(name)) == 1


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_store_is_not_deleted_under_what_is_created(
    hub: Hub, shared_database: Database, admin: Client, user: Client, tmp_path: Path, races: int
) -> None:
    """This holds in one process, and with another process, which learns of the deletion later."""
    for _ in range(races):
        await delete_while_creating(hub, admin, user)
    if shared_database.kind == "mongodb":
        async with running_hub(shared_database, tmp_path) as second:
            token = user.http.headers["Authorization"].removeprefix("Bearer ")
            for _ in range(races):
                await delete_while_creating(hub, admin, second.client(token, user.user))
