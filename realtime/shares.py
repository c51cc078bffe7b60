"""The share of fan-out that the subscriptions of one user may take.

One fan-out serves all users, change by change. Ten thousand changes that each concern a thousand subscriptions of one
user are ten million small matches, behind which the events of all others would wait for half a minute. Beyond its share
a user's subscriptions fall behind. They catch up apart from fan-out, in turns with the work of others, and join again.

Within one change, costly filters have their own limit, at which their subscriptions end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Final

from realtime.subscriber import Subscriber
from stores.bounds import Limit

PERIOD: Final = 0.25
"""Length of a period in seconds."""

MOST_SHARE_STEPS: Final[Annotated[int, Limit("user and 0.25 s", "steps of fan-out", "events wait")]] = 500_000
"""Steps of fan-out that one user may take in a period: about 0.05 s."""

MOST_USER_STEPS: Final[Annotated[int, Limit("change and user", "steps", "`error_filter_too_costly`")]] = 2_000_000
"""Steps that the costly filters of one user may take for a change, in all its live subscriptions: about 0.2 s. Beyond
that, those that take more than FEW_STEPS end."""

EXEMPT_STEPS: Final = 2 * MOST_USER_STEPS
"""Steps for a change up to which a user of costly filters goes on when its share is used up."""

FEW_STEPS: Final = 1_000
"""Steps of a filter on a change that make no filter costly."""

BYTES_PER_STEP: Final = 4
"""Bytes of a change that take as long as a step to project, compare and encode."""


class Shares:
    """Counts the steps of each user in the current period, and for the current change. `on_limit` is called with the
    name of the limit that a user has reached."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_limit: Callable[[str], None] = lambda name: None
        self._clock = clock
        self._taken: dict[str, int] = {}
        self._ends = 0.0
        self._costly: dict[str, int] = {}
        """Steps that the costly filters of each user have taken for the current change."""
        self._since_costly: dict[str, int] = {}
        """All steps that the same users have taken for it from the first of these filters on."""
        self._shown_to: set[str] = set()
        """The users that the current change has been shown to."""

    def begin_change(self) -> None:
        self._costly.clear()
        self._since_costly.clear()
        self._shown_to.clear()
        self.renew()

    def renew(self) -> None:
        """Begin a new period if the current one is over."""
        now = self._clock()
        if now >= self._ends:
            self._ends = now + PERIOD
            self._taken.clear()

    def payer(self, members: Iterable[Subscriber], *, all_go_on: bool) -> str | None:
        """Return the user of a member for whom a change is looked at, if possible one that may have costly filters;
        None if all have used up their shares. `all_go_on`: used up shares do not count."""
        found = None
        for member in members:
            user = member.user
            if all_go_on or self.goes_on(user):
                if self.has_steps(user):
                    return user
                found = user
        return found

    def goes_on(self, user: str) -> bool:
        """Return whether a user's share is left. Within a change, users of costly filters continue: those have their
        own limit."""
        return not self.is_used_up(user) or 0 < self._since_costly.get(user, 0) < EXEMPT_STEPS

    def has_steps(self, user: str) -> bool:
        """Return whether the user's costly filters may take further steps for the current change."""
        return self._costly.get(user, 0) < MOST_USER_STEPS

    def take(self, user: str, steps: int, overhead: int = 0) -> None:
        """Count a match of `steps` steps, and `overhead` steps beside it that do not make its filter costly."""
        if steps > FEW_STEPS:
            self._costly[user] = self._costly.get(user, 0) + steps
            self._since_costly.setdefault(user, 0)
        self._take(user, steps + overhead)

    def take_shown(self, user: str, size: int) -> None:
        """Count the bytes of a change that is shown, apart from the first time: one subscription to a store never uses
        up a share, however large its entities are."""
        if user in self._shown_to:
            self._take(user, size // BYTES_PER_STEP)
        else:
            self._shown_to.add(user)

    def _take(self, user: str, steps: int) -> None:
        taken = self._taken.get(user, 0)
        self._taken[user] = taken + steps
        if taken <= MOST_SHARE_STEPS < taken + steps:
            self.on_limit("MOST_SHARE_STEPS")
        if user in self._since_costly:
            self._since_costly[user] += steps

    def is_used_up(self, user: str) -> bool:
        return self._taken.get(user, 0) > MOST_SHARE_STEPS

    async def wait(self, user: str) -> None:
        """Let other tasks run; if the user's share is used up, until the next period."""
        self.renew()
        await asyncio.sleep(self._ends - self._clock() if self.is_used_up(user) else 0)
