"""Retries the steps of a start while the database is unavailable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

from stores.bounds import Limit
from stores.errors import CannotOpen, Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

START_PATIENCE: Final[Annotated[float, Limit("step of a start", "seconds of retries", "the hub does not start")]] = 30
"""Seconds for which a step is retried: an election of MongoDB takes 10 to 12 seconds by default."""

_LONGEST_PAUSE: Final = 1.0


async def when_available(step: Callable[[], Awaitable[T]]) -> T:
    """Run `step`; retry while it raises Unavailable. Raises CannotOpen after START_PATIENCE."""
    give_up = time.monotonic() + START_PATIENCE
    pause = 0.1
    while True:
        try:
            return await step()
        except Unavailable as error:
            if time.monotonic() > give_up:
                raise CannotOpen(str(error)) from error
            log.warning("the start waits for the database: %s", error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
