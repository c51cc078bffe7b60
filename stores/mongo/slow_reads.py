"""Limits of concurrent slow reads, which share the connections and processors of the server."""

from __future__ import annotations

from typing import Annotated, Final

from stores.bounds import Limit
from stores.read_turns import ReadLimits

MOST_SLOW_READS: Annotated[int, Limit("process on MongoDB", "long reads at a time", "waits, then 503")] = 8
"""Long reads at a time. As many again may read pieces of long lists."""

HOUSEKEEPING_SECONDS: Final = 3_600
"""Seconds for what takes time in proportion to a store, such as an index or the check of a new definition."""

_MOMENTS: Final = 64
"""Reads at a time that may turn out to be quick. One user may have half of them: with fewer, the threads of the server
and the hub wait for each other (measured with 8: a fifth more CPU for a list of 100). A user with slow reads that wait
may have 8."""

_MOMENT: Final = 0.25


def read_limits(timeout: float, waiting: int) -> ReadLimits:
    return ReadLimits(
        long=(MOST_SLOW_READS, MOST_SLOW_READS // 2),
        short=(_MOMENTS, _MOMENTS // 2, _MOMENTS // 8),
        pieces=(MOST_SLOW_READS, MOST_SLOW_READS // 2),
        moment=_MOMENT,
        timeout=timeout,
        waiting=waiting,
        name="MOST_SLOW_READS",
    )


def milliseconds(seconds: float) -> int:
    """Return milliseconds for `maxTimeMS`: at least 1, because 0 means no limit."""
    return max(1, round(seconds * 1000))
