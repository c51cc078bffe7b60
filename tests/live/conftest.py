"""One hub per engine for the whole session; each test creates its own stores, users and groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Database, fitting_database
from tests.support.hub import Client, Hub, StartHub, running_hub
from tests.support.live import Beacon, LiveClient, live, make_beacon
from tests.wire import javascript

Connect = Callable[..., Awaitable[LiveClient]]


@pytest.fixture(scope="session")
async def live_database(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    async with fitting_database(engine_kind, request, tmp_path_factory.mktemp("live")) as database:
        yield database


@pytest.fixture(scope="session")
async def hub(live_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """The hub that most tests share; it sends quiet clients their position every second."""
    async with running_hub(live_database, tmp_path_factory.mktemp("hub"), live_position_every=1) as hub:
        yield hub


@pytest.fixture
def admin(hub: Hub) -> Client:
    return hub.admin


@pytest.fixture
async def user(hub: Hub) -> Client:
    """A new user without a group or a role, who may use every store that is not a system store."""
    return await hub.as_user()


@pytest.fixture
async def store(hub: Hub) -> str:
    """A new store without a schema, whose field `code` is unique."""
    return await hub.define(unique=["code"])


@pytest.fixture(scope="session")
async def beacon_store(hub: Hub) -> str:
    return (await make_beacon(hub)).store


@pytest.fixture
def beacon(hub: Hub, beacon_store: str) -> Beacon:
    return Beacon(beacon_store, hub.admin)


@pytest.fixture
async def connected(hub: Hub, beacon: Beacon) -> AsyncIterator[Connect]:
    """A function that connects a live client, which is closed after the test: ``await connected(client)``."""
    async with AsyncExitStack() as stack:

        async def connect(client: Client, **options: Any) -> LiveClient:
            beacon.shine_for(client.id)
            return await stack.enter_async_context(live(hub, client, **options))

        yield connect


@pytest.fixture
async def own_hub(database: Database, tmp_path: Path) -> AsyncIterator[StartHub]:
    """A function that starts a hub with settings on the test's own database: ``await own_hub(live_snapshot=5)``."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Hub:
            return await stack.enter_async_context(running_hub(database, tmp_path / "hub", **settings))

        yield start


@pytest.fixture(scope="session")
async def packages() -> Path:
    return await asyncio.to_thread(javascript.installed)
