"""Progress of long work on standard error: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hub.cli.output import grouped, note

PAUSE: Final = 5.0
"""Seconds between two lines without a terminal."""


class Source(Protocol):
    """A file that is being read. `size` is in bytes; None if it is not known before the end."""

    @property
    def size(self) -> int | None: ...

    def position(self) -> int: ...


class Meter:
    """Shows the rows done, their rate and the number refused; with a file as `source`, also the part already read."""

    def __init__(self, label: str, source: Source | None = None) -> None:
        self.label = label
        self.source = source
        self.started = self.reported = time.monotonic()
        self.bar = make_bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
            total = self.source.size if self.source else None
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
            done = self.source.position() if self.source and self.bar.tasks[0].total else 0
            self.bar.update(self.task, completed=done, state=state)
        elif now - self.reported >= PAUSE:
            self.reported = now
            note(f"{self.label}: {state}")


def make_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
