"""What the commands print: failures as one line, tables, numbers, and text made safe for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

STOPPED: Final = 130
"""The exit code of a command that Ctrl-C has ended, as the shell has it."""
WIDE: Final = 10_000
"""Columns of a console that is no terminal: nothing is wrapped or cut for a pipe."""


class Failure(Exception):
    """Ends the command; the text is the one line that says what is wrong."""

    exit_code = 1


class Misuse(Failure):
    """The command was asked in a way that cannot be meant."""

    exit_code = 2


def say(text: str) -> None:
    """A line on standard output."""
    print(plain(text))


def note(text: str) -> None:
    """A line on standard error: progress, warnings and failures."""
    print(plain(text), file=sys.stderr, flush=True)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file to write; a new one is for its owner alone, whatever the umask: it may hold anything of the hub."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    return open(path, mode, opener=opener, **options)


def plain(text: str) -> str:
    """`text` in one line that no terminal takes for a command: control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def grouped(number: int) -> str:
    """26000 → 26 000."""
    return f"{number:,}".replace(",", " ")


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under a heading; None is an empty cell."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else plain(str(cell))) for cell in row))
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else WIDE).print(table, soft_wrap=not terminal)
