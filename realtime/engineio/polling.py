"""A poll that waits for packets."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from realtime.engineio.packets import Packet
from realtime.engineio.wire import Receive


class Poll:
    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: asyncio.Future[list[Packet] | None] = asyncio.get_running_loop().create_future()

    def answer(self, packets: list[Packet]) -> None:
        """End the wait.

        It does nothing if the client has disconnected, which the connection detects a moment later.
        """
        if not self._answer.done():
            self._answer.set_result(packets)

    async def wait(self, receive: Receive) -> list[Packet] | None:
        """Return the packets of the answer; None if the client disconnects before.

        `receive` belongs to the poll's request.
        """
        gone = asyncio.get_running_loop().create_task(_disconnected(receive))
        gone.add_done_callback(lambda _: self._give_up())
        try:
            return await self._answer
        finally:
            gone.cancel()

    def _give_up(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)


async def _disconnected(receive: Receive) -> None:
    """Return when the client of this request has disconnected."""
    event: MutableMapping[str, Any] = {"type": "http.request"}
    while event["type"] != "http.disconnect":
        event = await receive()
