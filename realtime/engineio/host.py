"""What a connection needs of its server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from realtime.engineio.admission import Admission, Guest
from realtime.engineio.deadlines import Deadlines, Timed
from realtime.engineio.options import Options
from realtime.engineio.packets import Data
from realtime.engineio.session import CloseReason


class Member(Timed, Guest, Protocol):
    """A connection, as its server sees it: it has deadlines, and counts towards its address."""


C = TypeVar("C", bound=Member)

Result = Awaitable[None] | None
"""Of telling the application something: what it still has to do about it, if anything."""


class Host(Protocol[C]):
    options: Options
    deadlines: Deadlines[C]
    admission: Admission[C]
    on_open: Callable[[C], Result]
    on_message: Callable[[C, Data], Result]
    on_disconnect: Callable[[C, CloseReason], Result]
    farewell: Callable[[C, CloseReason], str | None]
    corked: list[C] | None
    """While the server is corked: the connections whose frames wait."""

    def forget(self, connection: C) -> None: ...

    def ended(self, connection: C, reason: CloseReason) -> None: ...
