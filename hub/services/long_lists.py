"""Limits the streamed lists of a user: each holds a snapshot of the database while it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from hub.errors import TooManyLists


class LongLists:
    """Counts streamed lists. `most`: lists of one user at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_user: Counter[str] = Counter()

    async def counted(self, user_id: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Return `body`, counted for the user until it is read or closed. If the user has too many, close it and raise
        TooManyLists."""
        counted = _Counted(self, user_id, body)
        if self._of_user[user_id] > self._most:
            await counted.aclose()
            raise TooManyLists(f"{self._most} long lists are being read").at("max_long_lists_per_user")
        return counted

    def add(self, user_id: str, change: int) -> None:
        self._of_user[user_id] += change
        if not self._of_user[user_id]:
            del self._of_user[user_id]


class _Counted:
    """An iterator rather than a generator: closing a generator before its first step would run none of its code."""

    def __init__(self, lists: LongLists, user_id: str, body: Any) -> None:
        self._lists = lists
        self._user_id = user_id
        self._body = body
        self._open = True
        lists.add(user_id, 1)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await anext(self._body)
        except BaseException:
            self._leave()
            raise
        return piece

    async def aclose(self) -> None:
        self._leave()
        await self._body.aclose()

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._lists.add(self._user_id, -1)
