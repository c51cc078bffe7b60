"""Watches whether a client reads its pending data, and cuts it off if it reads too little."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Annotated, Final

from stores.bounds import Limit

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEAST_BYTES_TAKEN: Annotated[int, Limit("`write_timeout`", "bytes at least", "broken off")] = 32_768
"""Bytes that a client must read in each period of `write_timeout` seconds; all of them, if fewer are pending."""

_COUNT: Final = struct.Struct("i")


class Progress:
    """Watches one connection between `start` and `stop`. A closed transport that has sent everything ends it as
    well."""

    __slots__ = ("_cut", "_left", "_seconds", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, seconds: float, cut: Callable[[], None]) -> None:
        self._transport = transport
        self._seconds = seconds
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def start(self) -> None:
        if self._timer is None:
            self._left = self._waiting()
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        before, left = self._left, self._waiting()
        if before - left < LEAST_BYTES_TAKEN:
            self._cut()
        else:
            self.start()

    def _waiting(self) -> int:
        """Return the pending bytes here and in the system's buffer, which takes data long before a slow client reads
        it."""
        waiting = self._transport.get_write_buffer_size()
        socket = self._transport.get_extra_info("socket")
        if fcntl is None or socket is None:
            return waiting
        try:
            answer = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size))
        except OSError:  # the socket is closed
            return waiting
        return waiting + int(_COUNT.unpack(answer)[0])
