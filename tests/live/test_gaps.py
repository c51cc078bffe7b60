"""A gap in the feed: what the hub knows from it starts afresh, since whatever is remembered may have changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pymongo import AsyncMongoClient

from auth.errors import TooManyAttempts, Unauthenticated
from auth.groups import chain_of, find_one
from auth.principal import Principal
from hub.app import assemble
from hub.running import Hub
from hub.services import group_paths
from hub.services.move_notes import NOTES
from hub.settings import Settings
from stores.errors import HistoryGone, Unavailable
from stores.protocol import Insert, Update, UpdateMany, Write, Written
from stores.query import Query
from stores.records import Change, Entity, new_id, now_ms
from tests.support.engines import Database
from tests.support.entities import entity
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, PATIENCE, SECRET_KEY, eventually

ADDRESS = "192.0.2.1"
NEW_PASSWORD = "another horse battery"


class Gapped:
    """The parts of a running hub, whose feed loses the next changes when it is told to."""

    def __init__(self, hub: Hub, principal: Principal) -> None:
        self.hub = hub
        self.principal = principal
        self._loses = False
        self._forget = hub.resolver.forget
        hub.resolver.forget = self.forget  # type: ignore[method-assign] # the first to hear of changes

    def forget(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        if self._loses and changes:
            self._loses = False
            raise self._error
        self._forget(changes)

    def lose(self, error: Exception | None = None) -> None:
        """After an error other than HistoryGone the hub waits for a second."""
        self._loses, self._error = True, error or HistoryGone("these changes are gone")

    async def lose_images(self, database: Database) -> None:
        """As another program does: what changes in users and groups is not in the feed, which says so."""
        async with AsyncMongoClient[Entity](database.location) as client:
            for store in ("users", "groups"):
                off = {"collMod": store, "changeStreamPreAndPostImages": {"enabled": False}}
                await client.get_default_database().command(off)

    def refuse_restamping(self, times: int) -> None:
        """Let the database be unavailable for the next bulk changes, so many times."""
        commit, left = self.hub.engine.commit, [*range(times)]

        async def refuse(writes: Sequence[Write], *more: Any, **named: Any) -> list[Written]:
            if left and any(isinstance(write, UpdateMany) for write in writes):
                left.pop()
                raise Unavailable("electing")
            return await commit(writes, *more, **named)

        self.hub.engine.commit = refuse  # type: ignore[method-assign]

    async def has_lost(self) -> bool:
        return not self._loses

    async def group(self, parent: str | None = None) -> str:
        group = new_id()
        await self.hub.engine.commit([Insert("groups", entity(_id=group, name=group, parent=parent))], None)
        return group

    async def moved_beside_creation(self, group: str, parent: str) -> str:
        """Another process moves the group, while this one creates a note with the chain from before; its id."""
        [before] = [await find_one(self.hub.engine, "groups", group)]
        assert before is not None
        old = [group] if before["parent"] is None else [group, before["parent"]]
        note = entity(group=group, branch=old)
        await self.hub.engine.commit([Update("groups", group, {"parent": parent}), Insert("notes", note)], None)
        return str(note["_id"])

    async def move_beside_creation(self, group: str, parent: str) -> str:
        """A user of this hub moves the group, while another creates a note with the chain from before; its id."""
        note = entity(group=group, branch=[group])
        entities = self.hub.entities
        with entities.group_paths.stamping():
            move = asyncio.create_task(entities.change(self.principal, "groups", group, {"parent": parent}, None))

            async def has_moved() -> bool:
                found = await find_one(self.hub.engine, "groups", group)
                return found is not None and found["parent"] == parent

            await eventually(has_moved)
            await self.hub.engine.commit([Insert("notes", note)], None)
        moved, _ = await move
        assert orjson.loads(moved)["parent"] == parent
        return str(note["_id"])

    async def has_notes_of_moves(self, count: int) -> bool:
        return len(await self.hub.engine.entities(NOTES.name, Query())) == count

    async def is_in(self, note: str, *branch: str) -> bool:
        found = await find_one(self.hub.engine, "notes", note)
        return found is not None and found["branch"] == [*branch]


@asynccontextmanager
async def running(database: Database, data: Path) -> AsyncIterator[Gapped]:
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    made = assemble(Settings(data_dir=data, login_attempts=2, **secrets))  # type: ignore[arg-type]
    async with made.run():
        principal = await made.resolver.resolve(made.control_token)
        yield Gapped(made, principal)


@pytest.fixture
async def gapped(database: Database, tmp_path: Path) -> AsyncIterator[Gapped]:
    async with running(database, tmp_path) as gapped:
        await gapped.hub.entities.create(gapped.principal, "stores", [{"name": "notes"}])
        yield gapped


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_move_in_the_gap_is_made_up_for(gapped: Gapped) -> None:
    top, group = await gapped.group(), await gapped.group()
    gapped.lose()
    note = await gapped.moved_beside_creation(group, top)
    await eventually(lambda: gapped.is_in(note, group, top))


async def test_a_move_in_the_gap_is_made_up_for_when_the_database_answers_again(gapped: Gapped) -> None:
    """Gaps come when the database is unsteady, so the first attempts may fail."""
    top, group = await gapped.group(), await gapped.group()
    gapped.lose()
    gapped.refuse_restamping(2)
    note = await gapped.moved_beside_creation(group, top)
    await eventually(lambda: gapped.is_in(note, group, top))


async def test_a_move_below_a_group_of_no_tree_is_made_up_for(gapped: Gapped) -> None:
    """Another program has deleted its parent, or has made a circle of groups."""
    lost = await gapped.group(new_id())
    first = new_id()
    second = await gapped.group(first)
    await gapped.hub.engine.commit([Insert("groups", entity(_id=first, name=first, parent=second))], None)
    for top in (lost, first):
        group = await gapped.group()
        gapped.lose()
        note = await gapped.moved_beside_creation(group, top)
        above = await chain_of(gapped.hub.engine, top)
        await eventually(lambda: gapped.is_in(note, group, *above))  # noqa: B023


async def test_a_move_after_the_gap_is_not_taken_for_one_s_own_in_it(gapped: Gapped) -> None:
    """The hub's own move was in the gap, so the feed will never show it."""
    tops, group = [await gapped.group(), await gapped.group()], await gapped.group()
    gapped.lose()
    await gapped.hub.entities.change(gapped.principal, "groups", group, {"parent": tops[0]}, None)
    await eventually(gapped.has_lost)
    await gapped.hub.entities.create(gapped.principal, "notes", [{}])
    note = await gapped.moved_beside_creation(group, tops[1])
    await eventually(lambda: gapped.is_in(note, group, tops[1]))


async def test_a_move_is_answered_though_its_restamping_fails(gapped: Gapped) -> None:
    """The move is made; what was created meanwhile is re-stamped as soon as the database answers."""
    top, group = await gapped.group(), await gapped.group()
    gapped.refuse_restamping(2)
    note = await gapped.move_beside_creation(group, top)
    await eventually(lambda: gapped.is_in(note, group, top))
    await eventually(lambda: gapped.has_notes_of_moves(0))


async def test_a_move_of_which_the_feed_tells_late_is_made_up_for(gapped: Gapped) -> None:
    """A minute after the last write of this process, which ended after the move."""
    paths, fanout = gapped.hub.entities.group_paths, gapped.hub.session_registry.context.fanout
    top, group = await gapped.group(), await gapped.group()
    paths._ended_ms = 0
    note = await gapped.moved_beside_creation(group, top)
    await fanout.reach(fanout.order_of(await gapped.hub.engine.feed.position()))
    assert await gapped.is_in(note, group)
    moved = now_ms() - 61_000
    paths._ended_ms = moved + 1_000
    paths.follow([Change("", "update", "groups", group, {"parent": None}, {"parent": top}, None, moved)])
    await eventually(lambda: gapped.is_in(note, group, top))


async def test_a_move_that_needs_no_restamping_leaves_no_note(gapped: Gapped) -> None:
    top, group = await gapped.group(), await gapped.group()
    await gapped.hub.entities.change(gapped.principal, "groups", group, {"parent": top}, None)
    assert await gapped.has_notes_of_moves(0)


async def test_a_restart_restamps_what_is_left(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a move by this hub, of one that another process has made, and of a gap."""
    monkeypatch.setattr(group_paths, "LONGEST_REQUEST", 0.1)  # for which other processes may write with the old chain
    async with running(database, tmp_path) as gapped:
        await gapped.hub.entities.create(gapped.principal, "stores", [{"name": "notes"}])
        tops, groups = [await gapped.group() for _ in range(3)], [await gapped.group() for _ in range(3)]
        gapped.refuse_restamping(1_000)
        notes = [await gapped.move_beside_creation(groups[0], tops[0])]
        notes.append(await gapped.moved_beside_creation(groups[1], tops[1]))
        await eventually(lambda: gapped.has_notes_of_moves(2))
        gapped.lose()
        notes.append(await gapped.moved_beside_creation(groups[2], tops[2]))
        await eventually(lambda: gapped.has_notes_of_moves(3))
    async with running(database, tmp_path) as again:
        for note, group, top in zip(notes, groups, tops, strict=True):
            await eventually(lambda: again.is_in(note, group, top))  # noqa: B023
        await eventually(lambda: again.has_notes_of_moves(0))


async def test_a_password_from_the_gap_is_not_kept_out_by_old_guesses(gapped: Gapped) -> None:
    hub, user = gapped.hub, gapped.principal.user_id
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await sign_in(hub, "wrong")
    with pytest.raises(TooManyAttempts):
        await sign_in(hub, ADMIN_PASSWORD)
    gapped.lose()
    password = await hub.passwords.hash(NEW_PASSWORD)
    await hub.engine.commit([Update("users", user, {"password": password})], None)
    await eventually(lambda: signs_in(hub))


async def test_whoever_waits_for_the_feed_goes_on_after_a_gap(gapped: Gapped) -> None:
    """Not only with the next change, which may be long in coming."""
    gapped.lose(RuntimeError("a defect"))
    await gapped.group()
    fanout = gapped.hub.session_registry.context.fanout
    async with asyncio.timeout(PATIENCE):
        await fanout.reach(fanout.order_of(await gapped.hub.engine.feed.position()))


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.engine("mongodb")
async def test_changes_of_one_store_that_are_lost_are_a_gap_too(gapped: Gapped, database: Database) -> None:
    hub, user = gapped.hub, gapped.principal.user_id
    top, group = await gapped.group(), await gapped.group()
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await sign_in(hub, "wrong")
    password = await hub.passwords.hash(NEW_PASSWORD)
    await gapped.lose_images(database)
    await hub.engine.commit([Update("users", user, {"password": password})], None)
    note = await gapped.moved_beside_creation(group, top)
    await eventually(lambda: gapped.is_in(note, group, top))
    await eventually(lambda: signs_in(hub))


async def test_a_user_without_a_login_is_no_reason_for_a_gap(gapped: Gapped, caplog: pytest.LogCaptureFixture) -> None:
    """Another program makes it and sets its password; its token works like any other."""
    hub, user = gapped.hub, entity(name="A", password="x")
    await hub.engine.commit([Insert("users", user)], None)
    await hub.engine.commit([Update("users", user["_id"], {"password": "y"})], None)
    fanout = hub.session_registry.context.fanout
    await fanout.reach(fanout.order_of(await hub.engine.feed.position()))
    assert "reading everything anew" not in caplog.text
    [(token, _)] = await hub.entities.create(gapped.principal, "tokens", [{"name": "A", "user": user["_id"]}])
    assert (await hub.resolver.resolve(orjson.loads(token)["token"])).login == ""


async def sign_in(hub: Hub, password: str) -> None:
    await hub.accounts.sign_in(ADMIN_LOGIN, password, None, "session", ADDRESS, "")


async def signs_in(hub: Hub) -> bool:
    try:
        await sign_in(hub, NEW_PASSWORD)
    except TooManyAttempts:
        return False
    return True
