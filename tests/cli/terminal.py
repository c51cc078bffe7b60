"""The command line on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import time

from tests.cli.conftest import PATIENCE, CommandLine
from tests.support.program import HUB


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, hub: CommandLine, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        environment = {**hub.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
        self.process = subprocess.Popen(
            [*HUB, *arguments], cwd=hub.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.shown = ""

    def read(self) -> bool:
        """Read new output; return whether there may be more."""
        try:
            self.shown += os.read(self.ours, 65_536).decode(errors="replace")
        except OSError:  # on Linux this means that the other side has closed
            return False
        return True

    def answer(self, question: str, line: str) -> None:
        """Wait for the question and enter a line."""
        deadline = time.monotonic() + PATIENCE
        while question not in self.shown and time.monotonic() < deadline and self.read():
            pass
        before, found, self.shown = self.shown.partition(question)
        assert found, before
        os.write(self.ours, line.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self.read():
            pass
        os.close(self.ours)
        return self.process.wait(PATIENCE)
