"""What a connection needs of its server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from realtime.engineio.admission import Admission
from realtime.engineio.deadlines import Deadlines
from realtime.engineio.options import Options
from realtime.engineio.packets import Data
from realtime.engineio.session import CloseReason

if TYPE_CHECKING:
    from realtime.engineio.connection import Connection

Result = Awaitable[None] | None
"""Of telling the application something: what it still has to do about it, if anything."""


class Host(Protocol):
    options: Options
    deadlines: Deadlines[Connection]
    admission: Admission[Connection]
    on_open: Callable[[Connection], Result]
    on_message: Callable[[Connection, Data], Result]
    on_disconnect: Callable[[Connection, CloseReason], Result]
    farewell: Callable[[Connection, CloseReason], str | None]
    gathering: list[Connection] | None
    """While frames are gathered: whom they wait for."""

    def forget(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection, reason: CloseReason) -> None: ...
