"""The log holds no credential and no query string, at any level and over any transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform.raw import wire
from tests.support.engines import Database
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, Hub, fetch, running_hub
from tests.support.live import Refused, live

HANDSHAKE = (
    "Host: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def use_everything(hub: Hub) -> list[str]:
    """Send secrets in every possible way; return the secrets."""
    user = await hub.as_user(password="a password of somebody")
    session = await hub.as_session(ADMIN_LOGIN, ADMIN_PASSWORD)
    sid = str(session.http.cookies["sid"])
    bearer = str(user.http.headers["authorization"]).removeprefix("Bearer ")
    store = await hub.define(unique=["code"])
    await user.make(store, code="confidential-value")
    assert (await user.post(f"/{store}", {"code": "confidential-value"})).status_code == 409
    assert (await user.get(f"/{store}", {"code": "confidential-operand", "limit": "oops"})).status_code == 400
    assert (await hub.client().get("/auth", {"token": "query-token-rest"})).status_code == 401
    assert (await hub.client().post("/auth", {"login": "nobody", "password": "wrong-password"})).status_code == 401
    await live_transports(hub, bearer)
    return [
        ADMIN_PASSWORD, "a password of somebody", sid, bearer, "confidential-value", "confidential-operand",
        "query-token-rest", "query-token-live", "query-token-poll", "query-token-odd", "query-token-header",
        "query-token-broken", "wrong-password", "token=",
    ]  # fmt: skip


async def live_transports(hub: Hub, bearer: str) -> None:
    """Handshakes over WebSocket and polling, accepted, refused and broken."""
    for version in (3, 4):
        async with live(hub, hub.client(), version=version, query={"token": bearer}, auth=None):
            pass
        try:
            async with live(hub, hub.client(), version=version, query={"token": "query-token-live"}, auth=None):
                raise AssertionError("let in")
        except Refused:
            pass
    await fetch(f"{hub.url}/socket.io/?EIO=4&transport=polling&token=query-token-poll")
    for target, more in [
        ("/socket.io/?EIO=9&transport=websocket&token=query-token-odd", ""),
        ("/api/v1/auth?token=query-token-odd", "Authorization: Bearer query-token-header\r\n"),
        ("/socket.io/?EIO=4&transport=websocket&token=query-token-odd", "Cookie: sid=query-token-header\r\n"),
    ]:
        async with wire(hub.process.port) as connection:
            await connection.send(f"GET {target} HTTP/1.1\r\n{HANDSHAKE}{more}\r\n".encode())
            await connection.head()
    async with wire(hub.process.port) as connection:
        await connection.send(b"GET /api/v1/auth?token=query-token-broken HTTP/1.1\r\nbroken\r\n\r\n")
        assert (await connection.answer()).status == 400


@pytest.mark.gate("sqlite", "mongodb")
async def test_no_secret_in_the_log(database: Database, tmp_path: Path) -> None:
    for level in ("info", "debug"):
        async with running_hub(database, tmp_path / level, log_level=level) as hub:
            secrets = await use_everything(hub)
        log = hub.process.log
        assert "/socket.io/" in log
        assert "/auth" in log
        assert [secret for secret in secrets if secret in log] == []
