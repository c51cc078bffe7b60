"""The audit trail: read from the feed's records while they are there, from what they were condensed to afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import orjson

from stores.records import Change, Entity, HistoryEntry, difference

CONDENSE = 500
"""Change records condensed in one transaction: keeps each short beside the other writes."""


def read_history(connection: apsw.Connection, store: str, id: str) -> tuple[list[HistoryEntry], Entity | None]:
    """The entries of one entity, oldest first, and its last state if it has been deleted."""
    entries: list[HistoryEntry] = []
    final: Entity | None = None
    sql = "SELECT op, rev, by, time, changed, final FROM history WHERE store=? AND id=? ORDER BY seq"
    for op, rev, by, time, changed, last in connection.execute(sql, (store, id)):
        pairs = {name: (old, new) for name, (old, new) in orjson.loads(changed).items()}
        entries.append(HistoryEntry(time, by, op, rev, pairs))
        final = orjson.loads(last) if last else None
    sql = "SELECT op, before, after, by, time FROM changes WHERE store=? AND id=? ORDER BY seq"
    for op, before, after, by, time in connection.execute(sql, (store, id)):
        change = Change("", op, store, id, before, after, by, time)
        entries.append(as_entry(change))
        final = change.before if op == "delete" else None
    return entries, final


def as_entry(change: Change) -> HistoryEntry:
    last = change.after or change.before or {}
    return HistoryEntry(change.time, change.by, change.op, last.get("_rev", 0), difference(change.before, change.after))


def condense(connection: apsw.Connection, up_to: int) -> int:
    """Move the oldest change records, those with `seq` up to `up_to`, into the history; returns how many."""
    sql = "SELECT seq, op, store, id, before, after, by, time FROM changes WHERE seq<=? ORDER BY seq LIMIT ?"
    rows = list(connection.execute(sql, (up_to, CONDENSE)))
    connection.executemany("INSERT OR REPLACE INTO history VALUES(?,?,?,?,?,?,?,?,?)", _condensed(rows))
    if rows:
        connection.execute("DELETE FROM changes WHERE seq<=?", (rows[-1][0],))
    return len(rows)


def _condensed(rows: list[tuple[apsw.SQLiteValue, ...]]) -> Iterator[tuple[apsw.SQLiteValue, ...]]:
    for seq, *rest in rows:
        change = Change("", *rest)  # type: ignore[arg-type]
        entry = as_entry(change)
        changed = orjson.dumps(entry.changed).decode()
        final = orjson.dumps(change.before).decode() if change.op == "delete" else None
        yield seq, change.store, change.id, change.op, entry.rev, entry.by, entry.time, changed, final


def retired_up_to(connection: apsw.Connection, oldest_kept: int, most_bytes: int) -> int:
    """The `seq` up to which change records have outlived their age (Unix ms) or the room there is for them.

    The newest record always stays: the feed's position is read from it.
    """
    newest = connection.execute("SELECT max(seq) FROM changes").get or 0
    by_age = connection.execute("SELECT max(seq) FROM changes WHERE time<?", (oldest_kept,)).get or 0
    return min(newest - 1, max(by_age, _over_size(connection, most_bytes)))


def _over_size(connection: apsw.Connection, most_bytes: int) -> int:
    size = "coalesce(octet_length(before),0)+coalesce(octet_length(after),0)+100"
    total = connection.execute(f"SELECT sum({size}) FROM changes").get or 0
    excess = total - most_bytes
    if excess <= 0:
        return 0
    for seq, bytes_ in connection.execute(f"SELECT seq, {size} FROM changes ORDER BY seq"):
        excess -= bytes_
        if excess <= 0:
            return int(seq)
    return 0
