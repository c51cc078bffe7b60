"""Caches of principals, and the record of changes that make principals stale while they are being read."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from auth.principal import Principal

T = TypeVar("T")


class Loads:
    """Records which users and credentials change while principals are being read.

    It holds at most `most` ids. Beyond that, all principals count as changed.
    """

    def __init__(self, most: int) -> None:
        self.generation = 0
        self._most = most
        self._running = 0
        self._all_changed = 0
        self._changed: dict[str, int] = {}  # generation by id

    @contextmanager
    def running(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._changed.clear()

    def invalidate(self, id: str) -> None:
        if not self._running:
            return
        if len(self._changed) >= self._most:
            self.invalidate_all()
            return
        self.generation += 1
        self._changed[id] = self.generation

    def invalidate_all(self) -> None:
        self.generation += 1
        self._all_changed = self.generation
        self._changed.clear()

    def is_valid(self, principal: Principal, began: int) -> bool:
        """Return whether nothing that the principal depends on has changed since generation `began`."""
        ids = (principal.user_id, principal.credential_id)
        return self._all_changed <= began and all(self._changed.get(id, 0) <= began for id in ids)


class PrincipalCache(Generic[T]):
    """At most `most` values by the digest of their credential; the oldest goes. `principal_of` returns the principal of
    a value, by whose user and credential it is found again."""

    def __init__(self, most: int, principal_of: Callable[[T], Principal]) -> None:
        self._most = most
        self.principal_of = principal_of
        self._values: OrderedDict[str, T] = OrderedDict()
        self._digest_of: dict[str, str] = {}  # by credential id
        self._digests_of_user: dict[str, set[str]] = defaultdict(set)

    def get(self, digest: str) -> T | None:
        return self._values.get(digest)

    def remember(self, digest: str, value: T) -> None:
        self._drop(digest)  # another request may have read it at the same time
        principal = self.principal_of(value)
        self._values[digest] = value
        self._digest_of[principal.credential_id] = digest
        self._digests_of_user[principal.user_id].add(digest)
        if len(self._values) > self._most:
            self._drop(next(iter(self._values)))

    def forget_user(self, id: str) -> None:
        for digest in list(self._digests_of_user.get(id, ())):
            self._drop(digest)

    def forget_credential(self, id: str) -> None:
        digest = self._digest_of.get(id)
        if digest is not None:
            self._drop(digest)

    def clear(self) -> None:
        self._values.clear()
        self._digest_of.clear()
        self._digests_of_user.clear()

    def _drop(self, digest: str) -> None:
        value = self._values.pop(digest, None)
        if value is None:
            return
        principal = self.principal_of(value)
        self._digest_of.pop(principal.credential_id, None)
        digests = self._digests_of_user[principal.user_id]
        digests.discard(digest)
        if not digests:
            del self._digests_of_user[principal.user_id]
