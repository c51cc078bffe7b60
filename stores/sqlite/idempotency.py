"""Outcomes of commits by idempotency key, in the file. They are read and written in the transaction of the commit.

The first `PART_BYTES` of an outcome stand beside its key, and the others in a table of parts: a value is copied in one
piece, and no other thread runs meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import apsw

from stores.errors import KeyReused
from stores.protocol import IdempotencyKey, Written, pack, unpack
from stores.records import now_ms
from stores.sqlite.heavy import TooLongForLoop

PART_BYTES: Final = 1_048_576


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
    first = connection.execute("SELECT outcome FROM idempotency WHERE rowid=?", (row,)).get
    if isinstance(first, str):  # an earlier version has stored it, as a whole
        return unpack(first.encode())
    others = connection.execute("SELECT outcome FROM idempotency_parts WHERE key=? ORDER BY part", (key.key,))
    return unpack(b"".join([first, *(part for (part,) in others)]))


def remember(connection: apsw.Connection, key: IdempotencyKey, written: Sequence[Written]) -> None:
    """Store the outcome, in place of one under the same key that has expired."""
    text = pack(written)
    row = (key.key, key.fingerprint, key.expires, text[:PART_BYTES])
    connection.execute("DELETE FROM idempotency_parts WHERE key=?", (key.key,))
    connection.execute("INSERT OR REPLACE INTO idempotency VALUES(?,?,?,?)", row)
    for part, start in enumerate(range(PART_BYTES, len(text), PART_BYTES), 1):
        values = (key.key, part, text[start : start + PART_BYTES])
        connection.execute("INSERT INTO idempotency_parts VALUES(?,?,?)", values)


def forget_expired(connection: apsw.Connection, now: int) -> None:
    """Remove the outcomes whose time is over at `now` (Unix ms)."""
    expired = "SELECT key FROM idempotency WHERE expires<=?"
    connection.execute(f"DELETE FROM idempotency_parts WHERE key IN ({expired})", (now,))
    connection.execute("DELETE FROM idempotency WHERE expires<=?", (now,))
