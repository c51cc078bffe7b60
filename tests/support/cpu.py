"""What a process has taken of the CPU: what work costs, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cpu:
    """`seconds`: of all threads together."""

    seconds = 0.0


def cpu_seconds(pid: int) -> float:
    """Of all threads of a running process, since it has begun."""
    return time.clock_gettime((~pid << 3) | 2)  # its clock, as clock_getcpuclockid() of Linux names it


@contextmanager
def counted_cpu(pid: int) -> Iterator[Cpu]:
    """Count what a process takes within the block."""
    cpu, before = Cpu(), cpu_seconds(pid)
    yield cpu
    cpu.seconds = cpu_seconds(pid) - before
