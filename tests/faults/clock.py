"""A wall clock that jumps, for the hub's process only; a file holds its offset.

Only `time.time` and `time.time_ns` are changed, as when a machine's clock is set; `time.monotonic` is not.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHIM = """
import os, struct, time

real_time, real_time_ns = time.time, time.time_ns
path = os.environ["FAULTS_CLOCK"]

def shift():
    with open(path, "rb") as file:
        return struct.unpack("q", file.read())[0]

time.time = lambda: real_time() + shift()
time.time_ns = lambda: real_time_ns() + shift() * 1_000_000_000
"""


class Clock:
    """The offset of the wall clock of all hubs that are started after this."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SHIM)
        self._file = folder / "shift"
        self.jump(0)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("FAULTS_CLOCK", str(self._file))

    def jump(self, hours: float) -> None:
        """Set the offset from the real time, in hours."""
        fresh = self._file.with_name("fresh")
        fresh.write_bytes(int(hours * 3600).to_bytes(8, "little", signed=True))
        fresh.replace(self._file)
