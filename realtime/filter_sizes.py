"""Bounds on the memory of live filters, for each user and for the process.

A filter with thousands of values takes about ten times the bytes of its canonical text, for as long as its subscription
lasts. Small filters are bounded by the number of subscriptions and do not count here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from realtime.errors import FiltersTooLarge
from stores.bounds import Limit

SMALL_FILTER: Final = 1_024
"""Bytes of a filter's text that do not count."""

MOST_USER_FILTER_BYTES: Final[Annotated[int, Limit("user", "bytes of large filters", "400")]] = 4_194_304
"""Canonical text of the filters of one user's live subscriptions."""

MOST_FILTER_BYTES: Final[Annotated[int, Limit("process", "bytes of large filters", "400")]] = 33_554_432
"""Canonical text of the filters of all live subscriptions."""


class FilterSizes:
    """The bytes of the large filters of the current subscriptions."""

    def __init__(self) -> None:
        self._total = 0
        self._by_user: Counter[str] = Counter()

    def take(self, user: str, text: str) -> Callable[[], None]:
        """Count a filter, and return a function that ends this. Raises FiltersTooLarge."""
        size = len(text) - SMALL_FILTER
        if size <= 0:
            return _nothing
        for counted, most, name in (
            (self._by_user[user], MOST_USER_FILTER_BYTES, "MOST_USER_FILTER_BYTES"),
            (self._total, MOST_FILTER_BYTES, "MOST_FILTER_BYTES"),
        ):
            if counted + size > most:
                text = f"the filters of live subscriptions have more than {most} bytes together"
                raise FiltersTooLarge("filter", text).at(name)
        self._total += size
        self._by_user[user] += size
        return partial(self._give_back, user, size)

    def _give_back(self, user: str, size: int) -> None:
        self._total -= size
        self._by_user[user] -= size
        if not self._by_user[user]:
            del self._by_user[user]


def _nothing() -> None:
    """Give back nothing: the filter is small."""
