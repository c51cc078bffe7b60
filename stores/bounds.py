"""How limits are declared: what each one bounds, for whom, and what a client meets there.

A setting or a module constant that bounds what a client can feed is declared with its `Limit`:

    max_head_bytes: Annotated[Positive, Limit("request", "bytes", "431")] = 65_536

`hub/limits.py` collects the declarations of the whole program into docs/limits.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Limit:
    """What a limit bounds.

    Args:
        per: what the number counts for: `request`, `connection`, `address`, `user`, `store`, `process` ...
        unit: `bytes`, `seconds`, `entities` ...
        answer: what a client meets at the limit: a status (`413`), a live error or notice (`lagging`), or a short
            phrase (`waits`).
    """

    per: str
    unit: str
    answer: str


class Limited(Exception):
    """Base of every error tree: an error may be the refusal of what exceeds a limit."""

    limit_name: str = ""
    """The setting or constant whose limit was reached, empty for none; counted in `hub_limit_reached_total`."""

    def at(self, limit_name: str) -> Self:
        """Mark the error as the refusal at this limit: ``raise TooSlow(...).at("head_timeout")``."""
        self.limit_name = limit_name
        return self
