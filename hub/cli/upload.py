"""Sends rows to a store in batches. What the hub refuses is taken out and reported, and the others are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hub.cli.client import Client, Refused, Unreachable, path_of
from hub.cli.rows import Row
from hub.cli.tables import Refusal

MAX_TRIES: Final = 6
"""How often one batch of an upsert is sent while the hub does not answer; the waits grow from 0.5 to 8 seconds."""


class Upload:
    """`imported` rows are in, up to and including the row `reached`, which counts the refused ones as well."""

    def __init__(
        self, client: Client, store: str, key: str | None, batch: int, refuse: Callable[[Sequence[Refusal]], None]
    ) -> None:
        self.client = client
        self.path = path_of(store)
        self.params = {"upsert": key} if key else {}
        self.batch = batch
        self.size = batch
        self.refuse = refuse
        self.imported = 0
        self.reached = 0

    async def send(self, rows: Sequence[Row]) -> None:
        """Import `rows`. Raises Refused when the hub refuses more than rows, and Unreachable."""
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
        """Report the rows that the answer is about, and return their numbers; none yet when it does not tell which.

        The next parts are smaller then, down to one row, and also after a conflict, which stops at the first row
        concerned: a file full of conflicts costs a small request for each. Raises `error` when it is not about rows.
        """
        if error.status not in (400, 409, 413) or (self.params and "upsert" in error.errors):
            raise error
        named = row_errors(part, error)
        if error.status == 409 or not named:
            self.size = max(1, len(part) // 8)
        if named:
            self.refuse(named)
        return {refusal.number for refusal in named}

    async def post(self, part: Sequence[Row]) -> None:
        """Send one array. An upsert may be sent again when its answer is lost; an insert might double."""
        body = b"[" + b",".join(row.body for row in part) + b"]"
        for tried in range(1, MAX_TRIES + 1):
            try:
                await self.client.request("POST", self.path, self.params, body)
            except (Refused, Unreachable) as error:
                passing = isinstance(error, Unreachable) or error.status == 503
                if not (passing and self.params and tried < MAX_TRIES):
                    raise
                await asyncio.sleep(2 ** (tried - 2))
            else:
                return


def row_errors(part: Sequence[Row], error: Refused) -> list[Refusal]:
    """``{"3.price": [text]}`` → the refusals of the rows that the answer names by their place in the array. An answer
    about a single row need not name it."""
    named = []
    for path, texts in error.errors.items():
        place, _, field = path.partition(".")
        if place.isdecimal() and int(place) < len(part):
            named.append(Refusal(part[int(place)].number, field, " ".join(texts)))
        elif len(part) == 1:
            named.append(Refusal(part[0].number, path, " ".join(texts)))
    if not named and len(part) == 1:
        named.append(Refusal(part[0].number, "", str(error)))
    return named
