"""Positions reveal nothing that their holder may not see, and stay valid."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.platform.answers import good
from tests.support.engines import Database
from tests.support.hub import Client, running_hub


def holds(position: str, id: str) -> bool:
    """Return whether a position contains the id, as text or in the decoded bytes of any of its parts."""
    parts = [part for piece in position.split("~") for part in piece.split(".")]
    return id in position or any(bytes.fromhex(id) in decoded(part) for part in [*parts, *(p[1:] for p in parts)])


def decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""


async def changes(client: Client, store: str, since: str) -> Any:
    return good(await client.get(f"/{store}", {"since": since}))


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_position_tells_no_id_and_is_good_in_every_process(database: Database, tmp_path: Path) -> None:
    """It is valid after a restart, in another process with the same key, and after changes that its holder cannot
    see."""
    async with running_hub(database, tmp_path / "one") as hub:
        store = await hub.define()
        user = await hub.as_user()
        since = (await user.get(f"/{store}")).headers["x-position"]
        mine = await user.make(store, n=1)
        secret = await hub.admin.make(store, n=2)
        delta = await changes(user, store, since)
        assert [change["_id"] for change in delta["changes"]] == [mine["_id"]]
        positions = [delta["position"], *(change["position"] for change in delta["changes"])]
        for position in positions:
            assert not holds(position, secret["_id"])
            assert not holds(position, mine["_id"])
        token = user.http.headers["authorization"].removeprefix("Bearer ")
    async with running_hub(database, tmp_path / "two") as hub:
        again = hub.client(token)
        for position in positions:
            assert (await changes(again, store, position))["changes"] == []
        later = await again.make(store, n=3)
        for position in positions:
            assert [c["_id"] for c in (await changes(again, store, position))["changes"]] == [later["_id"]]
