"""Sends rows to a store in batches. Refused rows are taken out and reported, and the others are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from hub.cli.client import Client, Refused, Unreachable, path_of
from hub.cli.rows import Row
from hub.cli.tables import Refusal

MAX_TRIES: Final = 6
"""Attempts to send one request that may be repeated, without an answer; the pauses grow from 0.5 to 8 seconds."""

T = TypeVar("T")


class Upload:
    """Imports rows. `imported` is the number of rows stored. `reached` is the number of the last row stored; row
    numbers count refused rows as well."""

    def __init__(
        self,
        client: Client,
        store: str,
        key: str | None,
        batch: int,
        refuse: Callable[[Sequence[Refusal]], None],
        *,
        keep: bool = False,
    ) -> None:
        self.client = client
        self.store = store
        self.path = path_of(store)
        self.is_upsert = key is not None
        self.params = ({} if key is None else {"upsert": key}) | ({"keep": "serials"} if keep else {})
        self.batch = batch
        self.size = batch
        self.refuse = refuse
        self.imported = 0
        self.reached = 0

    async def send(self, rows: Sequence[Row]) -> None:
        """Import `rows`. Raises Refused if the hub refuses more than single rows, and Unreachable."""
        left = list(rows)
        while left:
            part = left[: self.size]
            try:
                await self.post(part)
            except Refused as error:
                refused = self.refusals(part, error)
                left = [row for row in left if row.number not in refused]
            else:
                self.imported += len(part)
                self.reached = part[-1].number
                left = left[len(part) :]
                self.size = min(self.size * 4, self.batch)

    def refusals(self, part: Sequence[Row], error: Refused) -> set[int]:
        """Report the rows that the answer names, and return their numbers; empty if it names none.

        Without such a row, later parts are smaller, down to one row. They are smaller after a conflict, too: the hub
        stops at the first conflicting row, so each further conflict costs only a small request. Raises `error` if it
        does not concern rows.
        """
        of_rows = error.status in (409, 413) or (error.status == 400 and self.params.keys().isdisjoint(error.errors))
        if not of_rows:
            raise error
        named = row_errors(part, error)
        if error.status == 409 or not named:
            self.size = max(1, len(part) // 8)
        if named:
            self.refuse(named)
        return {refusal.number for refusal in named}

    async def post(self, part: Sequence[Row]) -> None:
        """Send one array. An upsert is repeated if its answer is lost; an insert is not, since it could create
        duplicates."""
        body = b"[" + b",".join(row.body for row in part) + b"]"

        async def post() -> None:
            await self.client.request("POST", self.path, self.params, body)

        await (repeated(post) if self.is_upsert else post())


async def repeated(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request; send it again if no answer arrives, or the hub is not ready."""
    for tried in range(1, MAX_TRIES):
        try:
            return await request()
        except (Refused, Unreachable) as error:
            if isinstance(error, Refused) and error.status != 503:
                raise
            await asyncio.sleep(2 ** (tried - 2))
    return await request()


def row_errors(part: Sequence[Row], error: Refused) -> list[Refusal]:
    """Return the refusals of rows that an answer names by position: ``{"3.price": [text]}``. An answer about a single
    row need not name it."""
    named = []
    for path, texts in error.errors.items():
        position, _, field = path.partition(".")
        if position.isdecimal() and int(position) < len(part):
            named.append(Refusal(part[int(position)].number, field, " ".join(texts)))
        elif len(part) == 1:
            named.append(Refusal(part[0].number, path, " ".join(texts)))
    if not named and len(part) == 1:
        named.append(Refusal(part[0].number, "", str(error)))
    return named
