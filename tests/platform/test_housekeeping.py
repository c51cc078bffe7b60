"""Housekeeping: a part of it that fails every time keeps no other part from its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.app import assemble
from hub.running import Hub
from hub.settings import Settings
from stores.errors import Unavailable
from stores.protocol import Insert
from stores.query import Equal, Query
from stores.records import Entity, new_id
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, eventually

OLD: Entity = {"owner": None, "access": [], "branch": [], "time": 1, "_at": 1, "_rev": 1}


@pytest.fixture
def made(database: Database, tmp_path: Path) -> Hub:
    """The parts of a hub in this process, which keeps house all the time."""
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    made = assemble(Settings(data_dir=tmp_path, **secrets))  # type: ignore[arg-type]
    made.settings = made.settings.model_copy(update={"sweep_interval": 0.01})
    return made


async def begin(made: Hub, store: str, **fields: Any) -> str:
    """Write an entity of a system store directly."""
    id = new_id()
    await made.engine.commit([Insert(store, OLD | {"_id": id} | fields)], None)
    return id


async def ended(made: Hub, store: str, id: str) -> None:
    async def is_gone() -> bool:
        return not await made.engine.entities(store, Query(Equal(("_id",), id), limit=1))

    await eventually(is_gone, 5)


async def test_sessions_end_while_the_engine_cannot_keep_house(
    made: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(now: int) -> None:
        raise Unavailable("no room for the history")

    monkeypatch.setattr(made.engine, "sweep", fail)
    async with made.run():
        await ended(made, "sessions", await begin(made, "sessions", user=new_id(), digest="0" * 64, expires=1))
    assert "housekeeping failed: no room for the history" in [record.getMessage() for record in caplog.records]


async def test_records_of_sign_ins_go_while_sessions_cannot(made: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(now: int) -> None:
        raise OSError

    monkeypatch.setattr(type(made.accounts), "_sweep_sessions", lambda self, now: fail(now))
    async with made.run():
        await ended(made, "signins", await begin(made, "signins", result="ok", login="ada"))
