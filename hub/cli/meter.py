"""How far long work has come: a bar on a terminal, a line now and then elsewhere, both on standard error."""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hub.cli.output import grouped, note

PAUSE: Final = 5.0
"""Seconds between two lines where there is no terminal."""


class Meter:
    """Shows rows done, their rate and how many were refused; with a file as `source`, how much of it is read."""

    def __init__(self, label: str, source: io.BufferedReader | None = None) -> None:
        self.label = label
        self.source = source
        self.started = self.told = time.monotonic()
        self.bar = make_bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
            total = file_size(self.source) if self.source else None
            self.task = self.bar.add_task(self.label, total=total, state="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, rows: int, refused: int = 0) -> None:
        now = time.monotonic()
        rate = grouped(round(rows / max(now - self.started, 0.001)))
        state = f"{grouped(rows)} rows, {rate} a second" + (f", {grouped(refused)} refused" if refused else "")
        if self.bar:
            done = self.source.raw.tell() if self.source and self.bar.tasks[0].total else 0
            self.bar.update(self.task, completed=done, state=state)
        elif now - self.told >= PAUSE:
            self.told = now
            note(f"{self.label}: {state}")


def make_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def file_size(source: io.BufferedReader) -> int | None:
    """Bytes of a regular file; a pipe has no size that is known before its end."""
    found = os.fstat(source.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None
