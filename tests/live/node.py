"""Scripts for Node that use the clients installed by tests/wire."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

from tests.support.hub import Hub
from tests.support.live import PASSWORD, token_of

SCRIPTS: Final = Path(__file__).parent / "js"
RUN_SECONDS: Final = 90


async def run(script: str, *arguments: str, **environment: str) -> str:
    """Run a script with additional environment variables; return its output. Raises AssertionError with its standard
    error if it fails."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCRIPTS / script),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output.decode()


GENERATIONS = (1, 2, 3, 4)
WAYS = ("websocket", "polling", "upgrade")


async def every_client(packages: Path, hub: Hub, url: str, **environment: str) -> dict[str, str]:
    """Run each client against the hub at `url`; return their results."""
    user = await hub.as_user(password=PASSWORD)
    session = await hub.as_session(user.user["login"], PASSWORD)
    given = {
        "url": url,
        "token": token_of(user),
        "cookie": session.http.cookies["sid"],
        "user": user.id,
        "store": await hub.define(),
    }
    read: dict[str, str] = json.loads(await run("clients.mjs", str(packages), json.dumps(given), **environment))
    assert "unhandled" not in read, read["unhandled"]
    return read
