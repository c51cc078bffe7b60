"""The bound on the size of SQLite's log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stores.sqlite import log_keeper

pytestmark = pytest.mark.engine("sqlite")


async def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    """SQLite removes the log when the last connection is closed, at the end of a hub."""
    readers: Any = SimpleNamespace(streams_wait=True)
    await log_keeper.LogKeeper(tmp_path / "hub.db", readers, 1_000)._look()
    assert readers.streams_wait is False
