"""A load generator that costs much less than the server.

It sends prebuilt requests on keep-alive connections, and reads only the status and the end of each answer. One request
is in flight per connection. So an answer ends where its Content-Length says, or, if chunked, where the received data
ends with the last chunk: the JSON of the servers has no line breaks that could look like it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

Requests = Iterator[bytes]

CLIENTS: Final = 32
CHUNKED: Final = -1
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
GIVE_UP: Final = 60.0
"""Maximum seconds to wait for answers after the end of a run."""


@dataclass(slots=True)
class LoadResult:
    """The results of a run. Latencies are in seconds, one per answer.

    `failures` has the first lines of answers other than 200 and 201, and other errors.
    """

    latencies: array[float] = field(default_factory=lambda: array("d"))
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the answers does not exceed; 0 without answers."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def spread(requests: Sequence[bytes], clients: int = CLIENTS) -> list[Requests]:
    """Return the same requests for every client, repeated endlessly; each client begins at another one."""
    starts = (len(requests) * n // clients for n in range(clients))
    return [itertools.cycle([*requests[start:], *requests[:start]]) for start in starts]


class Client(asyncio.Protocol):
    """One connection. It sends its next request `pause` seconds after it has the answer to the last one."""

    def __init__(self, requests: Requests, result: LoadResult, pause: float) -> None:
        self._requests = requests
        self._result = result
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._left: int | None = None  # missing bytes of the body; None in the head
        self._tail = b""
        self._sent = 0.0
        self._stopping = False
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self.send()

    def send(self) -> None:
        request = None if self._stopping else next(self._requests, None)
        if request is None or self._transport is None:
            self.end()
            return
        self._left, self._tail = None, b""
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            data = self._read_head(self._head + data)
        if self._left is None:
            return
        if self._left == CHUNKED:
            self._tail = (self._tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
            if self._tail != LAST_CHUNK:
                return
        else:
            self._left -= len(data)
            if self._left > 0:
                return
        self.answered()

    def _read_head(self, data: bytes) -> bytes:
        """Return the part of `data` that belongs to the body. `_left` stays None until the head is complete."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return b""
        self._head = b""
        if not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")):
            self._result.failures.append(data[: data.find(b"\r\n")].decode("latin-1"))
        at = data[:end].lower().find(b"content-length: ")
        self._left = CHUNKED if at < 0 else int(data[at + 16 : data.find(b"\r\n", at)])
        return data[end + (2 if at < 0 else 4) :]  # the last chunk may be the only one

    def answered(self) -> None:
        """Record the answer and send the next request."""
        self._result.latencies.append(time.perf_counter() - self._sent)
        if self._pause:
            self._loop.call_later(self._pause, self.send)
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._result.failures.append(f"the connection was lost: {error or 'closed'}")
        self.end()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = True

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def load(
    address: tuple[str, int],
    requests: Sequence[Requests],
    seconds: float,
    *,
    pause: float = 0.0,
    until: Awaitable[object] | None = None,
) -> LoadResult:
    """Send every sequence of `requests` on its own connection, until it ends or `seconds` have passed (or `until` is
    done).

    Raises TimeoutError if answers do not arrive.
    """
    result = LoadResult()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients: list[Client] = []
    for each in requests:
        _, client = await loop.create_connection(lambda r=each: Client(r, result, pause), *address)  # type: ignore[misc]
        clients.append(client)
    ended = asyncio.gather(*(client.done for client in clients))
    if until is None:
        await asyncio.wait([ended], timeout=seconds)
    else:
        await until
    for client in clients:
        client.stop()
    async with asyncio.timeout(GIVE_UP):
        await ended
    result.seconds = time.perf_counter() - started
    return result
