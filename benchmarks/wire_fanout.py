"""What a WebSocket client costs the server: memory while idle, CPU for each frame that goes to many.

`python -m benchmarks.wire_fanout [clients] [frames]` serves from this process; the clients live in another one.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Final

import uvicorn

from realtime.engineio import build_text_frame
from realtime.engineio.uvicorn_protocol import HubProtocol
from realtime.socketio import SocketIOServer

PAUSE: Final = 0.01
EVENT: Final = '42["change",{"channel":"c1","op":"update","_id":"5f00000000000000000000a1","entity":{"name":"unit"}}]'
HANDSHAKE: Final = (
    "GET /socket.io/?EIO={version}&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONNECT: Final = b"\x81\x82\x00\x00\x00\x0040"  # a masked text frame, its mask zero


class Client(asyncio.Protocol):
    """Connects to `/` and reads without looking."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE.format(version=self.version).encode())

    def data_received(self, data: bytes) -> None:
        if not self.answered and self.version == 4:
            self.transport.write(CONNECT)
        self.answered = True


async def clients(port: int, number: int) -> None:
    loop = asyncio.get_running_loop()
    for index in range(number):
        await loop.create_connection(lambda index=index: Client(3 + index % 2), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(3600)


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


async def measure(server: SocketIOServer, port: int, number: int, frames: int) -> None:
    all_connected = asyncio.Event()

    async def connected(sid: str, environ: object, auth: object) -> None:
        if len(server.manager.rooms["/"][None]) == number:
            all_connected.set()

    server.on("connect", connected)
    gc.collect()
    before, tasks = resident_kib(), len(asyncio.all_tasks())
    arguments = ("-m", "benchmarks.wire_fanout", "--clients", str(port), str(number))
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        await all_connected.wait()
        await asyncio.sleep(1)
        gc.collect()
        each = (resident_kib() - before) / number
        print(f"{number} idle clients: {each:.1f} KiB and {(len(asyncio.all_tasks()) - tasks) / number:.2f} tasks each")
        await broadcast(server, number, frames)
    finally:
        child.kill()
        await child.wait()


async def broadcast(server: SocketIOServer, number: int, frames: int) -> None:
    connections = list(server.eio.connections.values())
    frame = build_text_frame(EVENT)
    for way in ("write_frame", "emit"):
        started = time.process_time()
        for _ in range(frames):
            if way == "emit":
                await server.emit("change", {"channel": "c1", "op": "update"})
            else:
                for connection in connections:
                    connection.write_frame(frame, EVENT)
            await asyncio.sleep(PAUSE)
        cost = (time.process_time() - started) / frames / number
        print(f"{way}: {cost * 1e6:.1f} µs of server CPU per delivery")


async def main(number: int = 500, frames: int = 200) -> None:
    server = SocketIOServer()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    served = uvicorn.Server(uvicorn.Config(server.eio, ws=HubProtocol, log_level="error"))
    serving = asyncio.ensure_future(served.serve(sockets=[listener]))
    await asyncio.sleep(0.5)
    await measure(server, listener.getsockname()[1], number, frames)
    served.should_exit = True
    await serving


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    if "--clients" in sys.argv:
        asyncio.run(clients(*numbers))
    else:
        with asyncio.Runner(loop_factory=uvicorn.Config(None, loop="auto").get_loop_factory()) as runner:  # type: ignore[arg-type]
            runner.run(main(*numbers))
