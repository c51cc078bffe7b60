"""Tells that the serial numbers of an imported file are not kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from hub.cli.definitions import Fields
from hub.cli.output import note
from hub.cli.rows import Row

SERIAL: Final = "Serial"


class SerialNote:
    """Looks at the rows of an import that does not keep serial numbers, until the first one that has some."""

    def __init__(self, fields: Fields, *, keep: bool) -> None:
        names = [each["id"] for each in fields.documents if each["type"] == SERIAL]
        self._names = [] if keep else names
        self._marks = [orjson.dumps(name) + b":" for name in self._names]

    def look(self, rows: Sequence[Row]) -> None:
        """Print a warning before the first numbers are sent that the hub replaces."""
        for row in rows if self._names else ():
            if any(mark in row.body for mark in self._marks) and (found := self._found(row)):
                note(
                    f"warning: the numbers of the file in {', '.join(found)} are not kept: the hub assigns its own;"
                    " to keep them, add --keep"
                )
                self._names = []
                return

    def _found(self, row: Row) -> list[str]:
        entity = orjson.loads(row.body)
        return [name for name in self._names if entity.get(name) is not None]
