"""Commits in live events: the last change of a commit that a channel shows is marked, so all of them are looked at
before the first one is delivered."""

from __future__ import annotations

from collections.abc import Sequence

from realtime.channels import Channel
from realtime.subscriber import Subscriber
from stores.commits import is_cut
from stores.records import Change

Numbered = tuple[bytes, Change]
"""A change with its order."""


class CurrentCommit:
    """The commit that fan-out delivers. `lasts` holds the position of the last change of it that each channel shows."""

    __slots__ = ("changes", "lasts")

    def __init__(self) -> None:
        self.changes: Sequence[Numbered] = ()
        self.lasts: dict[Channel[Subscriber], str] = {}

    def begin(self, changes: Sequence[Numbered]) -> None:
        self.changes = changes
        self.lasts = {}

    def end(self) -> None:
        self.changes = ()
        self.lasts = {}

    def holds(self, change: Change) -> bool:
        return bool(self.changes) and change.commit == self.changes[0][1].commit

    def after(self, order: bytes) -> list[Numbered]:
        """Return its changes after `order`."""
        return [(at, change) for at, change in self.changes if at > order]

    def completed(self, changes: Sequence[Change], order: bytes) -> Sequence[Change]:
        """Return `changes`, which end at `order`, with the rest of their last commit if that is the current one."""
        if not is_cut(changes) or not self.holds(changes[-1]):
            return changes
        return [*changes, *(change for _, change in self.after(order))]


def commit_at(changes: Sequence[Numbered], index: int) -> Sequence[Numbered]:
    """Return the changes of one commit, of which the one at `index` is the first."""
    commit, end = changes[index][1].commit, index
    while end < len(changes) and changes[end][1].commit == commit:
        end += 1
    return changes[index:end]
