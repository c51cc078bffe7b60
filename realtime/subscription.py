"""One subscription: its view and filter, its channel, and the position up to which the client has its changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from auth.view import View
from realtime.channels import Channel, ChannelKey
from realtime.client_sink import ClientSink
from realtime.subscriber import Subscriber
from stores.canonical import filter_text
from stores.errors import StoreError
from stores.protocol import Batch
from stores.query import Filter, Projection
from stores.schema import StoreDefinition


class Owner(Protocol):
    """The subscriptions of one session, as a subscription sees them."""

    @property
    def sink(self) -> ClientSink: ...

    def goes_on(self, subscription: Subscription) -> bool:
        """Return whether the client is connected, and the subscription continues with the same view."""

    def fall_behind(self, subscription: Subscription) -> None:
        """Mute the subscription; it catches up as fast as the client reads."""

    def end(self, subscription: Subscription, error: Exception) -> None:
        """Remove the subscription and send the reason."""

    def may_show(self, subscription: Subscription, batch: Batch, until: str) -> bool:
        """Return whether a change up to position `until` may show something in the view."""


@dataclass(eq=False, slots=True)
class Subscription:
    """A subscription of one session: the entities of `view` that match `filter`.

    `names` are the ids that the client has given it, with None for a request without one. The subscription ends with
    its last name. While `channel` is None, no changes are delivered, and `position` is the position reached so far.
    """

    owner: Owner
    topic: str
    view: View
    filter: Filter
    projection: Projection
    names: set[str | None] = field(default_factory=set)
    position: str = ""
    delivered_up_to: bytes = b""
    channel: Channel[Subscriber] | None = None
    ended: bool = False
    generation: int = 0
    """The fan-out's generation in which it joined the channel."""
    user: str = ""
    """The user whose budget of steps its matches take."""
    on_drop: Callable[[], None] | None = None
    where: Filter = field(init=False)
    key: ChannelKey = field(init=False)
    deliver: Callable[[bytes, str], bool] = field(init=False)

    def __post_init__(self) -> None:
        # Called for every delivery, so it refers directly to the connection.
        self.deliver = self.owner.sink.offer
        self.set_view(self.view)

    @property
    def store(self) -> str:
        return self.view.store

    @property
    def definition(self) -> StoreDefinition:
        return self.view.definition

    def set_view(self, view: View) -> None:
        """Continue with another view of the same store."""
        self.view = view
        self.where = view.narrowed(self.filter)
        self.key = ChannelKey(view.store, filter_text(self.where), self.projection, view.digest)

    @property
    def is_beginning(self) -> bool:
        """Whether its acknowledgement, which gives it a position, is not sent yet."""
        return not self.position

    @property
    def goes_on(self) -> bool:
        """Whether the client is connected, and the subscription continues with the same view."""
        return self.owner.goes_on(self)

    def reached(self, position: str, order: bytes) -> None:
        """Record that this change was delivered here, while others still wait for it."""
        self.position, self.delivered_up_to = position, order

    def fall_behind(self) -> None:
        """Catch up later, because there was no room for the change that fan-out delivers."""
        self.owner.fall_behind(self)

    def fail(self, error: StoreError) -> None:
        self.owner.end(self, error)
