"""Counts bytecode instructions: a measure of work that does not depend on the load of the machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Steps:
    """A trace function; `count` is the number of bytecode instructions executed in Python functions."""

    count = 0

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.count += 1
        return self.trace


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count the steps of the functions called within the block, in this thread."""
    steps, before = Steps(), sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
