"""Failures of the parts that live sessions depend on: a client either misses nothing or is notified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from auth.principal import Principal
from auth.resolver import Resolver
from hub.app import assemble
from hub.running import Hub
from hub.settings import Settings
from realtime import session
from realtime.session import LiveSession
from stores.errors import Unavailable
from stores.protocol import Batch
from stores.query import Equal, Query
from stores.records import Change
from tests.support.ear import PASSWORD, Ear
from tests.support.hub import eventually


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """The parts of a running hub, in this process."""
    made = assemble(Settings(data_dir=tmp_path, admin_password=PASSWORD))  # type: ignore[arg-type]
    async with made.run():
        yield made


@dataclass
class Listener:
    """A session of the administrator that watches notes."""

    hub: Hub
    principal: Principal
    session: LiveSession
    ear: Ear

    async def subscribe(self) -> None:
        answers: list[bytes] = []
        await self.session.request("subscribe", {"store": "notes"}, answers.append)
        assert orjson.loads(answers[0])["ok"], answers

    async def write(self, text: str) -> None:
        await self.hub.entities.create(self.principal, "notes", [{"text": text}])

    def heard(self) -> list[str]:
        return [note["text"] for note in self.ear.changes()]

    async def hears(self, *texts: str) -> None:
        async def has_heard() -> bool:
            return len(self.heard()) >= len(texts)

        await eventually(has_heard)
        assert self.heard() == [*texts]


@pytest.fixture
async def listener(hub: Hub) -> Listener:
    principal = await hub.resolver.resolve(hub.control_token)
    await hub.entities.create(principal, "stores", [{"name": "notes"}])
    ear = Ear()
    made = Listener(hub, principal, LiveSession(hub.session_registry.context, ear, principal, hub.control_token), ear)
    hub.session_registry.open(made.session)
    await made.subscribe()
    await made.write("first")
    await made.hears("first")
    return made


class AwayAtFirst:
    """A resolver whose database is unavailable for the first `times` calls."""

    def __init__(self, resolver: Resolver, times: int) -> None:
        self._resolver = resolver
        self.times = times

    async def resolve(self, credential: str) -> Principal:
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("the database is away")
        return await self._resolver.resolve(credential)


async def test_a_principal_changes_while_the_database_is_away(
    hub: Hub, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session waits until it can resolve the principal again, and misses nothing."""
    monkeypatch.setattr(session, "RETRY_SECONDS", 0.01)
    away = AwayAtFirst(hub.resolver, times=3)
    hub.session_registry.context.resolver = away  # type: ignore[assignment]
    await hub.entities.change(listener.principal, "users", listener.principal.user_id, {"login": "renamed"}, None)
    await listener.write("second")
    await listener.hears("first", "second")
    assert away.times < 0
    await listener.write("third")
    await listener.hears("first", "second", "third")


async def test_a_change_that_cannot_be_handed_out(
    hub: Hub, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect ends every subscription with 410 and is logged; it does not end the feed."""

    async def fail(change: Change) -> None:
        hub.session_registry.context.fanout.listeners.remove(fail)
        raise ZeroDivisionError("a defect")

    hub.session_registry.context.fanout.listeners.append(fail)
    await listener.write("lost")

    async def is_told() -> bool:
        return any(name == "ended" for name, _ in listener.ear.said)

    await eventually(is_told)
    ended = next(payload for name, payload in listener.ear.said if name == "ended")
    assert ended["error"]["code"] == "410"
    assert "a defect" in caplog.text
    await listener.subscribe()
    await listener.write("second")
    await listener.hears("first", "second")


async def test_a_request_ends_when_its_client_leaves(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subscription is in no channel and has no name, although it began after the client had left."""
    feed = listener.hub.engine.feed
    find = feed.position
    channels = len(listener.hub.session_registry.context.fanout.channels)

    async def position() -> str:
        listener.ear.closed = True
        return await find()

    monkeypatch.setattr(feed, "position", position)
    answers: list[bytes] = []
    held = listener.session
    await held.request("subscribe", {"store": "notes", "filter": {"n": 1}}, answers.append)
    assert answers == []
    assert held.subscriptions.count == 1
    assert len(listener.hub.session_registry.context.fanout.channels) == channels


@pytest.mark.parametrize(("error", "code"), [(Unavailable("the database is away"), "503"), (KeyError("x"), "500")])
async def test_what_fails_after_the_acknowledgement(
    hub: Hub,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: str,
) -> None:
    """The subscription has been acknowledged, so the client receives `ended`."""
    fanout, answers = hub.session_registry.context.fanout, list[bytes]()
    request = {"store": "notes", "since": listener.ear.said[-1][1]["position"]}
    await listener.write("second")
    await listener.hears("first", "second")
    read, is_first = fanout.missed.read_after, iter((True, False))

    async def read_after(position: str, *wanted: Any) -> Batch:
        if next(is_first):
            return await read(position)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(fanout.missed, "read_after", read_after)
        await listener.session.request("subscribe", request, answers.append)
    assert [orjson.loads(answer)["ok"] for answer in answers] == [True]
    name, payload = listener.ear.said[-1]
    assert (name, payload["error"]["code"]) == ("ended", code)
    assert ("Traceback" in caplog.text) is (code == "500")
    await listener.session.request("subscribe", request, answers.append)
    await listener.hears("first", "second", "second")


async def test_a_principal_that_cannot_be_read(hub: Hub, listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """After a defect in the resolver the views end with an error, and no request is answered with the old principal."""

    class Broken:
        async def resolve(self, credential: str) -> Principal:
            raise ZeroDivisionError("a defect")

    resolver, answers = hub.resolver, list[bytes]()
    hub.session_registry.context.resolver = Broken()  # type: ignore[assignment]
    await hub.entities.change(listener.principal, "users", listener.principal.user_id, {"login": "renamed"}, None)

    async def is_told() -> bool:
        return listener.ear.said[-1][0] == "ended"

    await eventually(is_told)
    assert listener.ear.said[-1][1]["error"]["code"] == "500"
    assert "a defect" in caplog.text
    await listener.session.request("subscribe", {"store": "notes"}, answers.append)
    assert orjson.loads(answers[0])["error"]["code"] == "500"
    hub.session_registry.context.resolver = resolver
    await listener.subscribe()
    await listener.write("second")
    await listener.hears("first", "second")


async def test_a_request_whose_read_is_cancelled_is_refused(
    hub: Hub, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read is shared with others, and ended with them. The session goes on."""

    async def cancelled() -> str:
        raise asyncio.CancelledError

    answers: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(hub.engine.feed, "position", cancelled)
        await listener.session.request("subscribe", {"store": "notes", "filter": {"n": 1}}, answers.append)
    assert orjson.loads(answers[0])["error"]["code"] == "503"
    await listener.write("second")
    await listener.hears("first", "second")


async def test_a_snapshot_during_which_others_write_is_read_once(
    hub: Hub, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fan-out moves on while a long list is read. The list need not be newer than what it delivers meanwhile."""
    find, reads, answers = hub.engine.find, list[int](), list[bytes]()

    async def slow_find(*args: Any, **more: Any) -> Any:
        found = await find(*args, **more)
        reads.append(1)
        await listener.write("meanwhile")
        await listener.hears("first", "meanwhile")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hub.engine, "find", slow_find)
        request = {"store": "notes", "filter": {"text": {"$ne": "x"}}, "snapshot": True}
        await listener.session.request("subscribe", request, answers.append)
    assert (orjson.loads(answers[0])["ok"], len(reads)) == (True, 1)


async def test_a_background_job_that_dies_is_logged(
    hub: Hub, listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub logs the failure and keeps running without the job."""

    async def fail(message: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(hub.mailer, "_is_settled", fail)
    hub.mailer.send("somebody@example.com", "subject", "text")

    async def is_logged() -> bool:
        return "a background job of the hub has failed" in caplog.text

    await eventually(is_logged)
    assert "a defect" in caplog.text
    await listener.write("second")
    await listener.hears("first", "second")


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_store_that_is_redefined_while_a_subscription_begins(
    hub: Hub, listener: Listener, monkeypatch: pytest.MonkeyPatch, snapshot: bool
) -> None:
    """The subscription starts again with the new definition: it does not end before its acknowledgement, and is not
    acknowledged after its end."""
    reading, go_on, answers = asyncio.Event(), asyncio.Event(), list[bytes]()
    find, position = hub.engine.find, hub.engine.feed.position

    async def pause() -> None:
        if not reading.is_set():
            reading.set()
            await go_on.wait()

    async def slow_find(*args: Any, **more: Any) -> Any:
        found = await find(*args, **more)
        await pause()
        return found

    async def slow_position() -> str:
        found = await position()
        await pause()
        return found

    [definition] = await hub.engine.entities("stores", Query(Equal(("name",), "notes")))
    with monkeypatch.context() as patch:
        patch.setattr(hub.engine, "find", slow_find)
        patch.setattr(hub.engine.feed, "position", slow_position)
        request = {"store": "notes", "filter": {"text": {"$ne": "x"}}, "snapshot": snapshot}
        beginning = asyncio.create_task(listener.session.request("subscribe", request, answers.append))
        await reading.wait()
        fields = [{"id": "text", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}]
        await hub.entities.change(listener.principal, "stores", definition["_id"], {"fields": fields}, None)

        async def is_told() -> bool:
            return any(name == "ended" for name, _ in listener.ear.said)

        await eventually(is_told)
        go_on.set()
        await beginning
    assert orjson.loads(answers[0])["ok"], answers
    assert [name for name, _ in listener.ear.said if name == "ended"] == ["ended"]  # of the existing subscription
    await listener.write("second")
    await listener.hears("first", "second")


async def test_a_subscription_after_a_redefinition_is_not_ended_by_it(hub: Hub, listener: Listener) -> None:
    """Fan-out may meet the redefinition long after it is answered. What begins in between shows the new definition."""
    heard, go_on = asyncio.Event(), asyncio.Event()
    [definition] = await hub.engine.entities("stores", Query(Equal(("name",), "notes")))

    async def pause(change: Change) -> None:
        if change.store == "stores":
            heard.set()
            await go_on.wait()

    hub.session_registry.context.fanout.listeners.insert(0, pause)
    fields = [{"id": "text", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}]
    await hub.entities.change(listener.principal, "stores", definition["_id"], {"fields": fields}, None)
    await heard.wait()
    answers: list[bytes] = []
    request = {"store": "notes", "filter": {"text": {"$ne": "x"}}}
    await listener.session.request("subscribe", request, answers.append)
    answer = orjson.loads(answers[0])
    assert answer["ok"], answer
    go_on.set()
    await listener.write("second")
    await listener.hears("first", "second")
    assert [payload["channel"] != answer["channel"] for name, payload in listener.ear.said if name == "ended"] == [True]


async def test_resuming_while_a_redefinition_is_on_its_way_to_clients(hub: Hub, listener: Listener) -> None:
    """Existing subscriptions have ended, but the change itself is not delivered yet: one that resumes now is refused or
    ended too."""
    heard, go_on, answers = asyncio.Event(), asyncio.Event(), list[bytes]()
    [definition] = await hub.engine.entities("stores", Query(Equal(("name",), "notes")))
    position = listener.ear.said[-1][1]["position"]

    async def pause(change: Change) -> None:
        if change.store == "stores":
            heard.set()
            await go_on.wait()

    hub.session_registry.context.fanout.listeners.append(pause)
    fields = [{"id": "text", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}]
    await hub.entities.change(listener.principal, "stores", definition["_id"], {"fields": fields}, None)
    await heard.wait()
    listener.ear.said.clear()
    request = {"store": "notes", "since": position}
    await listener.session.request("subscribe", request, answers.append)
    go_on.set()

    async def is_told() -> bool:
        answer = orjson.loads(answers[0])
        ended = [payload["error"] for name, payload in listener.ear.said if name == "ended"]
        return [error["code"] for error in (ended if answer["ok"] else [answer["error"]])] == ["410"]

    await eventually(is_told)
