"""Feed positions as principals get them: a position, bound to the digest of the view that its holder had.

What changed since a position tells the whole difference only to somebody who sees by the same rule as then: a user
who was moved to another group, or another user, has to start from a fresh list.
"""

from __future__ import annotations

from stores.errors import HistoryGone

SEPARATOR = "~"
_NOBODY = "-"
"""In place of a digest: the view of nobody."""


def bind(position: str, digest: str) -> str:
    """The position as text, bound to principals whose views have this digest."""
    return f"{position}{SEPARATOR}{digest}"


def bind_to_nobody(position: str) -> str:
    """The position as text that nobody can unbind: for what is delivered while a view changes. Only all of it, and the
    position that follows, make a view that can be gone on with, whatever the holder's rights are by then."""
    return f"{position}{SEPARATOR}{_NOBODY}"


def unbind(text: str, digest: str) -> str:
    """The feed position in what `bind` made. Raises HistoryGone when the holder's view is not what it was."""
    position, _, given = text.rpartition(SEPARATOR)
    if given != digest:
        raise HistoryGone("this position was given to somebody who sees other entities")
    return position
