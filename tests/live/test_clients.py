"""npm's socket.io-client 1.7, 2.5, 3.1 and 4.8, by WebSocket, by polling and with the upgrade between them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.live import node
from tests.live.node import GENERATIONS, WAYS, every_client
from tests.support.hub import Hub, StartHub
from tests.support.live import token_of


@pytest.fixture(scope="session")
async def results(packages: Path, hub: Hub) -> dict[str, str]:
    """The results of each client over each transport: it is refused without credentials, accepted with each kind of
    credentials, follows writes through two disconnections, and receives every text unaltered."""
    return await every_client(packages, hub, hub.url)


@pytest.mark.timeout(400)  # the first time the packages are installed
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_client_of_this_generation_sees_all(results: dict[str, str], generation: int, way: str) -> None:
    assert results[f"{generation} {way}"] == "ok"


@pytest.mark.engine("sqlite")
@pytest.mark.timeout(400)
async def test_a_client_that_was_refused_connects_with_another_token(packages: Path, hub: Hub) -> None:
    """It connects as the page on live subscriptions describes for each generation."""
    read = json.loads(await node.run("renewal.mjs", str(packages), hub.url, token_of(await hub.as_user())))
    assert read == {str(generation): "ok" for generation in GENERATIONS}


@pytest.mark.engine("sqlite")
@pytest.mark.timeout(400)
async def test_a_client_of_each_generation_hears_why_its_connection_ends(packages: Path, own_hub: StartHub) -> None:
    """A close packet beside the notice would end a polling client before its library has delivered the notice."""
    hub = await own_hub()
    kinds = ("revoked", "expired", "shutdown")
    names = {f"{generation} {way} {kind}": kind for kind in kinds for generation in GENERATIONS for way in WAYS[:2]}
    users = [await with_token(hub) for _ in names]
    given = {"url": hub.url, "admin": token_of(hub.admin), "pid": hub.process.process.pid, "users": users}
    assert json.loads(await node.run("notices.mjs", str(packages), json.dumps(given))) == names
    assert await asyncio.to_thread(hub.process.wait) == 0


async def with_token(hub: Hub) -> dict[str, str]:
    """Return the token of a new user, and its id."""
    user = await hub.as_user()
    [token] = await hub.admin.list("tokens", {"user": user.id})
    return {"token": token_of(user), "id": token["_id"]}
