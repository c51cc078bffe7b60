"""Brings files of earlier versions up to date when they are opened."""

from __future__ import annotations

import logging
from collections.abc import Collection

import apsw

from stores.sqlite.compounds import statements
from stores.sqlite.connection import temporary_files
from stores.sqlite.tables import IDEMPOTENCY, StoreTable, identifier, indexes
from stores.sqlite.triggers import renew_triggers

log = logging.getLogger(__name__)


def mend_file(connection: apsw.Connection, tables: Collection[StoreTable]) -> None:
    """Replace what another version of the hub has created in another way. Takes long only for indexes of large
    stores."""
    _add_commit_numbers(connection)
    renew_triggers(connection, tables)
    with temporary_files(connection), connection:
        _renew_idempotency(connection)
        _renew_indexes(connection, tables)


def _add_commit_numbers(connection: apsw.Connection) -> None:
    """Add the column to the log of changes, which has not always had it. Earlier records have no number."""
    columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('changes')")}
    if "commit_number" not in columns:
        connection.execute("ALTER TABLE changes ADD COLUMN commit_number INTEGER")


def _renew_idempotency(connection: apsw.Connection) -> None:
    """Give the table row numbers, which it has not always had."""
    sql: str = connection.execute("SELECT sql FROM sqlite_schema WHERE name='idempotency'").get
    if "WITHOUT ROWID" not in sql:
        return
    connection.execute("ALTER TABLE idempotency RENAME TO idempotency_before; DROP INDEX idempotency_expires")
    connection.execute(IDEMPOTENCY)
    connection.execute("INSERT INTO idempotency SELECT key, fingerprint, expires, outcome FROM idempotency_before")
    connection.execute("DROP TABLE idempotency_before")


def _renew_indexes(connection: apsw.Connection, tables: Collection[StoreTable]) -> None:
    """Create the indexes of paths again whose statements have changed. Names of indexes ignore case, and the names of
    earlier versions held the paths as they are: paths that differ in case only overwrote each other's indexes."""
    found = "SELECT name, sql FROM sqlite_schema WHERE type='index' AND name GLOB 'x[uscmn]_*:*'"
    present: dict[str, str] = dict(connection.execute(found))
    wanted = [(table, p.path, indexes(table, p.path, p.unique)) for table in tables for p in table.paths.values()]
    wanted += [(table, ", ".join(c.paths), statements(table, c)) for table in tables for c in table.compounds.values()]
    right = {name for _, _, each in wanted for name, sql in each.items() if present.get(name) == sql}
    for name in present.keys() - right:
        connection.execute(f"DROP INDEX {identifier(name)}")
    for table, path, each in wanted:
        for name in each.keys() - right:
            _create(connection, table, path, each[name])


def _create(connection: apsw.Connection, table: StoreTable, path: str, sql: str) -> None:
    try:
        with connection:
            connection.execute(sql)
    except apsw.ConstraintError:
        # An earlier version has lost the index, and then taken these values. The store keeps them.
        log.error("values repeat at the unique path %r of store %r: change them, and start again", path, table.name)
