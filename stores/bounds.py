"""Declarations of limits: the unit and scope of each, and the effect on a client that reaches it.

A setting or a module constant that bounds input from clients is declared with a `Limit`:

    max_head_bytes: Annotated[Positive, Limit("request", "bytes", "431")] = 65_536

`hub/limits.py` collects the declarations of the whole program into docs/limits.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Limit:
    """The declaration of a limit.

    Args:
        per: the scope of the count: `request`, `connection`, `address`, `user`, `store`, `process` ...
        unit: `bytes`, `seconds`, `entities` ...
        answer: the effect on a client at the limit: a status (`413`), a live error or notice (`lagging`), or a short
            phrase (`waits`).
    """

    per: str
    unit: str
    answer: str


class Limited(Exception):
    """Base of every error tree. An error may report that a limit was reached."""

    limit_name: str = ""
    """The setting or constant whose limit was reached, empty if none was; counted in `hub_limit_reached_total`."""

    def at(self, limit_name: str) -> Self:
        """Set the limit that was reached, and return the error: ``raise TooSlow(...).at("head_timeout")``."""
        self.limit_name = limit_name
        return self
