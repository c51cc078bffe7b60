"""PyMongo's exchanges with the server, made in the task that asks for them.

PyMongo makes three tasks for each exchange: one sends, one receives, and one looks twice a second whether the monitor
has given the server up. They and the waiting for them take longer than all else that PyMongo does with a small command.
Here the caller's task sends and receives, and timers watch.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

import pymongo
import pymongo.asynchronous.pool
from pymongo import _csot
from pymongo.asynchronous.pool import AsyncConnection
from pymongo.errors import ProtocolError, _OperationCancelled
from pymongo.message import _UNPACK_REPLY, _OpMsg
from pymongo.network_layer import PyMongoProtocol

VERSIONS: Final = frozenset({(4, 20)})
"""The versions of PyMongo whose private functions are replaced. Others work as they are."""

_LOOK_EVERY: Final = 0.5
"""Seconds between two looks at whether the operation has been given up, as in PyMongo."""


async def _send(protocol: PyMongoProtocol, message: bytes) -> None:
    await protocol.write(message)  # to a buffer without bound: it never waits


async def _receive(connection: AsyncConnection, request_id: int | None, most_bytes: int) -> _OpMsg:
    """Return the reply. Raises TimeoutError, and _OperationCancelled when PyMongo gives the operation up."""
    watch = _Watch(connection)
    try:
        async with watch.limit:
            data, code = await connection.conn.get_conn.read(request_id, most_bytes)
    except TimeoutError:
        if not watch.limit.expired():  # the socket's own
            raise
        if connection.cancel_context.cancelled:
            raise _OperationCancelled("operation cancelled") from None
        raise TimeoutError("timed out") from None
    finally:
        watch.stop()
    if (unpack := _UNPACK_REPLY.get(code)) is None:
        raise ProtocolError(f"Got opcode {code!r} but expected {_UNPACK_REPLY.keys()!r}")
    return unpack(data)


class _Watch:
    """Ends the wait for a reply (`limit`) when its time is over, or when PyMongo gives the operation up because the
    server does not answer the monitor. One timer looks for both."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.limit = asyncio.timeout(None)
        self._given_up = connection.cancel_context
        self._loop = asyncio.get_running_loop()
        left = 0 if self._given_up.cancelled else _seconds_left(connection)
        self._end = self._loop.time() + left
        self._timer = self._loop.call_later(min(left, _LOOK_EVERY), self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._given_up.cancelled or now >= self._end:
            self.limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(min(now + _LOOK_EVERY, self._end), self._look)


def _seconds_left(connection: AsyncConnection) -> float:
    """Return the seconds that the reply may take."""
    left = _csot.remaining() if _csot.get_timeout() else connection.conn.gettimeout
    return math.inf if left is None else max(left, 0)


def shorten() -> None:
    """Let PyMongo's clients of this process exchange messages in the task that they are called in."""
    if pymongo.version_tuple[:2] in VERSIONS:
        pool = pymongo.asynchronous.pool
        setattr(pool, "async_sendall", _send)  # noqa: B010 (PyMongo does not export the names)
        setattr(pool, "async_receive_message", _receive)  # noqa: B010
