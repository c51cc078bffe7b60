"""The share of fan-out that the subscriptions of one user may take.

One fan-out serves all users, change by change. Ten thousand changes that each concern a thousand subscriptions of one
user are ten million small matches, behind which the events of all others would wait for half a minute. Beyond its share
a user's subscriptions fall behind. They catch up apart from fan-out, in turns with the work of others, and join again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Final

from stores.bounds import Limit

PERIOD: Final = 0.5
"""Length of a period in seconds."""

MOST_SHARE_STEPS: Final[Annotated[int, Limit("user and half a second", "steps of fan-out", "events wait")]] = 1_000_000
"""Steps of fan-out that one user may take in a period: about 0.1 s."""


class Shares:
    """Counts the steps of each user in the current period. `on_limit` is called with the name of the limit that a user
    has reached."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_limit: Callable[[str], None] = lambda name: None
        self._clock = clock
        self._taken: dict[str, int] = {}
        self._ends = 0.0

    def renew(self) -> None:
        """Begin a new period if the current one is over."""
        now = self._clock()
        if now >= self._ends:
            self._ends = now + PERIOD
            self._taken.clear()

    def take(self, user: str, steps: int) -> None:
        """Count a match of `steps` steps."""
        taken = self._taken.get(user, 0)
        self._taken[user] = taken + steps
        if taken <= MOST_SHARE_STEPS < taken + steps:
            self.on_limit("MOST_SHARE_STEPS")

    def is_used_up(self, user: str) -> bool:
        return self._taken.get(user, 0) > MOST_SHARE_STEPS

    async def wait(self, user: str) -> None:
        """Let other tasks run; if the user's share is used up, until the next period."""
        self.renew()
        await asyncio.sleep(self._ends - self._clock() if self.is_used_up(user) else 0)
