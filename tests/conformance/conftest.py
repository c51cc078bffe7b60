"""Every test of the contract finds an engine with one open store."""

from __future__ import annotations

import pytest

from stores.protocol import Engine
from stores.schema import StoreDefinition
from tests.support.entities import STORE


@pytest.fixture
async def engine(engine: Engine) -> Engine:
    """An engine whose store `things` takes any entity, and whose `code` is unique."""
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    return engine
