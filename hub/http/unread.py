"""Bounds the bytes of answers that clients have not read.

A whole answer never waits for its client: its connection keeps what the client has not read. An answer of megabytes on
each of a thousand connections would take gigabytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

from hub.http.errors import Overloaded
from stores.bounds import Limit

MOST_UNREAD_ANSWER_BYTES: Annotated[int, Limit("process", "bytes of unread answers", "503")] = 268_435_456
"""Bytes of the answers that clients have not read, on all connections that hold much."""
MOST_UNREAD_ANSWER_BYTES_EACH: Annotated[int, Limit("address, and user", "bytes of unread answers", "503")] = (
    134_217_728
)
"""Half of them: nobody who does not read refuses the answers of all others."""

NOT_MUCH: Final = 65_536
"""Bytes that any connection may leave unread: those of small answers, up to the transport's high-water mark."""


class UnreadAnswers:
    """Counts the unread bytes beyond `NOT_MUCH` of each connection: in all, of each user and of each address. The
    address of a trusted proxy is passed as an empty text, and so is an unknown user: they have no limit of their own.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._of: Counter[tuple[str, str]] = Counter()

    def grow(self, address: str, user: str, size: int) -> None:
        """Count bytes that a client has not read."""
        self.bytes += size
        for owner in owners(address, user):
            self._of[owner] += size

    def shrink(self, address: str, user: str, size: int) -> None:
        """Count them no longer."""
        self.bytes -= size
        for owner in owners(address, user):
            self._of[owner] -= size
            if not self._of[owner]:
                del self._of[owner]

    def check(self, address: str, user: str, size: int) -> None:
        """Raise Overloaded if there is no room for an answer of `size` bytes that nobody reads."""
        for owner in owners(address, user):
            if self._of[owner] + size > MOST_UNREAD_ANSWER_BYTES_EACH:
                raise too_much(f"clients of this {owner[0]}", "MOST_UNREAD_ANSWER_BYTES_EACH")
        if self.bytes + size > MOST_UNREAD_ANSWER_BYTES:
            raise too_much("clients", "MOST_UNREAD_ANSWER_BYTES")


def owners(address: str, user: str) -> list[tuple[str, str]]:
    return [owner for owner in (("address", address), ("user", user)) if owner[1]]


def too_much(whose: str, limit: str) -> Overloaded:
    text = f"Too many bytes of answers wait for {whose} to read them ({limit}): try again."
    return Overloaded("too many bytes of answers are unread", "answer", text).at(limit)
