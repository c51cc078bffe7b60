"""The layout of the file: one table per store, and one log of changes for all stores.

A store's table holds each entity as JSON text (`doc`), and the system fields that queries sort and filter by.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final

import apsw
import orjson

from stores.bounds import Limit
from stores.compound import ArrayCheck, CompoundIndex, paths_in, stored_index
from stores.errors import CannotOpen
from stores.paths import Path, split
from stores.protocol import is_internal
from stores.query import Filter

FORMAT = 2
APPLICATION_ID = 0x48756221
"""Marks the file as a hub's, in SQLite's own header."""

# `large_commits` has the commits that are too large to be shown as one, and a `seq` from which on they are over.
# `is_unique` is 2 for paths that have no index of their own, but are in compound indexes.
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, store TEXT NOT NULL, id TEXT NOT NULL,
  before TEXT, after TEXT, by TEXT, time INTEGER NOT NULL, commit_number INTEGER);
CREATE INDEX IF NOT EXISTS changes_of_entity ON changes(store, id);
CREATE TABLE IF NOT EXISTS large_commits(number INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS history(
  seq INTEGER PRIMARY KEY, store TEXT NOT NULL, id TEXT NOT NULL, op TEXT NOT NULL, rev INTEGER NOT NULL,
  by TEXT, time INTEGER NOT NULL, changed TEXT NOT NULL, final TEXT);
CREATE INDEX IF NOT EXISTS history_of_entity ON history(store, id);
CREATE TABLE IF NOT EXISTS paths(
  store TEXT NOT NULL, path TEXT NOT NULL, is_unique INTEGER NOT NULL, mixed INTEGER NOT NULL,
  PRIMARY KEY(store, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compounds(
  store TEXT NOT NULL, name TEXT NOT NULL, condition TEXT NOT NULL, PRIMARY KEY(store, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listed(store TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY(store, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stores(name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumers(name TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
"""

# With row numbers: in a table without them a search reads each row that it passes as a whole, and an outcome may have
# 100 MB. `outcome` has the beginning, as a blob, and `idempotency_parts` what follows it; `outcome` has the whole, as
# text, where an earlier version has stored it.
IDEMPOTENCY = """
CREATE TABLE IF NOT EXISTS idempotency(
  key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, expires INTEGER NOT NULL, outcome TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS idempotency_expires ON idempotency(expires);
CREATE TABLE IF NOT EXISTS idempotency_parts(
  key TEXT NOT NULL, part INTEGER NOT NULL, outcome BLOB NOT NULL, PRIMARY KEY(key, part));
"""

# The definition of a store creates its table. `rev`, `owner` ... repeat values in `doc`; the ACL holds the users and
# groups, other than the owner, that may see each entity according to `doc` (`stores.sqlite.visibility_index`). Its
# column `viewer` is a key of the ACL; to rename it would change every existing file.
STORE_TABLE = """
CREATE TABLE {table}(
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time INTEGER, at INTEGER, rev INTEGER NOT NULL, owner TEXT,
  "group" TEXT, doc TEXT NOT NULL);
CREATE TABLE {acl}(viewer TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY(viewer, row)) WITHOUT ROWID;
"""
CREATE_INDEXES = """
CREATE INDEX {created} ON {table}(time, id);
CREATE INDEX {owned} ON {table}(owner, time, id);
"""

_SHARED: Final = 2
"""`is_unique` of a path that is in compound indexes only."""

MOST_COUNTED_PRINCIPALS: Final[Annotated[int, Limit("store", "principals", "all go, and are counted again")]] = 1_000
"""Principals for whom a store keeps the number of visible rows."""


def quoted(value: str) -> str:
    """Return a string literal."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def encoded(name: str) -> str:
    """Return the name of a store, or a path, for use in identifiers. SQLite ignores their case, that of ASCII letters,
    but names of stores and paths are case-sensitive."""
    return re.sub("[A-Z^]", lambda match: f"^{match[0].lower()}", name)


def decoded(name: str) -> str:
    """Return the name or path that `encoded` has encoded."""
    return re.sub(r"\^(.)", lambda match: match[1].upper(), name)


def table_name(store: str) -> str:
    return identifier("e_" + encoded(store))


def index_name(store: str, path: str, purpose: str) -> str:
    """Return the name of an index. `purpose`: ``u`` unique, ``s`` for sorting by the path, ``c`` for one value in order
    of creation."""
    return f"x{purpose}_{encoded(store)}:{encoded(path)}"


@lru_cache(maxsize=4096)
def json_path(path: tuple[str, ...] | str) -> str:
    """Return the path as a literal for SQLite's JSON functions."""
    segments = path.split(".") if isinstance(path, str) else path
    return quoted("$" + "".join("." + orjson.dumps(s).decode() for s in segments))


def extract(path: tuple[str, ...] | str) -> str:
    # SQLite uses an index on an expression only if the query has the same expression: both come from here.
    return f"json_extract(doc,{json_path(path)})"


def holds_mixed(path: str) -> str:
    """Return the SQL condition that an entity has an array on the path, or a value that SQLite orders differently from
    MongoDB."""
    segments = path.split(".")
    prefixes = [json_path(tuple(segments[: i + 1])) for i in range(len(segments) - 1)]
    arrays = [f"json_type(doc,{p})='array'" for p in prefixes]
    kinds = f"json_type(doc,{json_path(path)}) IN ('array','object','true','false')"
    return " OR ".join([*arrays, kinds])


@dataclass(slots=True)
class IndexedPath:
    """An indexed path. `unique` is None when it has no index of its own, but is in compound indexes. `mixed`: an entity
    has had an array, object or boolean there. Until then the order of the index is MongoDB's order."""

    path: str
    unique: bool | None
    mixed: bool = False
    segments: Path = field(init=False)

    def __post_init__(self) -> None:
        self.segments = split(self.path)


AclKey = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids in a visibility predicate: those compared with `owner`, and those compared with `access`, `group` and
`branch`."""

MOST_COMPILED_FILTERS: Final[Annotated[int, Limit("store", "compiled filters", "all go, and are compiled again")]] = (
    1_000
)
"""Compiled conditions that a store keeps: about one for each active principal."""

Condition = tuple[str, list[Any]]
"""SQL with variables numbered from ?1, and the values bound to them."""


class Compiled:
    """Compiled conditions by filter, and by the identity of filters that come again: to find one by its filter costs a
    hash of the whole filter."""

    __slots__ = ("_by_filter", "_by_identity", "_most")

    def __init__(self, most: int) -> None:
        self._by_filter: dict[Filter, Condition] = {}
        self._by_identity: dict[int, tuple[Filter, Condition]] = {}
        self._most = most

    def at_hand(self, node: Filter) -> Condition | None:
        """Return the condition if it was found before for this very object, or None."""
        same = self._by_identity.get(id(node))
        return None if same is None else same[1]

    def get(self, node: Filter) -> Condition | None:
        """Return the condition, or None. Raises TypeError for a filter with an array or an object."""
        same = self._by_identity.get(id(node))  # which is unique as long as the entry holds the filter
        if same is not None:
            return same[1]
        known = self._by_filter.get(node)
        if known is not None:
            if len(self._by_identity) >= self._most:
                self._by_identity.clear()
            self._by_identity[id(node)] = node, known
        return known

    def add(self, node: Filter, condition: Condition) -> None:
        if len(self._by_filter) >= self._most:
            self._by_filter.clear()
        self._by_filter[node] = condition


@dataclass(slots=True)
class StoreTable:
    """The table of a store.

    `compounds` holds the compound indexes by their names, and `array_check` is made of them. `listed` are the paths of
    references in lists that `references` holds (`stores.sqlite.reference_index`). `compiled` holds the
    conditions compiled for the current `paths`; code that changes `paths` calls `forget`. `present` is a version of the
    file's schema, with the names of the indexes that the table has in it. `seen` maps a principal to
    (number of visible rows, None for many; the monotonic time until which the number is used). `in_feed`: whether its
    triggers record changes."""

    name: str
    paths: dict[str, IndexedPath] = field(default_factory=dict)
    compounds: dict[str, CompoundIndex] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()
    array_check: ArrayCheck = field(init=False)
    table: str = field(init=False)
    acl: str = field(init=False)
    references: str = field(init=False)
    in_feed: bool = field(init=False)
    compiled: Compiled = field(default_factory=lambda: Compiled(MOST_COMPILED_FILTERS))
    present: tuple[int, frozenset[str]] = (-1, frozenset())
    seen: dict[AclKey, tuple[int | None, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = table_name(self.name)
        self.acl = identifier("v_" + encoded(self.name))
        self.references = identifier("r_" + encoded(self.name))
        self.in_feed = not is_internal(self.name)
        self.array_check = ArrayCheck(self.compounds.values())

    def forget(self) -> None:
        # A new object: a condition that another thread is compiling for the old paths goes into the old one.
        self.compiled = Compiled(MOST_COMPILED_FILTERS)

    def adopt(self, changed: StoreTable) -> StoreTable:
        """Take over the indexes of a changed copy, and return self: reads in progress hold this object."""
        self.paths = changed.paths
        self.compounds = changed.compounds
        self.listed = changed.listed
        self.array_check = changed.array_check
        self.forget()
        return self

    def note_seen(self, key: AclKey, rows: int | None, until: float) -> None:
        if len(self.seen) >= MOST_COUNTED_PRINCIPALS:
            self.seen = {}
        self.seen[key] = rows, until


def prepare_file(connection: apsw.Connection) -> str:
    """Create or check the file's layout. Return its epoch, which identifies this database. Raises CannotOpen."""
    with connection:
        connection.execute(SCHEMA + IDEMPOTENCY)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        first = (str(FORMAT), secrets.token_hex(4))
        connection.execute("INSERT OR IGNORE INTO meta VALUES('format',?),('epoch',?)", first)
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if int(meta["format"]) > FORMAT:
        raise CannotOpen("the file was written by a newer hub: update this one")
    if int(meta["format"]) < FORMAT:
        raise CannotOpen(
            "the file was written before the first release: export it with that hub, import it with this one"
        )
    return str(meta["epoch"])


def load_tables(connection: apsw.Connection) -> dict[str, StoreTable]:
    compounds: defaultdict[str, dict[str, CompoundIndex]] = defaultdict(dict)
    for store, name, condition in connection.execute("SELECT store, name, condition FROM compounds"):
        compounds[store][name] = stored_index(name, condition)
    listed: defaultdict[str, set[str]] = defaultdict(set)
    for store, path in connection.execute("SELECT store, path FROM listed"):
        listed[store].add(path)
    names = [name for (name,) in connection.execute("SELECT name FROM stores")]
    tables = {name: StoreTable(name, compounds=compounds[name], listed=frozenset(listed[name])) for name in names}
    for store, path, unique, mixed in connection.execute("SELECT store, path, is_unique, mixed FROM paths"):
        tables[store].paths[path] = IndexedPath(path, None if unique == _SHARED else bool(unique), bool(mixed))
    return tables


def index_names(store: str) -> dict[str, str]:
    """Return the identifiers of the indexes that every store has, by purpose."""
    return {purpose: identifier(f"{purpose}_{encoded(store)}") for purpose in ("created", "owned")}


def indexes(table: StoreTable, path: str, unique: bool | None) -> dict[str, str]:
    """Return the statements that create the indexes of a path, by the names of the indexes; none if `unique` is
    None."""
    if unique is None:
        return {}
    kind = "UNIQUE INDEX" if unique else "INDEX"
    columns = {"u": ""} if unique else {"s": ",id", "c": ",time,id"}
    names = {purpose: index_name(table.name, path, purpose) for purpose in columns}
    return {
        names[purpose]: f"CREATE {kind} {identifier(names[purpose])} ON {table.table}({extract(path)}{rest})"
        for purpose, rest in columns.items()
    }


def create_index(connection: apsw.Connection, table: StoreTable, path: str, unique: bool | None) -> IndexedPath:
    """Index the path, or only observe its values if `unique` is None. Raises apsw.ConstraintError when the index is
    `unique` and values repeat."""
    for sql in indexes(table, path, unique).values():
        connection.execute(sql)
    mixed = connection.execute(f"SELECT EXISTS(SELECT 1 FROM {table.table} WHERE {holds_mixed(path)})").get
    connection.execute(
        "INSERT INTO paths VALUES(?,?,?,?)", (table.name, path, _SHARED if unique is None else unique, mixed)
    )
    return IndexedPath(path, unique, bool(mixed))


def drop_index(connection: apsw.Connection, table: StoreTable, path: str) -> None:
    for purpose in "usc":
        connection.execute(f"DROP INDEX IF EXISTS {identifier(index_name(table.name, path, purpose))}")
    connection.execute("DELETE FROM paths WHERE store=? AND path=?", (table.name, path))


def drop_table(connection: apsw.Connection, table: StoreTable) -> None:
    connection.execute(f"DROP TABLE {table.table}")
    connection.execute(f"DROP TABLE {table.acl}")
    connection.execute(f"DROP TABLE IF EXISTS {table.references}")
    for of_store in ("paths", "compounds", "listed"):
        connection.execute(f"DELETE FROM {of_store} WHERE store=?", (table.name,))
    connection.execute("DELETE FROM stores WHERE name=?", (table.name,))


def unique_index(message: str) -> tuple[list[str], str]:
    """Return the paths whose unique index a constraint error names, and the name of a compound index: those of `_id`
    for any other error."""
    for marker in ("index 'xu_", "index 'xn_"):
        if marker in message:
            name = message.split(marker, 1)[1].rsplit("'", 1)[0].replace("''", "'")
            key = decoded(name.split(":", 1)[1])
            return (paths_in(key), key) if marker == "index 'xn_" else ([key], "")
    return ["_id"], ""


def missing_store(message: str) -> str | None:
    """Return the store whose table an error does not find, or None."""
    _, found, name = message.partition("no such table: ")
    return decoded(name[2:]) if found and name.startswith(("e_", "v_", "r_")) else None
