"""One hub per engine for the whole session; each test creates its own stores, users and groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.app import assemble
from hub.settings import Settings
from tests.conftest import extent_of
from tests.support.engines import Database, fitting_database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, Client, Hub, running_hub
from tests.support.racing import Racing

TYPED: list[dict[str, Any]] = [
    {"id": "name", "type": "Text", "required": True, "search": True},
    {"id": "code", "type": "Text", "unique": True},
    {"id": "price", "type": "Numeric", "index": True},
    {"id": "floor", "type": "Number"},
    {"id": "sold", "type": "Boolean"},
    {"id": "secret", "type": "Text", "hidden": True},
    {"id": "notes", "type": "Textarea", "search": True},
    {"id": "extra", "type": "JSON"},
]


@pytest.fixture(scope="session")
async def shared_database(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    async with fitting_database(engine_kind, request, tmp_path_factory.mktemp("platform")) as database:
        yield database


@pytest.fixture(scope="session")
async def hub(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """The hub that most tests share."""
    async with running_hub(shared_database, tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def admin(hub: Hub) -> Client:
    return hub.admin


@pytest.fixture(scope="session")
async def user(hub: Hub) -> Client:
    """A user without a group or a role, who may use every store that is not a system store."""
    return await hub.as_user()


@pytest.fixture(scope="session")
async def other(hub: Hub) -> Client:
    """Another user like `user`."""
    return await hub.as_user()


@pytest.fixture(scope="session")
def races(pytestconfig: pytest.Config) -> int:
    """The number of times to run each race."""
    return extent_of(pytestconfig).races


@pytest.fixture
async def store(hub: Hub) -> str:
    """A new store without a schema; `code` is unique, `title` and `place.city` are searchable."""
    return await hub.define(unique=["code"], search=["title", "place.city"])


@pytest.fixture
async def typed(hub: Hub) -> str:
    """A new store with the fields in TYPED."""
    return await hub.define(fields=TYPED)


@pytest.fixture(scope="session")
async def bare(hub: Hub) -> str:
    """A store without a schema for requests that are refused, so that it always stays empty."""
    return await hub.define(unique=["code"], search=["title"])


@pytest.fixture(scope="session")
async def bare_typed(hub: Hub) -> str:
    """A store with the fields in TYPED, for requests that are refused."""
    return await hub.define(fields=TYPED)


@pytest.fixture
async def racing(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Racing]:
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    hub = assemble(Settings(data_dir=tmp_path, **secrets))  # type: ignore[arg-type]
    async with hub.run():
        yield Racing(hub, await hub.resolver.resolve(hub.control_token), monkeypatch)
