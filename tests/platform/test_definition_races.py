"""Concurrent writes cannot create or restore values that do not fit the store's definition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub.http.errors import RequestFailed
from hub.services import existing_references
from hub.services.batch import BatchRequest
from stores.errors import DataConflict, DuplicateValue, InvalidEntity, Unavailable
from stores.mongo import commits, definition_gate
from stores.mongo.engine import MongoEngine
from stores.mongo.writes import WriteExecutor
from stores.protocol import Update
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity
from tests.support.hub import eventually
from tests.support.racing import Racing


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("spoiled", "mended"), [({"amount": "many"}, {"amount": 5}), ({"must": None}, {"must": "here"})]
)
async def test_a_put_does_not_undo_what_was_just_mended(
    racing: Racing, spoiled: Entity, mended: Entity, hidden: bool
) -> None:
    """A PUT that sends back the invalid value is refused if another request has corrected the value in the meantime."""
    fields = [
        {"id": "amount", "type": "Numeric"},
        {"id": "must", "type": "Text", "required": True},
        {"id": "secret", "type": "Text", "hidden": hidden},
    ]
    await racing.make("stores", {"name": "orders", "fields": fields})
    id = await racing.make("orders", {"amount": 1, "must": "x"})
    await racing.spoil("orders", id, spoiled)
    entities, me = racing.hub.entities, racing.principal
    body = await racing.see("orders", id) | {"secret": "s"}
    racing.before("commit", lambda: entities.change(me, "orders", id, mended, None))
    with pytest.raises(InvalidEntity):
        await entities.replace(me, "orders", id, body, None)
    assert mended.items() <= (await racing.see("orders", id)).items()
    fitting = await racing.see("orders", id)
    await entities.replace(me, "orders", id, fitting, None)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ([{"id": "name", "type": "Text"}], "code"),
        ([{"id": "name", "type": "Text", "required": True}, {"id": "code", "type": "Text"}], "name"),
    ],
    ids=["a removed field", "a required field"],
)
async def test_what_is_written_just_before_a_definition_changes_stands_against_it(
    racing: Racing, fields: list[Entity], at_fault: str
) -> None:
    """The definition is refused although no entity violated it when the entities were counted."""
    before = [{"id": "name", "type": "Text"}, {"id": "code", "type": "Text"}]
    store = await racing.make("stores", {"name": "orders", "fields": before})
    racing.before("define", lambda: racing.make("orders", {"code": "c"}))
    with pytest.raises(DataConflict) as refusal:
        await racing.hub.entities.change(racing.principal, "stores", store, {"fields": fields}, None)
    assert [*refusal.value.found] == [at_fault]
    assert [field["id"] for field in (await racing.see("stores", store))["fields"]] == ["name", "code"]


NAME = {"id": "name", "type": "Text", "unique": True}
NUMBER = {"id": "n", "type": "Number"}
MORE = {"name": "b", "n": "text"}

Writing = Callable[[Racing, str], Awaitable[Any]]
WRITES: dict[str, tuple[str, Writing]] = {
    "create": ("commit", lambda r, order: r.hub.entities.create(r.principal, "orders", [MORE])),
    "create several": ("commit", lambda r, order: r.hub.entities.create(r.principal, "orders", [{"name": "c"}, MORE])),
    "change": ("commit", lambda r, order: r.hub.entities.change(r.principal, "orders", order, MORE, None)),
    "replace": ("commit", lambda r, order: r.hub.entities.replace(r.principal, "orders", order, MORE, None)),
    "upsert": ("commit", lambda r, order: r.hub.entities.upsert(r.principal, "orders", "name", [MORE])),
    "bulk": (
        "commit",
        lambda r, order: r.hub.entities.change_matches(r.principal, "orders", EVERYTHING, {"n": "text"}),
    ),
}


@pytest.mark.parametrize(
    ("write", "definition"),
    [*((write, {"open": False}) for write in WRITES), ("create", {"fields": [NAME, NUMBER]})],
    ids=[*WRITES, "create under a new type"],
)
async def test_values_checked_against_the_former_definition_are_checked_again(
    racing: Racing, write: str, definition: Entity
) -> None:
    """Otherwise they would be answered with 200, and be invalid or in no list."""
    store = await racing.make("stores", {"name": "orders", "fields": [NAME], "open": True})
    id = await racing.make("orders", {"name": "a"})
    method, perform = WRITES[write]
    racing.before(method, lambda: racing.hub.entities.change(racing.principal, "stores", store, definition, None))
    with pytest.raises(InvalidEntity) as refusal:
        await perform(racing, id)
    assert {violation.field.rpartition(".")[2] for violation in refusal.value.violations} == {"n"}
    assert [entity["name"] for entity in await racing.hub.engine.entities("orders", Query())] == ["a"]


async def test_values_that_fit_the_new_definition_are_written(racing: Racing) -> None:
    store = await racing.make("stores", {"name": "orders", "fields": [NAME], "open": True})
    change = {"fields": [NAME, NUMBER], "open": False}
    racing.before("commit", lambda: racing.hub.entities.change(racing.principal, "stores", store, change, None))
    id = await racing.make("orders", {"name": "a", "n": 5})
    assert (await racing.see("orders", id))["n"] == 5


@pytest.mark.gate("sqlite", "mongodb")
async def test_values_for_a_store_that_was_deleted_and_defined_again(racing: Racing) -> None:
    store = await racing.make("stores", {"name": "orders", "open": True})

    async def define_again() -> None:
        await racing.hub.entities.delete(racing.principal, "stores", store, None)
        await racing.make("stores", {"name": "orders", "fields": [NAME]})

    racing.before("commit", define_again)
    with pytest.raises(InvalidEntity):
        await racing.make("orders", MORE)


async def test_the_later_of_two_definitions_of_one_name_leaves_the_earlier_in_force(racing: Racing) -> None:
    """The store that is refused leaves no unique path of its own, and takes none from the store that was created."""
    racing.before("define", lambda: racing.make("stores", {"name": "orders", "unique": ["code"]}))
    with pytest.raises(DuplicateValue):
        await racing.make("stores", {"name": "orders", "unique": ["n"]})
    await racing.make("orders", {"code": "a", "n": 1})
    await racing.make("orders", {"code": "b", "n": 1})
    with pytest.raises(DuplicateValue):
        await racing.make("orders", {"code": "a", "n": 2})


@pytest.mark.gate("sqlite", "mongodb")
async def test_writes_in_progress_while_the_definition_changes(racing: Racing) -> None:
    """They are refused, or the definition is: no value is left that the definition does not allow."""
    for number in range(12):
        name = f"orders{number}"
        store = await racing.make("stores", {"name": name, "fields": [NAME], "open": True})
        writes: list[asyncio.Task[str]] = []

        async def write_meanwhile(
            name: str = name, number: int = number, writes: list[asyncio.Task[str]] = writes
        ) -> None:
            writes.extend(asyncio.create_task(racing.make(name, {"name": f"{i}", "n": "text"})) for i in range(8))
            await asyncio.sleep(0.0005 * number)

        racing.before("define", write_meanwhile)
        closing = racing.hub.entities.change(racing.principal, "stores", store, {"open": False}, None)
        [closed] = await asyncio.gather(closing, return_exceptions=True)
        written = await asyncio.gather(*writes, return_exceptions=True)
        refused = sum(isinstance(outcome, InvalidEntity) for outcome in written)
        left = len(await racing.hub.engine.entities(name, Query()))
        assert refused + left == 8
        assert isinstance(closed, DataConflict) if left else isinstance(closed, tuple)


async def test_more_changes_before_the_commit_than_one_read_of_the_feed_returns(
    racing: Racing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A definition that waits for an index does not begin again because others write meanwhile."""
    store = await racing.make("stores", {"name": "orders", "fields": [NAME], "open": True})
    await racing.make("stores", {"name": "others"})

    engine: Any = racing.hub.engine
    define, commits = engine.define, 0

    async def define_among_writes(*definitions: Any, **more: Any) -> Any:
        nonlocal commits
        if more.get("writes"):
            commits += 1
            bodies = [{"n": n} for n in range(1_001)]
            await racing.hub.entities.create(racing.principal, "others", bodies)
        return await define(*definitions, **more)

    monkeypatch.setattr(engine, "define", define_among_writes)
    await racing.hub.entities.change(racing.principal, "stores", store, {"open": False}, None)
    assert commits == 1
    assert not (await racing.see("stores", store))["open"]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.engine("mongodb")  # on SQLite no write lasts beyond its own commit
async def test_a_write_in_progress_that_does_not_end(racing: Racing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of its definition gives up, and later writes go on."""
    assert isinstance(racing.hub.engine, MongoEngine)
    monkeypatch.setattr(definition_gate, "LONGEST_STOP", 0.1)
    store = await racing.make("stores", {"name": "orders", "fields": [NAME]})
    definition = racing.hub.registry.get("orders")
    gate = racing.hub.engine._committer._gate
    async with gate.relying_on(definition):
        with pytest.raises(Unavailable, match="have not ended"):
            await racing.hub.entities.change(racing.principal, "stores", store, {"fields": [NAME, NUMBER]}, None)
        await racing.make("orders", {"name": "a"})
    await racing.hub.entities.change(racing.principal, "stores", store, {"fields": [NAME, NUMBER]}, None)
    await racing.make("orders", {"name": "b", "n": 1})
    assert not gate._definitions.relying
    assert not gate._definitions.changes


REFERS: Entity = {"fields": [{"id": "to", "type": "Reference", "store": "items", "by": "code"}]}


async def referring(racing: Racing) -> tuple[str, str, str]:
    """Return the ids of a definition, of an entity, and of an item whose code the entity has."""
    await racing.make("stores", {"name": "items", "fields": [CODE]})
    store = await racing.make("stores", {"name": "orders", "open": True})
    item, _ = [await racing.make("items", {"code": code}) for code in "ab"]
    return store, await racing.make("orders", {"to": "a"}), item


CODE = {"id": "code", "type": "Text", "unique": True}
LOSSES: dict[str, Callable[[Racing, str], Awaitable[Any]]] = {
    "delete": lambda r, item: r.hub.entities.delete(r.principal, "items", item, None),
    "delete all": lambda r, item: r.hub.entities.delete_matches(r.principal, "items", Equal(("code",), "a")),
    "change": lambda r, item: r.hub.entities.change(r.principal, "items", item, {"code": "c"}, None),
    "replace": lambda r, item: r.hub.entities.replace(r.principal, "items", item, {}, None),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_target_that_goes_before_a_field_refers_to_it_stands_against_that(racing: Racing, loss: str) -> None:
    """Although it was there when the entities were counted."""
    store, _, item = await referring(racing)
    racing.before("define", lambda: LOSSES[loss](racing, item))
    with pytest.raises(DataConflict) as refusal:
        await racing.hub.entities.change(racing.principal, "stores", store, REFERS, None)
    assert [*refusal.value.found] == ["to"]


@pytest.mark.parametrize(("code", "counts"), [("a", 2), ("b", 1)])
async def test_a_target_that_goes_while_entities_are_counted(
    racing: Racing, monkeypatch: pytest.MonkeyPatch, code: str, counts: int
) -> None:
    """They are counted again only if one of them refers to it."""
    store, _, _ = await referring(racing)
    count, counted = existing_references._count, 0

    async def count_before_deletion(*arguments: Any) -> int:
        nonlocal counted
        counted += 1
        found = await count(*arguments)
        await racing.hub.entities.delete_matches(racing.principal, "items", Equal(("code",), code))
        return found

    monkeypatch.setattr(existing_references, "_count", count_before_deletion)
    changing = racing.hub.entities.change(racing.principal, "stores", store, REFERS, None)
    [outcome] = await asyncio.gather(changing, return_exceptions=True)
    assert isinstance(outcome, DataConflict) is (code == "a")
    assert counted == counts


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("loss", LOSSES)
async def test_a_target_does_not_go_after_a_field_has_come_to_refer_to_it(racing: Racing, loss: str) -> None:
    """Although nothing referred to it when its deletion was prepared."""
    store, order, item = await referring(racing)
    changing = lambda: racing.hub.entities.change(racing.principal, "stores", store, REFERS, None)
    racing.before("commit", changing)
    with pytest.raises(DataConflict):
        await LOSSES[loss](racing, item)
    assert (await racing.see("items", item))["code"] == "a"
    await racing.hub.entities.change(racing.principal, "stores", store, {"fields": []}, None)
    await racing.hub.entities.change(racing.principal, "orders", order, {"to": None}, None)
    await LOSSES[loss](racing, item)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_batch_sees_that_a_field_has_come_to_refer_to_a_target(racing: Racing) -> None:
    store, _, item = await referring(racing)
    racing.before("commit", lambda: racing.hub.entities.change(racing.principal, "stores", store, REFERS, None))
    with pytest.raises(RequestFailed) as failure:
        await racing.hub.batch.run(racing.principal, [BatchRequest("DELETE", "items", item)], 0, None)
    assert isinstance(failure.value.__cause__, DataConflict)


async def test_a_user_does_not_go_after_a_field_has_come_to_refer_to_users(racing: Racing) -> None:
    store = await racing.make("stores", {"name": "orders", "open": True})
    user = await racing.make("users", {"login": "ann", "name": "Ann"})
    await racing.make("orders", {"to": "ann"})
    entities, me = racing.hub.entities, racing.principal
    by_login = {"fields": [{"id": "to", "type": "Reference", "store": "users", "by": "login"}]}
    for write in (
        lambda: entities.delete(me, "users", user, None),
        lambda: entities.change(me, "users", user, {"login": "bob"}, None),
    ):
        racing.before("commit", lambda: entities.change(me, "stores", store, by_login, None))
        with pytest.raises(DataConflict):
            await write()
        assert (await racing.see("users", user))["login"] == "ann"
        await entities.change(me, "stores", store, {"fields": []}, None)


KEYED: list[Entity] = [{"id": "code", "type": "Text", "unique": True}]
UNFIT: list[Entity] = [
    {"fields": [{"id": "code", "type": "Text"}]},
    {"fields": [{"id": "code", "type": "Number", "unique": True}], "data": {"convert": ["code"]}},
    {"fields": [{"id": "code", "type": "Number", "unique": True}], "data": {"convert": ["code"], "steps": True}},
]
BY_CODE: Entity = {"fields": [{"id": "customer", "type": "Reference", "store": "customers", "by": "code"}]}


async def keyed(racing: Racing) -> tuple[str, str]:
    """Make a customer; return the ids of the definitions of customers and orders."""
    customers = await racing.make("stores", {"name": "customers", "fields": KEYED})
    await racing.make("customers", {"code": "1"})
    return customers, await racing.make("stores", {"name": "orders", "fields": [{"id": "name", "type": "Text"}]})


@pytest.mark.parametrize("unfit", UNFIT, ids=["not unique", "other values", "other values in steps"])
async def test_a_key_is_not_changed_after_a_field_has_come_to_refer_by_it(racing: Racing, unfit: Entity) -> None:
    customers, orders = await keyed(racing)
    entities, me = racing.hub.entities, racing.principal

    async def refer() -> None:
        await entities.change(me, "stores", orders, BY_CODE, None)
        await racing.make("orders", {"customer": "1"})

    racing.before("define", refer)
    with pytest.raises(DataConflict):
        await entities.change(me, "stores", customers, unfit, None)
    assert (await racing.see("stores", customers))["fields"] == KEYED


async def test_a_field_does_not_come_to_refer_by_what_is_no_key_any_more(racing: Racing) -> None:
    customers, orders = await keyed(racing)
    entities, me = racing.hub.entities, racing.principal
    racing.before("define", lambda: entities.change(me, "stores", customers, UNFIT[0], None))
    with pytest.raises(InvalidEntity):
        await entities.change(me, "stores", orders, BY_CODE, None)
    assert [field["id"] for field in (await racing.see("stores", orders))["fields"]] == ["name"]


@pytest.mark.engine("mongodb")  # on SQLite a commit does not wait once it has begun
@pytest.mark.parametrize("loss", LOSSES)
async def test_a_commit_that_waits_learns_that_a_field_has_come_to_refer_to_its_store(
    racing: Racing, loss: str
) -> None:
    """Although nothing did when the commit began to wait for its turn."""
    store, _, item = await referring(racing)
    committer: Any = racing.hub.engine._committer  # type: ignore[attr-defined]
    attempt = committer._attempt

    async def after_the_change(*arguments: Any) -> Any:
        committer._attempt = attempt
        await racing.hub.entities.change(racing.principal, "stores", store, REFERS, None)
        return await attempt(*arguments)

    committer._attempt = after_the_change
    with pytest.raises(DataConflict):
        await LOSSES[loss](racing, item)
    assert (await racing.see("items", item))["code"] == "a"


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("loss", LOSSES)
async def test_a_field_does_not_come_to_refer_to_what_is_being_removed(racing: Racing, loss: str) -> None:
    """The change of the definition waits for the commit that is in progress."""
    store, _, item = await referring(racing)
    changes = change_during_write(racing, "items", store, REFERS)
    await LOSSES[loss](racing, item)
    with pytest.raises(DataConflict) as refusal:
        await changes[0]
    assert [*refusal.value.found] == ["to"]


def change_during_write(racing: Racing, to: str, definition: str, body: Entity) -> list[asyncio.Task[Any]]:
    """Begin to change a definition just before the next write to a store, in its commit. Return the list that then
    holds the task."""
    writing: Any = WriteExecutor.write
    gate: Any = racing.hub.engine._committer._gate  # type: ignore[attr-defined]
    changes: list[asyncio.Task[Any]] = []

    async def waits() -> bool:
        return changes[0].done() or bool(gate._targets.changes)

    async def write_late(writer: Any, write: Any) -> Any:
        if write.store == to and not changes:
            changes.append(
                asyncio.create_task(racing.hub.entities.change(racing.principal, "stores", definition, body, None))
            )
            await eventually(waits)
            await asyncio.wait(changes, timeout=0.2)
        return await writing(writer, write)

    racing.monkeypatch.setattr(WriteExecutor, "write", write_late)
    return changes


@pytest.mark.engine("mongodb")
async def test_a_change_of_a_definition_that_waits_for_another_one_takes_no_room(racing: Racing) -> None:
    """It would keep the room in the server's cache from all large writes, the other change among them."""
    store = await racing.make("stores", {"name": "orders", "fields": [NAME]})
    committer: Any = racing.hub.engine._committer  # type: ignore[attr-defined]
    racing.monkeypatch.setattr(commits, "is_large", lambda writes: True)
    async with committer._gate.changing([Update("stores", store, {})]):
        body = {"fields": [NAME, NUMBER]}
        change = asyncio.create_task(racing.hub.entities.change(racing.principal, "stores", store, body, None))
        await eventually(waiting_for(committer))
        async with asyncio.timeout(5):
            await committer._large.acquire()
        committer._large.release()
        assert not change.done()
    await change
    assert (await racing.see("stores", store))["fields"][1]["id"] == "n"


def waiting_for(committer: Any) -> Callable[[], Awaitable[bool]]:
    """Return the condition that a commit has got its turn."""

    async def condition() -> bool:
        await asyncio.sleep(0.1)
        return bool(committer._running)

    return condition


@pytest.mark.engine("mongodb")
async def test_a_batch_and_a_definition_do_not_wait_for_each_other(racing: Racing) -> None:
    """The batch writes to the store whose definition changes, and to the one to which it comes to refer."""
    store = await racing.make("stores", {"name": "orders", "open": True})
    await racing.make("stores", {"name": "items", "fields": [CODE], "open": True})
    requests = [BatchRequest("PATCH", name, await racing.make(name, {}), {"n": 1}) for name in ("orders", "items")]
    committer: Any = racing.hub.engine._committer  # type: ignore[attr-defined]
    attempt = committer._attempt
    changes: list[asyncio.Task[Any]] = []

    async def during_the_change(*arguments: Any) -> Any:
        committer._attempt = attempt
        body = REFERS | {"open": True}
        changes.append(asyncio.create_task(racing.hub.entities.change(racing.principal, "stores", store, body, None)))
        await eventually(waiting_changes(committer))
        return await attempt(*arguments)

    committer._attempt = during_the_change
    racing.monkeypatch.setattr(definition_gate, "LONGEST_STOP", 1.0)
    assert len(await racing.hub.batch.run(racing.principal, requests, 0, None)) == 2
    await changes[0]


def waiting_changes(committer: Any) -> Callable[[], Awaitable[bool]]:
    """Return the condition that a definition is being changed and comes to refer to a store."""

    async def condition() -> bool:
        return bool(committer._gate._definitions.changes and committer._gate._targets.changes)

    return condition


@pytest.mark.engine("mongodb")
async def test_a_change_of_a_definition_keeps_no_room_from_those_for_whom_it_waits(racing: Racing) -> None:
    """They have begun while it waited for the room."""
    store = await racing.make("stores", {"name": "orders", "fields": [NAME]})
    committer: Any = racing.hub.engine._committer  # type: ignore[attr-defined]
    racing.monkeypatch.setattr(commits, "is_large", lambda writes: True)
    racing.monkeypatch.setattr(definition_gate, "LONGEST_STOP", 1.0)

    async def waits_for_room() -> bool:
        return bool(committer._large._waiters)

    await committer._large.acquire()
    body = {"fields": [NAME, NUMBER]}
    change = asyncio.create_task(racing.hub.entities.change(racing.principal, "stores", store, body, None))
    await eventually(waits_for_room)
    async with committer._gate.relying_on(racing.hub.registry.get("orders")):
        committer._large.release()
        await committer._large.acquire()
    committer._large.release()
    await change


HELD: Entity = {"fields": [{"id": "item", "type": "Reference", "store": "items"}, {"id": "n", "type": "Text"}]}
AS_NUMBER: Entity = {"fields": [HELD["fields"][0], NUMBER], "data": {"convert": ["n"]}}
OTHERWISE: Entity = {"fields": [HELD["fields"][0] | {"on_delete": "clear"}, HELD["fields"][1]]}


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize(("body", "waits"), [(AS_NUMBER, False), (OTHERWISE, True)], ids=["as before", "otherwise"])
async def test_a_change_of_a_definition_holds_no_store_to_which_it_refers_as_before(
    racing: Racing, body: Entity, waits: bool
) -> None:
    """A conversion of many orders takes long. Customers are changed and deleted meanwhile."""
    await racing.make("stores", {"name": "items", "fields": [CODE]})
    store = await racing.make("stores", {"name": "orders", **HELD})
    await racing.make("orders", {"n": "1", "item": await racing.make("items", {"code": "b"})})
    item = await racing.make("items", {"code": "a"})
    entities, me, writing = racing.hub.entities, racing.principal, WriteExecutor.write
    writes: list[asyncio.Task[Any]] = []

    async def write_later(writer: Any, write: Any) -> Any:
        if write.store == "stores" and not writes:
            writes.append(asyncio.create_task(entities.change(me, "items", item, {"code": "c"}, None)))
            await asyncio.wait(writes, timeout=0.3 if waits else 5)
            assert writes[0].done() is not waits
        return await writing(writer, write)

    racing.monkeypatch.setattr(WriteExecutor, "write", write_later)
    await entities.change(me, "stores", store, body, None)
    await writes[0]
    await entities.delete(me, "items", item, None)


@pytest.mark.engine("mongodb")
async def test_a_change_of_a_definition_waits_for_all_others_together(racing: Racing) -> None:
    """Not as long for each: writes to the first store would wait for those to all others."""
    racing.monkeypatch.setattr(definition_gate, "LONGEST_STOP", 0.3)
    gate = definition_gate.DefinitionGate()
    writes = [Update("stores", "id", {}, targets=frozenset("abc"))]

    async def rely(key: str, seconds: float) -> None:
        with gate._targets.relied_on((key,)):
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as tasks:
        for number, key in enumerate("abc"):
            tasks.create_task(rely(key, 0.2 * (number + 1)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="have not ended"):
            async with gate.changing(writes):
                pass
        assert not gate._targets.changes


@pytest.mark.engine("mongodb")
async def test_what_goes_with_a_user_is_not_referred_to_meanwhile(racing: Racing) -> None:
    by_user: Entity = {"id": "by", "type": "Reference", "store": "users", "on_delete": "cascade"}
    await racing.make("stores", {"name": "orders", "fields": [by_user]})
    lines = await racing.make("stores", {"name": "lines", "open": True})
    user = await racing.make("users", {"login": "ann", "name": "Ann"})
    await racing.make("lines", {"order": await racing.make("orders", {"by": user})})
    refers: Entity = {"fields": [{"id": "order", "type": "Reference", "store": "orders"}]}
    changes = change_during_write(racing, "users", lines, refers)
    await racing.hub.entities.delete(racing.principal, "users", user, None)
    with pytest.raises(DataConflict):
        await changes[0]


@pytest.mark.engine("mongodb")
async def test_what_goes_in_a_batch_is_not_referred_to_meanwhile(racing: Racing) -> None:
    """Also what goes with entities of a store to which the batch writes itself."""
    cascade = {"type": "Reference", "on_delete": "cascade"}
    await racing.make("stores", {"name": "items"})
    fields = [{"id": "item", "store": "items", **cascade}]
    await racing.make("stores", {"name": "orders", "fields": fields, "open": True})
    await racing.make("stores", {"name": "lines", "fields": [{"id": "order", "store": "orders", **cascade}]})
    notes = await racing.make("stores", {"name": "notes", "open": True})
    item = await racing.make("items", {})
    order, other = await racing.make("orders", {"item": item}), await racing.make("orders", {})
    await racing.make("notes", {"line": await racing.make("lines", {"order": order})})
    refers: Entity = {"fields": [{"id": "line", "type": "Reference", "store": "lines"}]}
    changes = change_during_write(racing, "items", notes, refers)
    requests = [BatchRequest("PATCH", "orders", other, {"n": 1}), BatchRequest("DELETE", "items", item)]
    assert len(await racing.hub.batch.run(racing.principal, requests, 0, None)) == 2
    with pytest.raises(DataConflict):
        await changes[0]
