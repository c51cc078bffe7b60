"""Index lookup for references in lists, and in lists of objects.

SQLite has no index over the elements of lists. So a table beside the store's table leads from a value at a path to the
rows that have it there. Triggers keep it: it has every string and number that a filter on the path finds. The condition
itself is tested on each row all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw

from stores.compound import conjuncts
from stores.query import Equal, Filter, In
from stores.sqlite.compile import Compiler
from stores.sqlite.tables import StoreTable, encoded, identifier, json_path, quoted

_TABLE: Final = """CREATE TABLE IF NOT EXISTS {references}(
  path TEXT NOT NULL, value NOT NULL, row INTEGER NOT NULL, PRIMARY KEY(path, value, row)) WITHOUT ROWID"""

_ADD: Final = "INSERT OR IGNORE INTO {references} {entries};"

# It names the columns of the primary key, so the index is used.
_REMOVE: Final = "DELETE FROM {references} WHERE path={path} AND row=OLD.row AND value IN ({values});"

_PURPOSES: Final = ("listed", "relisted", "unlisted")


def set_listed(connection: apsw.Connection, table: StoreTable, listed: frozenset[str]) -> None:
    """Make the index of a store hold exactly these paths."""
    for name in _trigger_names(table):
        connection.execute(f"DROP TRIGGER IF EXISTS {identifier(name)}")
    if listed:
        connection.execute(_TABLE.format(references=table.references))
    else:
        connection.execute(f"DROP TABLE IF EXISTS {table.references}")
    new = sorted(listed - table.listed)
    if listed:
        for path in [*new, *(table.listed - listed)]:
            connection.execute(f"DELETE FROM {table.references} WHERE path=?", (path,))
    for path in new:
        entries = f"SELECT {quoted(path)},e.value,t.row FROM {table.table} t, {_values(path, 't')}"
        connection.execute(_ADD.format(references=table.references, entries=entries))
    connection.execute("DELETE FROM listed WHERE store=?", (table.name,))
    connection.executemany("INSERT INTO listed VALUES(?,?)", [(table.name, path) for path in sorted(listed)])
    table.listed = listed
    for sql in listing_triggers(table).values():
        connection.execute(sql)


def listing_triggers(table: StoreTable) -> dict[str, str]:
    """Return the statements that create the triggers of the index, by the names of the triggers."""
    if not table.listed:
        return {}
    paths = sorted(table.listed)
    fields = dict.fromkeys(json_path(path.split(".")[0]) for path in paths)
    altered = " OR ".join(f"NEW.doc->{field} IS NOT OLD.doc->{field}" for field in fields)
    bodies = (
        f"INSERT ON {table.table} BEGIN {_adds(table, paths)}",
        # The difference only: a list may have a thousand values, of which one changes.
        f"UPDATE ON {table.table} WHEN {altered} BEGIN {_removes(table, paths, 'NEW')} {_adds(table, paths, 'OLD')}",
        f"DELETE ON {table.table} BEGIN {_removes(table, paths)}",
    )
    return {
        name: f"CREATE TRIGGER {identifier(name)} AFTER {body} END"
        for name, body in zip(_trigger_names(table), bodies, strict=True)
    }


def _trigger_names(table: StoreTable) -> list[str]:
    return [f"{purpose}_{encoded(table.name)}" for purpose in _PURPOSES]


def _adds(table: StoreTable, paths: list[str], less: str = "") -> str:
    """Return the statements of a trigger that add the entries of the new row, without those of the row `less`."""
    entries = [f"SELECT {quoted(path)},value,NEW.row FROM ({_difference(path, 'NEW', less)})" for path in paths]
    return " ".join(_ADD.format(references=table.references, entries=each) for each in entries)


def _removes(table: StoreTable, paths: list[str], less: str = "") -> str:
    """Return the statements of a trigger that remove the entries of the old row, without those of the row `less`."""
    values = [(quoted(path), _difference(path, "OLD", less)) for path in paths]
    return " ".join(_REMOVE.format(references=table.references, path=path, values=each) for path, each in values)


def _difference(path: str, row: str, less: str) -> str:
    """Return the SQL for the values of one row that another one does not have."""
    values = f"SELECT e.value FROM {_values(path, row)}"
    return f"{values} EXCEPT SELECT e.value FROM {_values(path, less)}" if less else values


def _values(path: str, row: str) -> str:
    """Return the SQL after FROM for the values `e.value` at a path of `row`. Before its end the path leads through
    objects, and through lists of objects; at its end may be a list."""
    *above, last = path.split(".")
    tables: list[str] = []
    document = f"{row}.doc"
    for depth, name in enumerate(above):
        here = json_path((name,))
        inner = f"{document}->{here}"
        as_list = f"CASE json_type({document},{here}) WHEN 'array' THEN {inner} ELSE json_array({inner}) END"
        tables.append(f"json_each({as_list}) e{depth}")
        document = f"(CASE e{depth}.type WHEN 'object' THEN e{depth}.value ELSE '{{}}' END)"
    tables.append(f"json_each({document},{json_path((last,))}) e")
    return f"{', '.join(tables)} WHERE e.type IN ('text','integer','real')"


# Queries.


def sought(connection: apsw.Connection, table: StoreTable, where: Filter) -> Equal | In | None:
    """Return a condition that all matches of a filter meet and that the index serves, or None. Call it inside the
    snapshot in which its rows are read."""
    if not table.listed:
        return None
    for part in conjuncts(where):
        if isinstance(part, Equal | In) and _is_served(part, table) and _exists(connection, table, part):
            return part
    return None


def rows_sql(compiler: Compiler, part: Equal | In) -> str:
    """Return the SQL for the rows that may meet the condition. It may return a row twice."""
    path = compiler.bind(".".join(part.path))
    values = compiler.bind_list([*_values_of(part)])
    return f"SELECT row FROM {compiler.table.references} WHERE path={path} AND value IN ({values})"


def joined_sql(compiler: Compiler, part: Equal | In) -> str:
    """Return the SQL of the store's table joined with the entries of a condition on one value, up to the further
    conditions. Unlike a list of all rows, it is read only as far as matches are wanted. Empty for several values, of
    which a row may have two."""
    values = [*_values_of(part)]
    if len(values) != 1:
        return ""
    path, value = compiler.bind(".".join(part.path)), compiler.bind(values[0])
    tables = f"{compiler.table.references} CROSS JOIN {compiler.table.table} USING(row)"
    return f"{tables} WHERE path={path} AND value={value} AND"


def count(connection: apsw.Connection, table: StoreTable, part: Equal | In, most: int) -> int:
    """Return how many rows may meet the condition, where a row with several of the values counts for each; `most` + 1
    if they are more than `most`."""
    compiler = Compiler(table)
    sql = f"SELECT count(*) FROM ({rows_sql(compiler, part)} LIMIT {most + 1})"
    return int(connection.execute(sql, compiler.values).get)


def _is_served(part: Equal | In, table: StoreTable) -> bool:
    return ".".join(part.path) in table.listed and all(
        isinstance(value, str | int | float) and not isinstance(value, bool) for value in _values_of(part)
    )


def _values_of(part: Equal | In) -> Iterator[object]:
    yield from part.values if isinstance(part, In) else (part.value,)


def _exists(connection: apsw.Connection, table: StoreTable, part: Equal | In) -> bool:
    """Return whether the snapshot has the path. It may not, between the commit of a new definition and the moment that
    the engine learns of it."""
    sql = "SELECT EXISTS(SELECT 1 FROM listed WHERE store=? AND path=?)"
    return bool(connection.execute(sql, (table.name, ".".join(part.path))).get)
