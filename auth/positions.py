"""Feed positions as principals get them: a position, bound to the digest of the holder's view.

The changes since a position are the whole difference only under the same visibility rule. A user who was moved to
another group, or another user, must start from a fresh list.
"""

from __future__ import annotations

from stores.errors import HistoryGone

SEPARATOR = "~"
_NOBODY = "-"
"""Replaces the digest. It matches no view."""


def bind(position: str, digest: str) -> str:
    """Return the position as text, bound to principals whose views have this digest."""
    return f"{position}{SEPARATOR}{digest}"


def bind_to_nobody(position: str) -> str:
    """Return the position as text that `unbind` always refuses, for events that are sent while a view changes.

    A client cannot resume between these events, whatever rights it has by then. Only all of them, and the position that
    follows, make a complete view.
    """
    return f"{position}{SEPARATOR}{_NOBODY}"


def unbind(text: str, digest: str) -> str:
    """Return the feed position in a text from `bind`. Raises HistoryGone if the holder's view has changed."""
    position, _, given = text.rpartition(SEPARATOR)
    if given != digest:
        raise HistoryGone("this position was given to somebody who sees other entities")
    return position
