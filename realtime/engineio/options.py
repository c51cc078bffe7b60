"""The settings of an Engine.IO server. Times are in milliseconds, sizes in bytes; each bound has a name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

TransportName = Literal["polling", "websocket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The open packet announces `ping_interval`, `ping_timeout` and `max_payload` to clients."""

    ping_interval: int = 25_000
    ping_timeout: int = 60_000
    max_payload: int = 1_000_000
    """Maximum size of a POST and of a WebSocket message. A larger POST is answered 413; a larger message ends the
    session."""
    body_timeout: int = 30_000
    """Time in which the body of a request, a message and its attachments must arrive."""
    max_connections: int = 40_000
    """Maximum connections. The oldest that has not joined is closed to make room for a new one. If all have joined, the
    new one is refused with 403."""
    max_connections_per_address: int = 0
    """The same for one address; 0: no limit."""
    address_block: Callable[[str], str | None] = lambda address: address
    """Returns the block that an address counts for, such as its network; None: the address is not counted."""
    must_join: bool = False
    """Connections count as joined only after `Connection.join`."""
    max_unjoined_payload: int | None = None
    """`max_payload` of a connection that has not joined; None: the same."""
    upgrade_timeout: int = 10_000
    """Time from the opening of the probe's WebSocket to the packet that completes the upgrade."""
    max_queued_packets: int = 10_000
    """Maximum packets that wait for a polling client. With one more, the client is disconnected as `lagging`."""
    max_buffered_bytes: int = 1_000_000
    """Bytes (for queued text: characters) that may wait for a client, over any transport. If more are waiting, the next
    message is not sent, and the client is disconnected as `lagging`. A single message may be larger than this."""
    max_offered_bytes: int | None = None
    """Waiting bytes beyond which `Connection.offer` sends nothing; None: `max_buffered_bytes`."""
    max_inbox: int = 256
    """Maximum messages of one client that wait for the application, with `max_payload` bytes in total. Beyond that, its
    WebSocket is not read and its POST is not answered."""
    transports: Collection[TransportName] = ("polling", "websocket")
    allow_upgrades: bool = True
    announce_max_payload: bool = False
    """Send `maxPayload` to EIO=3 clients too, although that version of the protocol does not define it."""
    json_messages: bool = False
    """Text messages are Socket.IO packets, so non-ASCII characters in their JSON may be escaped for EIO=3 polling."""
    cors_origins: Collection[str] | Literal["*"] = ()
    """Origins, such as `https://example.org`, that may use this server in addition to its own; `"*"`: all."""
    cors_public: bool = False
    """Pages of all other origins may use this server too, without credentials: the application authenticates them."""
    cors_credentials: bool = True
