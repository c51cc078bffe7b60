"""Outcomes of commits by idempotency key, in the file. They are read and written in the transaction of the commit."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from stores.errors import KeyReused
from stores.protocol import IdempotencyKey, Written, pack, unpack
from stores.records import now_ms


def outcome_size(connection: apsw.Connection, key: IdempotencyKey) -> int | None:
    """Return the bytes of the outcome that is kept under this key, whatever its fingerprint; None without one."""
    sql = "SELECT octet_length(outcome) FROM idempotency WHERE key=? AND expires>?"
    size: int | None = connection.execute(sql, (key.key, now_ms())).get
    return size


def earlier_outcome(connection: apsw.Connection, key: IdempotencyKey) -> list[Written] | None:
    """Return the outcome of the commit that was done with this key. Raises KeyReused when that was another request."""
    sql = "SELECT fingerprint, outcome FROM idempotency WHERE key=? AND expires>?"
    row = connection.execute(sql, (key.key, now_ms())).fetchone()
    if row is None:
        return None
    if row[0] != key.fingerprint:
        raise KeyReused("this key came with another request before")
    return unpack(row[1])


def remember(connection: apsw.Connection, key: IdempotencyKey, written: Sequence[Written]) -> None:
    row = (key.key, key.fingerprint, key.expires, pack(written).decode())
    connection.execute("INSERT OR REPLACE INTO idempotency VALUES(?,?,?,?)", row)


def forget_expired(connection: apsw.Connection, now: int) -> None:
    """Remove the outcomes whose time is over at `now` (Unix ms)."""
    connection.execute("DELETE FROM idempotency WHERE expires<=?", (now,))
