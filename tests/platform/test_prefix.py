"""A hub published under a path prefix, which a setting or a trusted proxy gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Database
from tests.support.hub import API, Client, Hub, StartHub, running_hub
from tests.support.live import live

PASSWORD = "one two three four"


@pytest.fixture(scope="module")
async def inner(sqlite_hub: StartHub) -> Hub:
    """A hub under /inner/hub; nothing here depends on the engine."""
    return await sqlite_hub(root_path="/inner/hub/")


async def get(client: Client, path: str, **headers: str) -> httpx.Response:
    """GET an absolute path of the server."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.http.get(client.url + path, headers=sent)


async def says(client: Client, before: str, prefix: str, **headers: str) -> None:
    """Check that the answers to requests below `before` contain paths below `prefix`."""
    answer = await get(client, f"{before}{API}/users?limit=1&sort=login", **headers)
    assert answer.headers["link"].startswith(f"<{prefix}{API}/users?limit=1&sort=login&after="), answer.headers
    document = (await get(client, f"{before}{API}/openapi.json", **headers)).json()
    assert document["servers"] == [{"url": prefix + "/"}]
    assert (await get(client, f"{before}/health/live", **headers)).json() == {"ok": True}
    polled = await get(client, f"{before}/socket.io/?EIO=4&transport=polling", **headers)
    assert polled.text.startswith("0{")


@pytest.mark.parametrize("before", ["", "/inner/hub"])
async def test_the_setting_names_the_prefix(inner: Hub, before: str) -> None:
    """It appears in links, in the OpenAPI document and at the live endpoint, whether or not the proxy strips it."""
    await inner.as_user()
    await says(inner.admin, before, "/inner/hub")
    [text] = (await get(inner.admin, f"{before}/")).json()["errors"]["path"]
    assert " /inner/hub/api/v1/openapi.json " in text


@pytest.mark.parametrize("before", ["", "/outer"])
async def test_a_trusted_proxy_names_the_prefix(inner: Hub, before: str) -> None:
    await inner.as_user()
    await says(inner.admin, before, "/outer", x_forwarded_prefix="/outer/")


async def test_a_prefix_that_looks_like_the_api_is_no_riddle(hub: Hub) -> None:
    await hub.as_user()
    for before in ("", "/api", "/api/v1"):
        await says(hub.admin, before, before, **({"x_forwarded_prefix": before} if before else {}))
        if before:
            await says(hub.admin, "", before, x_forwarded_prefix=before)


async def test_the_cookie_is_for_the_prefix(inner: Hub) -> None:
    """Browsers accept a `__Host-` cookie only with the path `/`."""
    user = await inner.as_user(password=PASSWORD)
    login = {"login": user.user["login"], "password": PASSWORD}

    async def cookies(method: str, body: Any, **headers: str) -> list[str]:
        answer = await inner.client().request(method, "/auth", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.headers.get_list("set-cookie")

    [plain] = await cookies("POST", login)
    [secure] = await cookies("POST", login, **{"X-Forwarded-Proto": "https"})
    assert plain.startswith("sid=")
    assert "; Path=/inner/hub/; " in plain
    assert secure.startswith("sid=")
    assert secure.endswith("; Secure")
    [ended] = await cookies("DELETE", None, Cookie=plain.partition(";")[0])
    assert ended.startswith("sid=; Path=/inner/hub/; ")


async def test_a_prefix_of_anybody_else_is_not_believed(tmp_path: Path) -> None:
    database = Database("sqlite", str(tmp_path / "hub.db"))
    async with running_hub(database, tmp_path / "hub", trusted_proxies="192.0.2.1") as hub:
        await hub.as_user()
        await says(hub.admin, "", "", x_forwarded_prefix="/outer")


@pytest.mark.parametrize("prefix", ["outer", "/a b", "/../x", "//evil.example", "/x?y", "/x>;rel=y", "https://e"])
async def test_what_is_no_prefix_is_ignored(hub: Hub, prefix: str) -> None:
    await hub.as_user()
    await says(hub.admin, "", "", x_forwarded_prefix=prefix)


async def test_live_clients_connect_under_the_prefix(inner: Hub) -> None:
    user = await inner.as_user()
    async with live(inner.url + "/inner/hub", user) as client:
        assert (await client.watch("users")).view.keys() == {user.id}
