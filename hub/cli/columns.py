"""The kind of each column of a table, determined from the whole file before anything is imported.

A single cell that looks like a number is not enough: a column with `0E8`, `007` and `1000` is text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.cli.cells import kind_of_native
from hub.cli.output import grouped
from hub.cli.tables import Refusal, TableRow
from stores.fields.cells import Kind, kind_of, read_kind, write_untyped

SAID: Final = {Kind.TEXT: "text", Kind.NUMBER: "numbers", Kind.BOOLEAN: "true or false", Kind.JSON: "JSON"}


@dataclass(slots=True)
class Columns:
    """The columns of a table and their kinds. `key`: the column whose texts must survive unchanged. `native`: cells
    have types of their own, as in a sheet. `lookups`: the columns, also in `defined`, by which references are looked
    up."""

    names: list[str]
    defined: Collection[str] = ()
    dropped: Collection[str] = ()
    key: str | None = None
    given: Mapping[str, Kind] = field(default_factory=dict)
    native: bool = False
    lookups: Collection[str] = ()
    kinds: dict[str, Kind] = field(default_factory=dict)
    rows: int = 0

    def observe(self, rows: Iterable[TableRow]) -> None:
        """Determine the kinds from the rows below the header."""
        known = {*self.defined, *self.given}
        open_columns = [(i, name) for i, name in enumerate(self.names) if name not in known]
        for row in rows:
            if isinstance(row, Refusal):
                self.rows += 1
                continue
            cells = row[1]
            self.rows += bool(cells)
            text_found = False
            for i, name in open_columns:
                if i >= len(cells):
                    break
                cell = cells[i]
                if cell is None or cell == "":
                    continue
                kind = self.kind(name, cell)
                before = self.kinds.get(name)
                if kind is None or kind is before:
                    continue
                self.kinds[name] = kind if before is None else Kind.TEXT
                text_found = text_found or self.kinds[name] is Kind.TEXT
            if text_found:  # a text column stays text
                open_columns = [(i, n) for i, n in open_columns if self.kinds.get(n) is not Kind.TEXT]

    def kind(self, name: str, cell: Any) -> Kind | None:
        if self.native:
            return kind_of_native(cell)
        kind = kind_of(cell)
        if name == self.key and (kind is not Kind.NUMBER or write_untyped(read_kind(kind, cell)) != cell):
            return Kind.TEXT
        return kind

    @property
    def all_kinds(self) -> dict[str, Kind]:
        return {**self.kinds, **self.given}

    def word(self, name: str) -> str:
        if name.split(".")[0] in self.dropped:
            return "left out"
        if name in self.lookups:
            return "looked up"
        if name in self.defined:
            return "as the store defines"
        kind = self.all_kinds.get(name)
        return SAID[kind] if kind else "empty"

    def described(self) -> str:
        """Return a summary: ``3 376 rows; text: code, name; numbers: latitude``."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            groups.setdefault(self.word(name), []).append(repr(name) if name != name.strip() else name)
        parts = [f"{word}: {', '.join(names)}" for word, names in groups.items()]
        return "; ".join([f"{grouped(self.rows)} {'row' if self.rows == 1 else 'rows'}", *parts])
