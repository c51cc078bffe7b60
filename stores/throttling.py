"""Counts of calls by key, by which APIs limit their callers; here in the memory of one process.

Times are Unix milliseconds. Both engines count by the same rules, which `_Log` and `_Window` state:

- A call that is refused is not counted.
- A clock that is behind the last call by at most `SKEW_MS` stands still until it has caught up: calls that run at once
  may be counted in another order than that in which they read the clock. One that is further behind was set back. The
  calls then count as made now: nobody waits more than `SKEW_MS` longer than the rule's seconds.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

from stores.bounds import Limit

MOST_LOGGED_CALLS: Final[Annotated[int, Limit("key of a sliding throttle", "calls", "429")]] = 1_000
"""The highest limit that a sliding rule may have: the time of each call is kept."""

THROTTLED_KEYS: Annotated[int, Limit("process on SQLite, purpose", "keys of throttles", "the oldest goes")] = 20_000

SKEW_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `limit` calls: in any `seconds` (sliding), or in each period of `seconds` by the clock (fixed: 60 means
    the minutes of the hour). Raises ValueError for what cannot be counted."""

    limit: int
    seconds: int
    kind: Literal["sliding", "fixed"] = "sliding"

    def __post_init__(self) -> None:
        if self.limit < 1 or self.seconds < 1 or (self.kind == "sliding" and self.limit > MOST_LOGGED_CALLS):
            raise ValueError(f"a throttle cannot count by {self}")

    @property
    def ms(self) -> int:
        return self.seconds * 1_000


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a call is allowed, and what follows.

    Args:
        allowed: whether the call may go on; it has been counted then.
        remaining: calls that would be allowed now.
        wait: seconds until a call would be allowed; 0 if one is now, or if this one was.
        resets: Unix seconds at which calls stop counting: all of them (fixed), or the oldest (sliding).
    """

    allowed: bool
    remaining: int
    wait: float
    resets: float


class ThrottleCounts(Protocol):
    """The counts of an engine."""

    async def take(self, key: str, rule: Rule) -> Taken:
        """Count a call of `key`, unless it is refused. The part of the key before its first colon is its purpose; keys
        of different purposes do not push each other out. Raises Unavailable."""


def outcome_of_log(allowed: bool, times: Sequence[int], now: int, rule: Rule) -> Taken:
    """Return the outcome of a sliding rule. `times`: those of the counted calls after this one, oldest first."""
    wait = 0 if allowed else max(0, times[-rule.limit] + rule.ms - now)
    return Taken(allowed, max(0, rule.limit - len(times)), wait / 1_000, (times[0] + rule.ms) / 1_000)


def outcome_of_window(allowed: bool, begin: int, count: int, now: int, rule: Rule) -> Taken:
    """Return the outcome of a fixed rule. `begin`: that of the current period; `count`: the calls counted in it after
    this one."""
    end = begin + rule.ms
    wait = 0 if allowed else max(0, end - now)
    return Taken(allowed, max(0, rule.limit - count), wait / 1_000, end / 1_000)


class _Log:
    """The times of the calls that a sliding rule counts."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: array[int] = array("q")

    def take(self, now: int, rule: Rule) -> Taken:
        times = self._times
        at = now
        if times and times[-1] > now:
            if times[-1] - now <= SKEW_MS:
                at = times[-1]
            else:
                later = bisect_right(times, now)
                times[later:] = array("q", [now]) * (len(times) - later)
        del times[: bisect_right(times, at - rule.ms)]
        allowed = len(times) < rule.limit
        if allowed:
            times.append(at)
        return outcome_of_log(allowed, times, now, rule)

    def ends(self, rule: Rule) -> int:
        """Return when no call counts any more."""
        return self._times[-1] + rule.ms


class _Window:
    """The calls that a fixed rule counts in the current period."""

    __slots__ = ("_begin", "_count", "_last")

    def __init__(self) -> None:
        self._begin = self._count = self._last = 0

    def take(self, now: int, rule: Rule) -> Taken:
        at = self._last if 0 < self._last - now <= SKEW_MS else now
        begin = at - at % rule.ms
        if begin != self._begin:
            self._begin, self._count = begin, 0
        allowed = self._count < rule.limit
        if allowed:
            self._count += 1
            self._last = at
        return outcome_of_window(allowed, begin, self._count, now, rule)

    def ends(self, rule: Rule) -> int:
        return self._begin + rule.ms


class MemoryThrottles:
    """`ThrottleCounts` in memory, for a database that one process uses. They are gone after a restart."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._now_ms = now_ms
        self._tables: dict[tuple[str, str, int], OrderedDict[str, _Log | _Window]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    async def take(self, key: str, rule: Rule) -> Taken:
        now = self._now_ms()
        purpose = key.partition(":")[0]
        table = self._tables.setdefault((purpose, rule.kind, rule.seconds), OrderedDict())
        count = table.get(key)
        if count is None:
            count = table[key] = _Log() if rule.kind == "sliding" else _Window()
        taken = count.take(now, rule)
        if taken.allowed:
            table.move_to_end(key)
            _drop_old(table, now, rule)
        return taken


def _drop_old(table: OrderedDict[str, _Log | _Window], now: int, rule: Rule) -> None:
    """Drop the counts of keys that are too many, and of two keys at most in which no call counts any more."""
    while len(table) > THROTTLED_KEYS:
        table.popitem(last=False)
    for _ in range(2):
        oldest = next(iter(table.values()), None)
        if oldest is None or oldest.ends(rule) > now:
            return
        table.popitem(last=False)
