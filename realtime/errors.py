"""Errors of live requests and subscriptions, besides those of `stores` and `auth`.

LiveError
├── BadRequest          the message is not a valid request: names the member at fault
├── TooManySubscriptions
├── FiltersTooLarge      the filters of a user's subscriptions, or of all, take too much memory
└── SnapshotTooLarge    more entities match than one acknowledgement may carry
"""

from __future__ import annotations

from stores.bounds import Limited


class LiveError(Limited):
    """Base of these errors. `field` is the member of the request at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class BadRequest(LiveError):
    pass


class TooManySubscriptions(LiveError):
    pass


class FiltersTooLarge(LiveError):
    pass


class SnapshotTooLarge(LiveError):
    pass
