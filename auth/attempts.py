"""A limit on guessing passwords: so many failed logins per name and address, and per address, in a moving window."""

from __future__ import annotations

import time

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from auth.errors import TooManyAttempts

ADDRESS_FACTOR = 10
"""An address may fail this many times as often as one name from it: many people can share an address."""


class LoginAttempts:
    """Counts in this process. `attempts` per `window` seconds."""

    def __init__(self, attempts: int, window: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_name = RateLimitItemPerSecond(attempts, window, namespace="login")
        self._per_address = RateLimitItemPerSecond(attempts * ADDRESS_FACTOR, window, namespace="address")

    async def take(self, login: str, address: str) -> None:
        """Count an attempt before it is judged, so that guesses made at once count too. Raises TooManyAttempts."""
        name = (login[:200], address)
        for item, keys in ((self._per_name, name), (self._per_address, (address,))):
            if not await self._limiter.hit(item, *keys):
                reset = (await self._limiter.get_window_stats(item, *keys)).reset_time
                raise TooManyAttempts(max(1, round(reset - time.time())))

    async def succeeded(self, login: str, address: str) -> None:
        """A right password clears what was counted for the name."""
        await self._limiter.clear(self._per_name, login[:200], address)
