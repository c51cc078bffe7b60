"""Limits how often callers may call: one service for all APIs. Each API renders the outcome in its own way."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from stores.throttling import Rule, Taken, ThrottleCounts

__all__ = ["Rule", "Taken", "Throttles"]

_LONGEST_KEY: Final = 100


class Throttles:
    """Counts calls by key. `counts` are those of the engine, so they are exact over all processes of a hub."""

    def __init__(self, counts: ThrottleCounts) -> None:
        self._counts = counts

    async def take(self, key: str, rule: Rule) -> Taken:
        """Count a call of `key`, unless it is refused.

        A key is a purpose and a caller: ``listings:<id of a key>``, ``register:<address block>``. The counts of one
        purpose cannot push out those of another, so callers that anybody can invent have one of their own. Raises
        Unavailable.
        """
        return await self._counts.take(_shortened(key), rule)


def _shortened(key: str) -> str:
    """Return a key of bounded length, with the same purpose."""
    if len(key) <= _LONGEST_KEY:
        return key
    purpose, _, caller = key.partition(":")
    return f"{purpose}:{blake2b(caller.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
