"""Output of the commands: failures as one line, tables, numbers, and text made safe for a terminal."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

STOPPED: Final = 130
"""Exit code of a command that Ctrl-C has ended, as in the shell."""
WIDE: Final = 10_000
"""Columns of output that is not a terminal, so that lines in a pipe are neither wrapped nor cut."""


class Failure(Exception):
    """Ends the command. The text is the one line that explains the failure."""

    exit_code = 1


class Misuse(Failure):
    """The command was called in a wrong way."""

    exit_code = 2


def say(text: str) -> None:
    """Print a line on standard output."""
    print(plain(text))


def note(text: str) -> None:
    """Print a line on standard error: progress, warnings and failures."""
    print(plain(text), file=sys.stderr, flush=True)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file for writing. It is readable by its owner only, whatever the umask: it may hold hub data. That holds
    for a file that exists, too, unless it belongs to another user. Devices, pipes and standard output keep their
    modes."""

    def opener(name: str, flags: int) -> int:
        file = os.open(name, flags, 0o600)
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and not _is_stream(found):
            with suppress(PermissionError):  # of another user, or on a file system without modes
                os.fchmod(file, 0o600)
        return file

    return open(path, mode, opener=opener, **options)


def _is_stream(found: os.stat_result) -> bool:
    """Return whether a file is standard output or error, such as `/dev/stdout` where the shell has redirected it."""
    for stream in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(found, os.fstat(stream)):
                return True
    return False


def plain(text: str) -> str:
    """Return `text` as one line with control characters escaped, so that a terminal does not execute them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def grouped(number: int) -> str:
    """Return a number with groups of digits: 26000 → 26 000."""
    return f"{number:,}".replace(",", " ")


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns under a heading. None is an empty cell."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else plain(str(cell))) for cell in row))
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else WIDE).print(table, soft_wrap=not terminal)
