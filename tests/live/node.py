"""Scripts for Node that use the clients installed by tests/wire."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

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
