"""The audit trail, read from the change records of the feed and from the condensed records of older changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import apsw
import orjson

from stores.errors import InvalidQuery
from stores.history import Page
from stores.records import Change, Entity, History, HistoryEntry, difference
from stores.sqlite.readers import snapshot
from stores.sqlite.tables import json_path

CONDENSE = 500
"""Change records condensed in one transaction: few, so that other writes do not wait long."""

CONDENSE_BYTES = 4_194_304
"""Characters of the entities in these records: the step ends with the record that exceeds them."""

_CONDENSED: Final = """SELECT seq, op, rev, by, time, changed, final, NULL FROM history
  WHERE store=? AND id=? AND seq>? ORDER BY seq"""
_CHANGES: Final = """SELECT seq, op, NULL, by, time, before, after, 1 FROM changes
  WHERE store=? AND id=? AND seq>? ORDER BY seq"""


def read_history(
    connection: apsw.Connection, store: str, id: str, after: str | None, limit: int, fields: frozenset[str]
) -> History:
    """Return a page of the entries of one entity, and its last state if it has been deleted."""
    page = Page(limit)
    with snapshot(connection):
        seq = parse_place(after)
        for sql in (_CONDENSED, _CHANGES):
            for row in connection.execute(sql, (store, id, seq)):
                if page.is_full:
                    later = _later(connection, store, id, int(page.place), fields)
                    return History(page.entries, page.place, _final(connection, store, id), later, page.place)
                entry, changed = _read_entry(store, id, row)
                page.add(str(row[0]), entry, changed, sum(len(text) for text in row[5:7] if text))
        return History(page.entries, None, _final(connection, store, id), place=page.place)


def parse_place(after: str | None) -> int:
    if after is None:
        return 0
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise InvalidQuery("after", "this cursor does not belong to this history")
    return int(after)


def _read_entry(store: str, id: str, row: tuple[Any, ...]) -> tuple[HistoryEntry, int]:
    """Return the entry in a row, and the bytes of its values."""
    _, op, rev, by, time, first, second, is_change = row
    if is_change:
        entry = as_entry(Change("", op, store, id, first, second, by, time))
        return entry, len(orjson.dumps(entry.changed))
    pairs = {name: (old, new) for name, (old, new) in orjson.loads(first).items()}
    return HistoryEntry(time, by, op, rev, pairs), len(first)


def _later(connection: apsw.Connection, store: str, id: str, seq: int, fields: frozenset[str]) -> Entity:
    """Return those of `fields` that records after `seq` change, with their values at `seq`."""
    later: Entity = {}
    for name in fields:
        path = json_path((name,))
        condensed = f"""SELECT changed->{path}->0 FROM history WHERE store=? AND id=? AND seq>?
          AND (op='delete' OR json_type(changed,{path}) IS NOT NULL) ORDER BY seq LIMIT 1"""
        change = f"SELECT before->{path} FROM changes WHERE store=? AND id=? AND seq>? ORDER BY seq LIMIT 1"
        rows = (connection.execute(sql, (store, id, seq)).fetchone() for sql in (condensed, change))
        found = next((row for row in rows if row is not None), None)
        if found is not None:
            later[name] = None if found[0] is None else orjson.loads(found[0])
    return later


def _final(connection: apsw.Connection, store: str, id: str) -> Entity | None:
    """Return the last state of a deleted entity; None while it exists."""
    for table, text in (("changes", "before"), ("history", "final")):
        sql = f"SELECT op, {text} FROM {table} WHERE store=? AND id=? ORDER BY seq DESC LIMIT 1"
        last = connection.execute(sql, (store, id)).fetchone()
        if last is not None:
            final: Entity | None = orjson.loads(last[1]) if last[0] == "delete" else None
            return final
    return None


def as_entry(change: Change) -> HistoryEntry:
    last = change.after or change.before or {}
    return HistoryEntry(change.time, change.by, change.op, last.get("_rev", 0), difference(change.before, change.after))


@dataclass(frozen=True, slots=True)
class Condensed:
    """Change records as the history keeps them: the rows of the history, and the `seq` of the last record."""

    rows: list[tuple[apsw.SQLiteValue, ...]]
    last: int


def condensed(connection: apsw.Connection, up_to: int) -> Condensed | None:
    """Return the next records to move into the history, the oldest with a `seq` up to `up_to`; None at the end.

    For a reader: it compares entities, and records do not change."""
    sql = "SELECT seq, op, store, id, before, after, by, time FROM changes WHERE seq<=? ORDER BY seq LIMIT ?"
    rows, last, size = [], 0, 0
    for last, *rest in connection.execute(sql, (up_to, CONDENSE)):
        rows.append(_condensed(last, Change("", *rest)))
        size += sum(len(text) for text in rest[3:5] if text)
        if size >= CONDENSE_BYTES:
            break
    return Condensed(rows, last) if rows else None


def _condensed(seq: int, change: Change) -> tuple[apsw.SQLiteValue, ...]:
    entry = as_entry(change)
    changed = orjson.dumps(entry.changed).decode()
    final = orjson.dumps(change.before).decode() if change.op == "delete" else None
    change.forget()
    return seq, change.store, change.id, change.op, entry.rev, entry.by, entry.time, changed, final


def move(connection: apsw.Connection, records: Condensed) -> None:
    """Move records from the log of changes into the history."""
    connection.executemany("INSERT OR REPLACE INTO history VALUES(?,?,?,?,?,?,?,?,?)", records.rows)
    connection.execute("DELETE FROM changes WHERE seq<=?", (records.last,))
    connection.execute("DELETE FROM large_commits WHERE seq<=?", (records.last,))


def retired_up_to(connection: apsw.Connection, oldest_kept: int, most_bytes: int) -> int:
    """Return the `seq` up to which change records are older than `oldest_kept` (Unix ms) or exceed `most_bytes`.

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
