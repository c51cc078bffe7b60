"""Fixtures of the contract tests: an engine with one store."""

from __future__ import annotations

import pytest

from stores.protocol import Engine
from stores.schema import StoreDefinition
from tests.support.entities import STORE


@pytest.fixture
async def engine(engine: Engine) -> Engine:
    """An engine with the store `things`, which has no schema and a unique `code`."""
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    return engine
