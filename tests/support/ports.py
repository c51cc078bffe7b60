"""Free ports for programs that cannot choose their own, and for those that are started again at the same port.

The ports lie outside the range for outgoing connections, so that no client gets the port of a server that is about to
start or is down for a moment. Each process of pytest-xdist has a part of them.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

FIRST: Final = 20_000
LAST: Final = 65_535
FEWEST: Final = 1_000
"""Ports that all processes need together."""


def quiet_ports(outgoing: tuple[int, int]) -> range:
    """Return the ports below the range for outgoing connections; if those are too few, the ones above; if those are too
    few as well, all."""
    lowest, highest = outgoing
    below, above = range(FIRST, lowest), range(highest + 1, LAST + 1)
    return next((ports for ports in (below, above) if len(ports) >= FEWEST), range(FIRST, LAST + 1))


def part_of(ports: range, worker: int, workers: int) -> range:
    """Return the part of one process of `workers`."""
    size = len(ports) // workers
    return ports[worker * size : (worker + 1) * size]


def _outgoing() -> tuple[int, int]:
    try:
        lowest, highest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return 32_768, 60_999
    return int(lowest), int(highest)


def _in_turn() -> Iterator[int]:
    """Yield this process's ports, again and again. They begin anywhere, because another run of the tests may have the
    same part."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = part_of(quiet_ports(_outgoing()), worker, workers)
    start = random.SystemRandom().randrange(len(ports))
    return cycle([*ports[start:], *ports[:start]])


_ports = _in_turn()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no process listens now. Later calls return other ports."""
    return next(filter(_is_free, _ports))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
