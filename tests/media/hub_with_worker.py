"""A program that waits for an image, for tests that kill it: `python -m tests.media.hub_with_worker SOURCE TARGET`. It
prints the id of its worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hub.media.jobs import ImageJob
from hub.media.workers import ImageWorkers


async def main() -> None:
    workers = ImageWorkers()
    source, target = map(Path, sys.argv[1:])
    work = asyncio.create_task(workers.convert(source, target, ImageJob()))
    while not workers.pids:  # noqa: ASYNC110
        await asyncio.sleep(0)
    print(*workers.pids, flush=True)
    await work


if __name__ == "__main__":
    asyncio.run(main())
