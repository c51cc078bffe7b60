"""One hub per engine for the whole session, on a database that is prepared for the listings API. Its administrator has
added fields to the stores: a unique `ref`, and references by which deletions cascade."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hub import running
from hub.app import assemble
from hub.settings import Settings
from tests.platform.answers import definition_of, good
from tests.support.engines import Database, fitting_database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, Client, Hub, running_hub
from tests.support.listings import prepare_database
from tests.support.live import Beacon, LiveClient, live, make_beacon
from tests.support.racing import Racing

ADDED: Mapping[str, str] = {"properties": "agency", "property_images": "photographer"}
"""The references that cascade, by their stores."""

Connect = Callable[..., Awaitable[LiveClient]]


async def add_fields(admin: Client, store: str, target: str) -> None:
    await admin.make("stores", {"name": target, "fields": [{"id": "name", "type": "Text"}]})
    path = await definition_of(admin, store)
    fields = good(await admin.get(path))["fields"]
    reference = {"id": ADDED[store], "type": "Reference", "store": target, "on_delete": "cascade"}
    good(await admin.patch(path, {"fields": [*fields, {"id": "ref", "type": "Text", "unique": True}, reference]}))


@pytest.fixture(scope="session")
async def shared_database(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    async with fitting_database(engine_kind, request, tmp_path_factory.mktemp("listings")) as database:
        await prepare_database(database)
        yield database


@pytest.fixture(scope="session")
async def hub(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    async with running_hub(shared_database, tmp_path_factory.mktemp("hub")) as hub:
        await add_fields(hub.admin, "properties", "agencies")
        await add_fields(hub.admin, "property_images", "photographers")
        yield hub


@pytest.fixture
def admin(hub: Hub) -> Client:
    return hub.admin


@pytest.fixture
async def user(hub: Hub) -> Client:
    """A new user without a group or a role."""
    return await hub.as_user()


@pytest.fixture(scope="session")
async def beacon_store(hub: Hub) -> str:
    return (await make_beacon(hub)).store


@pytest.fixture
def beacon(hub: Hub, beacon_store: str) -> Beacon:
    return Beacon(beacon_store, hub.admin)


@pytest.fixture
async def connected(hub: Hub, beacon: Beacon) -> AsyncIterator[Connect]:
    """A function that connects a live client: ``await connected(client)``."""
    async with AsyncExitStack() as stack:

        async def connect(client: Client, **options: Any) -> LiveClient:
            beacon.shine_for(client.id)
            return await stack.enter_async_context(live(hub, client, **options))

        yield connect


def assembled(database: Database, folder: Path, **settings: Any) -> running.Hub:
    """Return the parts of a hub in this process, which does not run yet."""
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    return assemble(Settings(data_dir=folder, **secrets, **settings))  # type: ignore[arg-type]


@pytest.fixture
async def racing(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Racing]:
    """The parts of a hub in this process, on a prepared database of the test's own."""
    await prepare_database(database)
    hub = assembled(database, tmp_path)
    async with hub.run():
        yield Racing(hub, await hub.resolver.resolve(hub.control_token), monkeypatch)
