"""Counts the active requests, those that do not wait for their client: in all, of each address and of each user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from hub.http.connections import Peer
from hub.http.errors import Overloaded
from stores.bounds import Limit

ACTIVE: Final = "hub.active"
"""Scope key of the `ActiveRequest`."""

REQUESTS_SHARE: Annotated[float, Limit("address, and user", "of `HUB_MAX_REQUESTS`", "503")] = 0.5
"""Share of the active requests that one address or one user may have: nobody refuses the requests of all others."""


class ActiveRequests:
    """`most`: active requests of the process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.each = max(1, int(REQUESTS_SHARE * most))
        self.running: set[ActiveRequest] = set()


class ActiveRequest:
    """One request. It is active from its beginning until `end`, except between `pause` and `resume`.

    Args:
        peer: the address of its connection, if known. A trusted proxy's has no limit.
    """

    __slots__ = ("_all", "is_at_work", "peer", "user")

    def __init__(self, all: ActiveRequests, peer: Peer | None) -> None:
        self._all = all
        self.peer = peer
        self.user = ""
        """The user's id, once the request is authenticated."""
        self.is_at_work = False
        """Whether the hub works on it, and receives beside that only to notice that the client disconnects."""
        all.running.add(self)

    def resume(self) -> None:
        self._all.running.add(self)

    def pause(self) -> None:
        self._all.running.discard(self)

    end = pause

    def authenticated(self, user: str) -> None:
        """Count the request for this user. Raises Overloaded if the user has too many."""
        self.user = user
        every = self._all
        # Requests are told apart only if there are many: fewer in all are fewer of each address and user.
        if len(every.running) > every.each:
            self._check_user()

    def check(self) -> None:
        """Raise Overloaded if there are too many active requests for this one."""
        every = self._all
        if len(every.running) <= every.each:
            return
        if len(every.running) > every.most:
            raise Overloaded(f"{every.most} requests are being answered").at("max_requests")
        peer = self.peer
        if peer is not None and not peer.exempt:
            same = sum(each.peer is not None and each.peer.block == peer.block for each in every.running)
            if same > every.each:
                raise too_many(every.each, "This address has")
        self._check_user()

    def check_unread(self, size: int) -> None:
        """Raise Overloaded if there is no room for an answer of `size` bytes that its client does not read."""
        if self.peer is not None:
            self.peer.all.unread.check(self.peer.limited, self.user, size)

    @contextmanager
    def unread(self, size: int) -> Iterator[None]:
        """Count `size` bytes as unread while the block runs."""
        peer, user = self.peer, self.user
        if peer is None:
            yield
            return
        peer.all.unread.grow(peer.limited, user, size)
        try:
            yield
        finally:
            peer.all.unread.shrink(peer.limited, user, size)

    def _check_user(self) -> None:
        every = self._all
        if self.user and sum(each.user == self.user for each in every.running) > every.each:
            raise too_many(every.each, "You have")


def too_many(each: int, whose: str) -> Overloaded:
    text = f"{whose} {each} active requests, and REQUESTS_SHARE of HUB_MAX_REQUESTS allows no more: try again."
    return Overloaded("too many requests of one address or user", "request", text).at("REQUESTS_SHARE")
