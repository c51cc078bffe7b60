"""Commits in the feed: which changes were committed together, and which of them is the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final

from stores.bounds import Limit
from stores.records import Change

MOST_COMMIT_CHANGES: Final[Annotated[int, Limit("commit", "changes", "`commit` is absent")]] = 1_000
"""Changes of a commit that readers of the feed get as one: they are in memory together."""

MOST_COMMIT_BYTES: Final[Annotated[int, Limit("commit", "bytes of changes", "`commit` is absent")]] = 33_554_432
"""Bytes of the changes of such a commit."""


_MOST_KNOWN: Final = 1_000
"""Commits in LargeCommits."""


class CommitSize:
    """The changes and bytes of the commit to which the latest change belongs."""

    __slots__ = ("_bytes", "_changes", "_commit")

    def __init__(self) -> None:
        self._commit: str | None = None
        self._changes = self._bytes = 0

    def add(self, change: Change) -> None:
        if change.commit is None or change.commit != self._commit:
            self._commit, self._changes, self._bytes = change.commit, 0, 0
        self._changes += 1
        self._bytes += change.size

    @property
    def is_too_large(self) -> bool:
        return self._changes > MOST_COMMIT_CHANGES or self._bytes > MOST_COMMIT_BYTES

    def goes_on_with(self, change: Change) -> bool:
        """Return whether a change belongs to the same commit."""
        return change.commit is not None and change.commit == self._commit


def is_too_large(changes: Sequence[Change]) -> bool:
    """Return whether these changes of one commit are more than readers get as one."""
    return len(changes) > MOST_COMMIT_CHANGES or sum(change.size for change in changes) > MOST_COMMIT_BYTES


def mark_commits(
    changes: Sequence[Change],
    continued: str | None = None,
    *,
    cut: bool = False,
    too_large: Callable[[Sequence[Change]], bool] = is_too_large,
) -> None:
    """Mark the last change of each commit, and remove the commit of changes that are alone or too many.

    `continued` is a commit of which earlier changes have been read before. With `cut`, more of the last commit may
    follow. `too_large` decides about the changes of one commit, which may be a part of it."""
    for start, end in _runs(changes):
        is_open = cut and end == len(changes)
        if end - start == 1 and not is_open and changes[start].commit != continued:
            changes[start].commit = None  # it is alone
            continue
        run = changes[start:end]
        if too_large(run):
            for change in run:
                change.commit = None
        else:
            run[-1].ends_commit = not is_open


class LargeCommits:
    """Remembers the latest commits that were too large, because a later part of one may look small."""

    def __init__(self) -> None:
        self._known: dict[str | None, None] = {}

    def too_large(self, changes: Sequence[Change]) -> bool:
        """Return whether these changes belong to a commit that is too large, and remember it."""
        commit = changes[0].commit
        if commit in self._known:
            return True
        if not is_too_large(changes):
            return False
        self._known[commit] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return True


def rest_of_commit(changes: Sequence[Change], index: int) -> Sequence[Change]:
    """Return the changes after the one at `index` that belong to its commit."""
    commit = changes[index].commit
    end = index + 1
    if commit is not None:
        while end < len(changes) and changes[end].commit == commit:
            end += 1
    return changes[index + 1 : end]


def is_cut(changes: Sequence[Change]) -> bool:
    """Return whether the commit of the last change goes on after it."""
    return bool(changes) and changes[-1].commit is not None and not changes[-1].ends_commit


def _runs(changes: Sequence[Change]) -> Iterator[tuple[int, int]]:
    """Yield the beginning and the end of each run of changes with the same commit."""
    start = 0
    for index in range(1, len(changes) + 1):
        commit = changes[start].commit
        if index == len(changes) or commit is None or changes[index].commit != commit:
            if commit is not None:
                yield start, index
            start = index
