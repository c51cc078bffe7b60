"""Values that entities share although they must be unique: looked for in a temporary file, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import apsw

from stores.errors import StorageFull, Unavailable
from stores.numbers import with_whole_numbers

_TABLE: Final = "CREATE TABLE seen(value BLOB PRIMARY KEY, id TEXT NOT NULL, shared INTEGER NOT NULL) WITHOUT ROWID"

_DIGEST_BYTES: Final = 16


class SeenValues:
    """The values that have been noted, with the first entity that has each. SQLite keeps some 2 MB of them in memory,
    and the rest in a file that nobody else sees and that goes with the last reference to this object: a thread may
    still use it when its task has been cancelled."""

    def __init__(self) -> None:
        self._file = apsw.Connection("")
        self._file.execute("PRAGMA journal_mode=OFF")
        self._file.execute("PRAGMA synchronous=OFF")
        self._file.execute(_TABLE)
        self._file.execute("BEGIN")

    def note(self, paths: tuple[str, ...], values: Sequence[Any], id: str) -> Sequence[str]:
        """Note the values that an entity has at paths. Return the ids of the entities that are now known to share them
        and were not before. Called once for each entity and paths, in any thread. Raises StorageFull and
        Unavailable."""
        try:
            return self._noted(_digest(paths, values), id)
        except apsw.FullError as error:
            raise StorageFull("there is no room for a temporary file") from error
        except apsw.Error as error:
            raise Unavailable(f"a temporary file cannot be used: {error}") from error

    def _noted(self, digest: bytes, id: str) -> Sequence[str]:
        found = self._file.execute("SELECT id, shared FROM seen WHERE value=?", (digest,)).fetchone()
        if found is None:
            self._file.execute("INSERT INTO seen VALUES(?,?,0)", (digest, id))
            return ()
        holder, is_shared = found
        if holder == id:
            return ()
        if is_shared:
            return (id,)
        self._file.execute("UPDATE seen SET shared=1 WHERE value=?", (digest,))
        return holder, id


def _digest(paths: tuple[str, ...], values: Sequence[Any]) -> bytes:
    """Return the same bytes for equal values at the same paths: 1 equals 1.0."""
    text = repr((paths, [*map(with_whole_numbers, values)])).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()
