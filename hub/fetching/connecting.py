"""Connects to addresses that have been checked, whatever the name of the host means by now."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import httpcore

from hub.fetching.addresses import Address
from stores.bounds import Limit
from stores.turns import Turn

MOST_ANSWER_HEAD_BYTES: Final[Annotated[int, Limit("answer to the hub", "bytes", "refused")]] = 65_536
"""Bytes before the body of an answer, with those of interim answers (1xx), which may be any number."""

_MOST_TRIED: Final = 8
"""Addresses of a host to which a connection is tried."""
_HEAD_PIECE: Final = 4_096
"""Bytes that are parsed at once before the body. They may be hundreds of interim answers."""


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects one connection of httpcore to one of `addresses`, within `seconds` from now, TLS included."""

    def __init__(self, addresses: Sequence[Address], seconds: float) -> None:
        self._addresses = addresses[:_MOST_TRIED]
        self._ends = asyncio.get_running_loop().time() + seconds
        self._inner = httpcore.AnyIOBackend()
        self._stream: httpcore.AsyncNetworkStream | None = None
        self.in_head = True
        """Whether the body of the answer has not begun."""

    @property
    def left(self) -> float:
        """Seconds that are left to connect."""
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts; each gets an equal share of the time that is left."""
        *others, last = self._addresses
        for tried, address in enumerate(others):
            try:
                return await self._connect(address, port, self.left / (len(self._addresses) - tried))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                pass
        return await self._connect(last, port, self.left)

    async def _connect(self, address: Address, port: int, seconds: float) -> httpcore.AsyncNetworkStream:
        self._stream = await self._inner.connect_tcp(str(address), port, seconds)
        return _Stream(self._stream, self)

    async def aclose(self) -> None:
        """Close the connection, also one that was cancelled before httpcore got it."""
        if self._stream is not None:
            await self._stream.aclose()


class _Stream(httpcore.AsyncNetworkStream):
    """A stream that bounds the head of the answer, and leaves other tasks their turns while much arrives at once."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, backend: CheckedBackend) -> None:
        self._inner = inner
        self._backend = backend
        self._head_bytes = 0
        self._turn = Turn()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._turn.is_over:
            await self._turn.pass_on()
        if not self._backend.in_head:
            return await self._inner.read(max_bytes, timeout)
        data = await self._inner.read(min(max_bytes, _HEAD_PIECE), timeout)
        self._head_bytes += len(data)
        if self._head_bytes > MOST_ANSWER_HEAD_BYTES:
            raise httpcore.RemoteProtocolError("the head is too large")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.start_tls(ssl_context, server_hostname, self._backend.left)
        return _Stream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
