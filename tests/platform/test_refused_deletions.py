"""A store whose deletion the database refuses is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import apsw
import pytest

from tests.support.hub import StartHub

pytestmark = pytest.mark.engine("sqlite")


@contextmanager
def definitions_stay(path: str) -> Iterator[None]:
    """The file refuses to let a definition go while the block runs, as it does when the disk is full."""
    with closing(apsw.Connection(path)) as connection:
        connection.set_busy_timeout(10_000)
        refusal = "SELECT RAISE(ABORT, 'it stays')"
        connection.execute(f"CREATE TRIGGER kept BEFORE DELETE ON e_stores BEGIN {refusal}; END")
        yield
        connection.execute("DROP TRIGGER kept")


async def test_a_store_whose_deletion_fails_keeps_its_storage(sqlite_hub: StartHub) -> None:
    hub = await sqlite_hub()
    store = await hub.define(unique=["code"])
    [definition] = await hub.admin.list("stores", {"name": store})
    with definitions_stay(hub.database.location):
        assert (await hub.admin.delete(f"/stores/{definition['_id']}")).status_code != 200
    assert await hub.admin.list("stores", {"name": store}) == [definition]
    made = await hub.admin.make(store, code="a")
    assert (await hub.admin.post(f"/{store}", {"code": "a"})).status_code == 409
    assert await hub.admin.list(store) == [made]
