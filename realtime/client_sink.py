"""The output to one client, as its live session uses it over any transport."""

from __future__ import annotations

from typing import Literal, Protocol

Ending = Literal["revoked", "expired", "lagging"]
"""Why a session ends: its credential was revoked or has expired, or its client reads too slowly."""


class ClientSink(Protocol):
    """Output to one client. Packets go out in the order given; `close` takes the reason."""

    def send(self, text: str) -> None: ...

    def offer(self, frame: bytes, text: str) -> bool:
        """Send a packet that goes to many clients, unless too much already waits for this one.

        `frame` is the WebSocket frame that contains `text`. Return whether the packet was sent.
        """

    def make_room(self, size: int) -> None:
        """Allow `size` bytes beyond the usual bound until the client is `drained`, because the client asked for
        them."""

    @property
    def closed(self) -> bool:
        """Whether the client has gone: whatever is sent to it is lost."""

    @property
    def has_room(self) -> bool:
        """Whether the client has taken most of what was sent."""

    async def drained(self) -> None:
        """Wait until the client has room or is disconnected. A client that takes nothing for long is disconnected."""

    async def taken(self) -> None:
        """Wait until the client has room, or until nothing waits any more for one that is disconnected."""

    def close(self, kind: Ending) -> None: ...
