"""One hub per engine for the whole session; each test brings stores, users and groups of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Database, fitting_database
from tests.support.hub import Client, Hub, StartHub, running_hub
from tests.support.live import Beacon, LiveClient, live, make_beacon

Connect = Callable[..., Awaitable[LiveClient]]


@pytest.fixture(scope="session")
async def live_database(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    async with fitting_database(engine_kind, request, tmp_path_factory.mktemp("live")) as database:
        yield database


@pytest.fixture(scope="session")
async def hub(live_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """The hub that most tests share; it tells quiet clients their position every second."""
    async with running_hub(live_database, tmp_path_factory.mktemp("hub"), live_position_every=1) as hub:
        yield hub


@pytest.fixture
def admin(hub: Hub) -> Client:
    return hub.admin


@pytest.fixture
async def user(hub: Hub) -> Client:
    """Somebody new without a group or a role, who may use every store that is not a system store."""
    return await hub.as_user()


@pytest.fixture
async def store(hub: Hub) -> str:
    """A new store that takes any entity; its `code` is unique."""
    return await hub.define(unique=["code"])


@pytest.fixture(scope="session")
async def beacon_store(hub: Hub) -> str:
    return (await make_beacon(hub)).store


@pytest.fixture
def beacon(hub: Hub, beacon_store: str) -> Beacon:
    return Beacon(beacon_store, hub.admin)


@pytest.fixture
async def connected(hub: Hub, beacon: Beacon) -> AsyncIterator[Connect]:
    """Connects live clients, which are closed after the test: ``await connected(client)``."""
    async with AsyncExitStack() as stack:

        async def connect(client: Client, **options: Any) -> LiveClient:
            beacon.shine_for(client.id)
            return await stack.enter_async_context(live(hub, client, **options))

        yield connect


@pytest.fixture
async def own_hub(database: Database, tmp_path: Path) -> AsyncIterator[StartHub]:
    """Starts hubs with settings of the test's own, on a database of its own: ``await own_hub(live_snapshot=5)``."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Hub:
            return await stack.enter_async_context(running_hub(database, tmp_path / "hub", **settings))

        yield start
