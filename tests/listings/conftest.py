"""A hub with the listings API, prepared, for each module and engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.listings.support import Tenant, Tenants, prepare
from tests.support.engines import fitting_database
from tests.support.hub import Hub, running_hub


@pytest.fixture(scope="module")
async def hub(
    engine_kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("listings")
    async with (
        fitting_database(engine_kind, request, folder) as database,
        running_hub(database, folder / "hub") as hub,
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
