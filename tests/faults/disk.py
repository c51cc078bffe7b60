"""A disk that is full for one process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.hub import MortalHub


@contextmanager
def full_disk(hub: MortalHub, room: int) -> Iterator[None]:
    """Limit the hub's files to `room` bytes while the block runs. Writes beyond that fail as on a full disk, even over
    existing data. Setting the limit needs no special rights."""
    pid, limit = hub.process.pid, resource.RLIMIT_FSIZE
    before = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (room, before[1]))
    try:
        yield
    finally:
        if hub.process.process.poll() is None:
            resource.prlimit(pid, limit, before)
