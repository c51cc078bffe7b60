"""Writes of another process of the hub by a definition that has just been changed with its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.app import assemble
from hub.services import late_writes
from hub.settings import Settings
from stores.query import Query, Sort
from stores.records import Change, Entity
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, eventually
from tests.support.racing import Racing

pytestmark = pytest.mark.engine("mongodb")  # a SQLite file has one process

OLD: list[Entity] = [{"id": "margin", "type": "Number"}, {"id": "amount", "type": "Text"}]
NEW: Entity = {
    "fields": [
        {"id": "profit", "type": "Number"},
        {"id": "amount", "type": "Number"},
        {"id": "number", "type": "Serial"},
    ],
    "data": {"rename": {"margin": "profit"}, "convert": ["amount"], "fill": ["number"]},
}
ORDERS = Query(sort=(Sort(("time",)), Sort(("_id",))), limit=10)


async def test_what_another_process_writes_by_the_former_definition_is_changed(
    racing: Racing, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after it was written. What cannot be changed is left, and logged."""
    monkeypatch.setattr(late_writes, "LOOKS", (0.3, 0.3))
    store = await racing.make("stores", {"name": "orders", "fields": OLD})
    await racing.make("orders", {"margin": 1, "amount": "1"})
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": database.location, "secret_key": SECRET_KEY}
    other = assemble(Settings(data_dir=tmp_path / "other", **secrets))  # type: ignore[arg-type]

    async def hear_nothing(changes: list[Change]) -> None:
        pass

    monkeypatch.setattr(other.registry, "follow", hear_nothing)
    async with other.run():
        admin = await other.resolver.resolve(other.control_token)
        await racing.hub.entities.change(racing.principal, "stores", store, NEW, None)
        await other.entities.create(admin, "orders", [{"margin": 2, "amount": "2"}, {"margin": 3, "amount": "x"}])

        async def mended() -> bool:
            found = await racing.hub.engine.entities("orders", ORDERS)
            kept = [(e.get("profit"), e["amount"], e.get("number"), e.get("margin")) for e in found]
            return kept == [(1, 1, 1, None), (2, 2, 2, None), (None, "x", None, 3)]

        await eventually(mended)
