"""Renaming of a store: its table, indexes and triggers, and its name in the log of changes and the history."""

from __future__ import annotations

import apsw

from stores.sqlite.compounds import create_compound, drop_compound
from stores.sqlite.tables import (
    CREATE_INDEXES,
    StoreTable,
    create_index,
    drop_index,
    identifier,
    index_names,
)
from stores.sqlite.triggers import triggers


def rename_table(connection: apsw.Connection, table: StoreTable, name: str) -> StoreTable:
    """Rename a store within the caller's transaction, and return it under its new name. Makes no change records."""
    renamed = StoreTable(name, compounds=table.compounds, listed=table.listed)
    for trigger in triggers(table):
        connection.execute(f"DROP TRIGGER IF EXISTS {identifier(trigger)}")
    for path in table.paths:
        drop_index(connection, table, path)
    for compound in table.compounds.values():
        drop_compound(connection, table, compound)
    for index in index_names(table.name).values():
        connection.execute(f"DROP INDEX IF EXISTS {index}")
    connection.execute(f"ALTER TABLE {table.table} RENAME TO {renamed.table}")
    connection.execute(f"ALTER TABLE {table.acl} RENAME TO {renamed.acl}")
    if table.listed:
        connection.execute(f"ALTER TABLE {table.references} RENAME TO {renamed.references}")
        connection.execute("UPDATE listed SET store=? WHERE store=?", (name, table.name))
    connection.execute(CREATE_INDEXES.format(table=renamed.table, **index_names(name)))
    for sql in triggers(renamed).values():
        connection.execute(sql)
    connection.execute("UPDATE stores SET name=? WHERE name=?", (name, table.name))
    for log in ("changes", "history"):
        connection.execute(f"UPDATE {log} SET store=? WHERE store=?", (name, table.name))
    for path, indexed in table.paths.items():
        renamed.paths[path] = create_index(connection, renamed, path, indexed.unique)
    for compound in table.compounds.values():
        create_compound(connection, renamed, compound)
    return renamed
