"""The table at the end of a test run, with all faults and their effects."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pytest


@dataclass
class Row:
    fault: str
    engine: str
    times: int
    acknowledged: int
    in_doubt: int
    events: int
    lost: int
    twice: int
    torn: int
    gaps: int
    repeats: int
    resyncs: int

    @property
    def clean(self) -> bool:
        """Whether all promises were kept, apart from resyncs, which the test judges."""
        return not (self.lost or self.twice or self.torn or self.gaps or self.repeats)


ROWS = pytest.StashKey[list[Row]]()


def table(rows: list[Row]) -> list[str]:
    """Return the rows as lines of Markdown."""
    names = [name.replace("_", " ") for name in asdict(rows[0])]
    texts = [[f"{value:,}" if isinstance(value, int) else value for value in asdict(row).values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    rule = ["-" * width for width in widths]
    return [_line(cells, widths) for cells in (names, rule, *texts)]


def _line(cells: list[str], widths: list[int]) -> str:
    pairs = enumerate(zip(cells, widths, strict=True))
    return f"| {' | '.join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in pairs)} |"
