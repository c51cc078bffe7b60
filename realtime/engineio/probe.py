"""A WebSocket that upgrades a polling session: after `2probe`, `3probe` and `5` it carries the session."""

from __future__ import annotations

import asyncio

from realtime.engineio.connection import Connection
from realtime.engineio.packets import MalformedPacket
from realtime.engineio.wire import Wire


class Probe:
    """Listens to that WebSocket. Until the upgrade, its end or an invalid packet leaves the session polling."""

    __slots__ = ("_connection", "_wire")

    def __init__(self, connection: Connection, wire: Wire) -> None:
        self._connection = connection
        self._wire = wire

    def begin(self) -> None:
        """Start the upgrade, or close the WebSocket if the session may not upgrade or already does."""
        connection = self._connection
        if connection.session.begin_upgrade(asyncio.get_running_loop().time()):
            connection.probe_wire = self._wire
            connection.flush()
        else:
            self._wire.close("not to be upgraded")

    def frame_received(self, data: str | bytes) -> None:
        connection = self._connection
        if connection.probe_wire is self._wire:
            self._probed(data)
        elif connection.has_wire(self._wire):
            connection.frame_received(data)

    def message_unfinished(self, is_unfinished: bool) -> None:
        # Before the upgrade, its own deadline suffices.
        if self._connection.has_wire(self._wire):
            self._connection.message_unfinished(is_unfinished)

    def wire_drained(self) -> None:
        if self._connection.has_wire(self._wire):
            self._connection.wire_drained()

    def wire_lost(self, *, too_large: bool = False) -> None:
        connection = self._connection
        if connection.probe_wire is self._wire:
            connection.probe_wire = None
            connection.session.abandon_upgrade()
            connection.flush()
        elif connection.has_wire(self._wire):
            connection.wire_lost(too_large=too_large)

    def _probed(self, data: str | bytes) -> None:
        connection = self._connection
        try:
            answer = connection.session.probe(connection.decode(data))
        except MalformedPacket:
            connection.session.abandon_upgrade()
            answer = None
        if answer is not None:
            self._wire.write(answer.type + str(answer.data))
            connection.flush()
        elif connection.transport == "websocket":
            connection.probe_wire = None
            connection.attach(self._wire)
        else:
            connection.drop_probe()
            connection.flush()
