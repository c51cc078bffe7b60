"""Rules for what a commit writes, whatever API it comes by: stages of a procedure before and after the writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stores.protocol import Steps, Write

Stage = Callable[[], Steps]


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one or several writes: the stage before them, and the stage after them if there is one."""

    before: Stage
    after: Stage | None = None
    takes_long: bool = False


class WriteRule(Protocol):
    """A rule for writes to some stores, which `StoreRegistry.is_connected` knows."""

    def checks_of(self, writes: Sequence[Write], *, indexed: bool) -> Iterator[Check]:
        """Yield the checks of these writes. With `indexed`, errors contain the position of the write. Raises
        InvalidEntity for writes that the rule refuses whatever the entities."""
