"""A subscription as fan-out uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stores.errors import StoreError


class Subscriber(Protocol):
    """One subscription. It already has the changes up to `delivered_up_to` (a feed order)."""

    delivered_up_to: bytes
    user: str
    """The user whose steps a match of its filter takes."""

    @property
    def deliver(self) -> Callable[[bytes, str], bool]:
        """A function that takes an event's packet, as a WebSocket frame and as text.

        It returns false if there is no room for the packet. It must not wait and must not raise.
        """

    def reached(self, position: str, order: bytes) -> None:
        """Record that the change at this position has been delivered to this subscription."""

    def fall_behind(self) -> None:
        """Leave the channel, because there was no room or no time for the change after the position of fan-out."""

    def fail(self, error: StoreError) -> None:
        """End the subscription with an error, because a change cannot be delivered.

        Must not wait and must not raise.
        """
