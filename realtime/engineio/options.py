"""The settings of an Engine.IO server: times in milliseconds, sizes in bytes, each bound with a name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

TransportName = Literal["polling", "websocket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`ping_interval`, `ping_timeout`, `max_payload` are told to clients in the open packet."""

    ping_interval: int = 25_000
    ping_timeout: int = 60_000
    max_payload: int = 1_000_000
    """Of one POST, and of one WebSocket message. A larger POST is answered 413, a larger message ends the session."""
    body_timeout: int = 30_000
    """In which the body of a request must arrive."""
    max_connections: int = 40_000
    """The oldest that has not joined makes room for a new one; without such a one that is refused, 403."""
    max_connections_per_address: int = 0
    """Likewise, of one address; 0: no limit."""
    address_block: Callable[[str], str | None] = lambda address: address
    """What an address counts as, such as its network; None: it is not counted."""
    must_join: bool = False
    """Connections count as joined only after `Connection.join`."""
    max_unjoined_payload: int | None = None
    """`max_payload` of a connection that has not joined; None: the same."""
    upgrade_timeout: int = 10_000
    """From the probe's WebSocket to the packet that completes the upgrade."""
    max_queued_packets: int = 10_000
    """Packets that wait for a client that polls: one more, and it is dropped as `lagging`."""
    max_buffered_bytes: int = 1_000_000
    """Bytes (of queued text, characters) that wait for a client, whatever its transport: a message that finds more of
    them is not sent, and the client is dropped as `lagging`. A single message may be larger than this."""
    max_offered_bytes: int | None = None
    """Bytes that wait for a client, beyond which `Connection.offer` does nothing; None: `max_buffered_bytes`."""
    max_inbox: int = 256
    """Messages of one client that wait for the application, which may hold `max_payload` bytes together: with more its
    WebSocket is not read, its POST not answered."""
    transports: Collection[TransportName] = ("polling", "websocket")
    allow_upgrades: bool = True
    announce_max_payload: bool = False
    """Tell EIO=3 clients `maxPayload` too, which that version's document does not know."""
    json_messages: bool = False
    """Text messages are Socket.IO packets: what is not ASCII in their JSON may be escaped for EIO=3 polling."""
    cors_origins: Collection[str] | Literal["*"] = ()
    """Origins, such as `https://example.org`, that may use this server beside its own; `"*"`: all."""
    cors_public: bool = False
    """Pages of every other origin may use this server too, without credentials: the application authenticates them."""
    cors_credentials: bool = True
