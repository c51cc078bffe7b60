"""A hub with the listings API, prepared, for each module and engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.listings.support import Tenant, Tenants, prepare
from tests.media.uploading import own_files
from tests.support.engines import fitting_database
from tests.support.hub import Hub, running_hub
from tests.support.ports import free_port
from tests.support.smtp import Inbox, smtp_server


@pytest.fixture(scope="module")
def inbox() -> Inbox:
    """The mails that the hub has sent."""
    return Inbox()


@pytest.fixture(scope="module")
async def hub(
    engine_kind: str, inbox: Inbox, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("listings")
    fetching = own_files(folder, free_port())
    async with (
        smtp_server(inbox) as port,
        fitting_database(engine_kind, request, folder) as database,
        running_hub(database, folder / "hub", smtp_url=f"smtp://127.0.0.1:{port}", **fetching) as hub,
    ):
        await prepare(hub)
        yield hub


@pytest.fixture(scope="module")
async def tenants(hub: Hub) -> AsyncIterator[Tenants]:
    tenants = Tenants(hub)
    yield tenants
    await tenants.aclose()


@pytest.fixture
async def tenant(tenants: Tenants) -> Tenant:
    return await tenants()
