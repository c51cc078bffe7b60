"""The options of an engine and of a consumer (see `stores.protocol`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Protocol

from stores.bounds import Limit


class Seal(Protocol):
    """Encryption of the content of positions, the same in every process of a hub and after a restart."""

    def seal(self, data: bytes) -> str:
        """Return URL-safe text, the same for the same data."""

    def unseal(self, text: str) -> bytes:
        """Return the data in `text`. Raises ValueError when `seal` did not make it."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds of an engine, described with the settings of the same names. `seal` encrypts positions that name entities,
    because their holder may not be allowed to see those; None leaves them in clear."""

    feed_retention_hours: float = 72
    feed_retention_mb: float = 1024
    sqlite_log_mb: float = 1024
    reader_threads: int = 4
    chunk_bytes: int = 65_536
    read_timeout: float = 15
    max_slow_reads_per_user: int = 32
    max_entity_bytes: int = 3_500_000
    seal: Seal | None = None


MOST_CONSUMER_CHANGES: Annotated[int, Limit("call of a consumer", "changes", "the next call goes on")] = 1_000
MOST_CONSUMER_BYTES: Annotated[int, Limit("call of a consumer", "bytes", "the next call goes on")] = 4_194_304
"""Bytes of changes in memory. A larger change is a batch of its own."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Settings of a consumer, the same in every process of a hub.

    Args:
        since: the position at which a new consumer begins; None: the position of the feed at its first run.
        most_changes: the most changes per call of the handler.
        most_bytes: the most bytes of the changes of one call, in memory.
        lease_seconds: seconds after which another process takes over from one that has died. A lease is renewed three
            times in that time.
        handle_seconds: seconds that a call of the handler may take; a longer one counts as failed.
        most_attempts: calls of the handler with the same changes before the consumer stops; None: it never stops.
        first_pause: seconds before the second attempt; each pause is twice as long as the one before.
        longest_pause: seconds at which pauses stop growing.
    """

    since: str | None = None
    most_changes: int = MOST_CONSUMER_CHANGES
    most_bytes: int = MOST_CONSUMER_BYTES
    lease_seconds: float = 6
    handle_seconds: float = 60
    most_attempts: int | None = 10
    first_pause: float = 0.1
    longest_pause: float = 30


CONSUMER_DEFAULTS: Final = ConsumerOptions()
