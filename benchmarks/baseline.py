"""The minimum cost of a delivery: a process that only writes the same bytes to every client, with one `write(2)` each.

`python -m benchmarks.baseline BYTES RATE WRITES` begins when a client sends something.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.processes import ROOT, Cores, cpu_seconds, running_server, wait_until_idle

GIVE_UP = 30.0


async def serve(octets: int, rate: float, writes: int) -> None:
    """Announce the address, write, and wait until the process is terminated."""
    begin = asyncio.Event()
    files: list[int] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            files.append(transport.get_extra_info("socket").fileno())

        def data_received(self, data: bytes) -> None:
            begin.set()

    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print("live at http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await begin.wait()
    data, begun = b"\0" * octets, time.perf_counter()
    for number in range(writes):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        for file in files:
            os.write(file, data)
    await asyncio.Event().wait()


async def baseline(cores: Cores, clients: int, octets: int, rate: float, writes: int) -> float | None:
    """Return the CPU µs of one write to one client, with so many clients."""
    command = [sys.executable, "-m", "benchmarks.baseline", str(octets), str(rate), str(writes)]
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with running_server(command, Path(folder), environment, cores) as (pid, host, port, _):
            return await _measured(pid, (host, port), clients, clients * octets * writes, clients * writes)


async def _measured(pid: int, address: tuple[str, int], clients: int, octets: int, writes: int) -> float | None:
    loop, left = asyncio.get_running_loop(), octets
    complete: asyncio.Future[None] = loop.create_future()

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if not left:
                complete.set_result(None)

    transports = [(await loop.create_connection(Reader, *address))[0] for _ in range(clients)]
    await asyncio.to_thread(wait_until_idle, pid)
    before = cpu_seconds(pid)
    transports[0].write(b"\0")
    await asyncio.wait([complete], timeout=GIVE_UP)
    after = cpu_seconds(pid)
    for transport in transports:
        transport.abort()
    return None if before is None or after is None else (after - before) / writes * 1e6


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
