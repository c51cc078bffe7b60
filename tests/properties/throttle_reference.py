"""Throttles, written a second time from what the documentation says of them: every counted call is kept in a list."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from stores.throttling import Rule

SKEW: Final = 1_000


class Reference:
    """The calls of one key by one rule, whose limit may change."""

    def __init__(self) -> None:
        self._calls: list[int] = []

    def take(self, now: int, rule: Rule) -> tuple[bool, int, Fraction, Fraction]:
        """Return the members of `Taken`, exactly."""
        last = max(self._calls, default=now)
        at = last if now < last <= now + SKEW else now
        length = rule.seconds * 1_000
        if rule.kind == "sliding":
            self._calls = [min(call, at) for call in self._calls]
            self._calls = [call for call in self._calls if at - call < length]
        else:
            self._calls = [call for call in self._calls if call // length == at // length]
        allowed = len(self._calls) < rule.limit
        if allowed:
            self._calls.append(at)
        if rule.kind == "sliding":
            free = sorted(self._calls)[-rule.limit] + length if not allowed else now
            resets = min(self._calls) + length
        else:
            resets = (at // length + 1) * length
            free = resets if not allowed else now
        wait = max(Fraction(free - now, 1_000), Fraction(0))
        return allowed, max(0, rule.limit - len(self._calls)), wait, Fraction(resets, 1_000)
