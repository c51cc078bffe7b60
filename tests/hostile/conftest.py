"""A separate hub for each attack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.engines import Database
from tests.support.hub import DEFAULT_HASHES, Hub, running_hub


@pytest.fixture
async def hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    """A fresh hub with the default limits, on each engine."""
    async with running_hub(database, tmp_path / "hub", password_memory_kib=DEFAULT_HASHES) as hub:
        yield hub
