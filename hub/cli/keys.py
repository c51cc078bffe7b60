"""Checks the keys of an import for missing and duplicate values, in constant memory.

Keys are compared as they are stored: a row with `Ann@Example.com` would overwrite the one with `ann@example.com`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import apsw
import orjson

from hub.cli.cells import Absent, pick
from stores.field import Field
from stores.numbers import whole_number
from stores.records import Json

LONGEST: Final = 32
"""Bytes. Of a longer key, only the digest is stored."""


class Keys:
    """Stores the key of every row in a temporary file. `path` is the dotted name of the key field, `field` has its
    type, if the store defines it."""

    def __init__(self, path: str, field: Field | None = None) -> None:
        self.path = path
        self.field = field
        self.database = apsw.Connection("")  # a temporary file, deleted on close
        for name, value in {"journal_mode": "off", "synchronous": 0, "cache_size": -16_384}.items():
            self.database.pragma(name, value)
        self.database.execute("CREATE TABLE keys (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID; BEGIN")

    def close(self) -> None:
        self.database.close()

    def fault(self, number: int, entity: Mapping[str, Any]) -> str:
        """Return why the row's key is invalid; empty if it is valid."""
        value = pick(entity, self.path)
        if isinstance(value, Absent) or value is None or value == "":
            return "the key is empty"
        if isinstance(value, dict | list):
            return "the key is not a single value"
        key = orjson.dumps(self.stored(value))
        if len(key) > LONGEST:
            key = b"#" + blake2b(key, digest_size=LONGEST - 1).digest()
        self.database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, number))
        if self.database.changes():
            return ""
        return f"row {self.database.execute('SELECT row FROM keys WHERE key = ?', (key,)).get} has the same key"

    def stored(self, value: Json | Decimal) -> Json:
        """Return the key in the form in which it is stored: equal numbers are one key. A decimal, as ijson reads one,
        is sent as a double."""
        plain = float(value) if isinstance(value, Decimal) else value
        plain = plain if self.field is None else self.field.canonical(plain)
        return whole_number(plain) if isinstance(plain, float) else plain
