"""A ledger of requested writes and their answers.

Every write sets its own tag on its entities, so each change in the feed names the write that made it. A deletion cannot
set a tag, and is recorded by the ids of the deleted entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Fate(Enum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    IN_DOUBT = "in doubt"


@dataclass
class Asked:
    """One requested write of `size` entities. It is in doubt until it is answered."""

    tag: str
    size: int = 1
    fate: Fate = Fate.IN_DOUBT


@dataclass
class Audit:
    """Tags of wrong writes. `lost`: acknowledged but not done. `twice`: done more than once. `torn`: done in part.
    `ghosts`: refused but done."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)


class Ledger:
    def __init__(self) -> None:
        self.writes: list[Asked] = []
        self.told: Counter[Fate] = Counter()
        self._removals: dict[str, str] = {}

    def ask(self, tag: str, size: int = 1) -> Asked:
        self.writes.append(Asked(tag, size))
        return self.writes[-1]

    def ask_removal(self, ids: Sequence[str]) -> Asked:
        """Record a deletion of these entities, all or none."""
        self._removals |= dict.fromkeys(ids, ids[0])
        return self.ask(ids[0], len(ids))

    def settle(self, asked: Asked, fate: Fate) -> None:
        asked.fate = fate
        self.told[fate] += 1

    @property
    def in_doubt(self) -> int:
        return len(self.writes) - self.told.total()

    def audit(self, changes: list[dict[str, Any]]) -> Audit:
        """Compare the ledger with the changes of the feed."""
        done = Counter(self._removals[c["_id"]] if c["op"] == "remove" else c["entity"]["tag"] for c in changes)
        audit = Audit()
        for asked in self.writes:
            times = done[asked.tag]
            if times > asked.size:
                audit.twice.append(asked.tag)
            elif 0 < times < asked.size:
                audit.torn.append(asked.tag)
            elif times == 0 and asked.fate is Fate.ACKNOWLEDGED:
                audit.lost.append(asked.tag)
            elif times and asked.fate is Fate.REFUSED:
                audit.ghosts.append(asked.tag)
        return audit
