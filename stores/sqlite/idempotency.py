"""Outcomes of commits by idempotency key, in the file. They are read and written in the transaction of the commit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import apsw

from stores.errors import KeyReused
from stores.protocol import IdempotencyKey, Written, pack, unpack
from stores.records import now_ms
from stores.sqlite.heavy import TooLongForLoop


def earlier_outcome(
    connection: apsw.Connection, key: IdempotencyKey, longest: float = math.inf
) -> list[Written] | None:
    """Return the outcome of the commit that was done with this key. Raises KeyReused when that was another request, and
    TooLongForLoop for an outcome of more than `longest` bytes."""
    # Not the outcome: it may have 100 MB, which a request with another fingerprint must not read.
    sql = "SELECT rowid, fingerprint, octet_length(outcome) FROM idempotency WHERE key=? AND expires>?"
    found = connection.execute(sql, (key.key, now_ms())).fetchone()
    if found is None:
        return None
    row, fingerprint, size = found
    if fingerprint != key.fingerprint:
        raise KeyReused("this key came with another request before")
    if size > longest:
        raise TooLongForLoop
    return unpack(connection.execute("SELECT outcome FROM idempotency WHERE rowid=?", (row,)).get)


def remember(connection: apsw.Connection, key: IdempotencyKey, written: Sequence[Written]) -> None:
    row = (key.key, key.fingerprint, key.expires, pack(written).decode())
    connection.execute("INSERT OR REPLACE INTO idempotency VALUES(?,?,?,?)", row)


def forget_expired(connection: apsw.Connection, now: int) -> None:
    """Remove the outcomes whose time is over at `now` (Unix ms)."""
    connection.execute("DELETE FROM idempotency WHERE expires<=?", (now,))
