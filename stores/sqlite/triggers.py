"""The triggers of the tables of stores. They write the change records, so that every write of an entity has one, and
what leads to entities: the ACL, and references in lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import apsw

from stores.sqlite.reference_index import listing_triggers
from stores.sqlite.tables import StoreTable, encoded, identifier, quoted

# By purpose, with which the name of each trigger begins. DELETE names both columns of an ACL's primary key, so the
# index is used.
TRIGGERS: Final[Mapping[str, str]] = {
    "inserted": """CREATE TRIGGER {trigger} AFTER INSERT ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time, commit_number)
  VALUES('insert', {name}, NEW.id, NULL, NEW.doc, hub_by(), hub_time(), hub_commit());
  INSERT OR IGNORE INTO {acl} {new_acl}; END""",
    "updated": """CREATE TRIGGER {trigger} AFTER UPDATE ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time, commit_number)
  VALUES('update', {name}, NEW.id, OLD.doc, NEW.doc, hub_by(), hub_time(), hub_commit()); END""",
    "shared": """CREATE TRIGGER {trigger} AFTER UPDATE ON {table} WHEN {moved} BEGIN
  DELETE FROM {acl} WHERE row=OLD.row AND viewer IN ({old_acl});
  INSERT OR IGNORE INTO {acl} {new_acl}; END""",
    "deleted": """CREATE TRIGGER {trigger} AFTER DELETE ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time, commit_number)
  VALUES('delete', {name}, OLD.id, OLD.doc, NULL, hub_by(), hub_time(), hub_commit());
  DELETE FROM {acl} WHERE row=OLD.row AND viewer IN ({old_acl}); END""",
}

# For the hub's own stores, whose changes are not in the feed.
TRIGGERS_UNRECORDED: Final[Mapping[str, str]] = {
    "inserted": """CREATE TRIGGER {trigger} AFTER INSERT ON {table} BEGIN
  INSERT OR IGNORE INTO {acl} {new_acl}; END""",
    "shared": TRIGGERS["shared"],
    "deleted": """CREATE TRIGGER {trigger} AFTER DELETE ON {table} BEGIN
  DELETE FROM {acl} WHERE row=OLD.row AND viewer IN ({old_acl}); END""",
}

ACL_IDS = """SELECT value{row} FROM json_each({of}.doc, '$.access') WHERE type='text'
  UNION ALL SELECT value{row} FROM json_each({of}.doc, '$.branch') WHERE type='text'
  UNION ALL SELECT {of}."group"{row} WHERE {of}."group" IS NOT NULL"""

MOVED = """NEW."group" IS NOT OLD."group" OR NEW.doc->'$.access' IS NOT OLD.doc->'$.access'
  OR NEW.doc->'$.branch' IS NOT OLD.doc->'$.branch'"""


def triggers(table: StoreTable) -> dict[str, str]:
    """Return the statements that create the triggers of a store, by the names of the triggers."""
    new, old = ACL_IDS.format(of="NEW", row=", NEW.row"), ACL_IDS.format(of="OLD", row="")
    parts = {"table": table.table, "acl": table.acl, "new_acl": new, "old_acl": old, "moved": MOVED}
    kinds = TRIGGERS if table.in_feed else TRIGGERS_UNRECORDED
    names = {purpose: f"{purpose}_{encoded(table.name)}" for purpose in kinds}
    recording = {
        names[purpose]: sql.format(trigger=identifier(names[purpose]), name=quoted(table.name), **parts)
        for purpose, sql in kinds.items()
    }
    return recording | listing_triggers(table)


def renew_triggers(connection: apsw.Connection, tables: Iterable[StoreTable]) -> None:
    """Replace triggers that another version of the hub has created with other statements."""
    present = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type='trigger'"))
    with connection:
        for table in tables:
            for name, sql in triggers(table).items():
                if present.get(name) != sql:
                    connection.execute(f"DROP TRIGGER IF EXISTS {identifier(name)}")
                    connection.execute(sql)
