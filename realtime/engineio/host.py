"""The server as a connection uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from realtime.engineio.admission import Admission, Guest
from realtime.engineio.deadlines import Deadlines, Timed
from realtime.engineio.options import Options
from realtime.engineio.packets import Data
from realtime.engineio.session import CloseReason
from realtime.engineio.waiting_output import WaitingOutput


class Member(Timed, Guest, Protocol):
    """A connection as its server uses it: it has deadlines, and counts for its address."""


C = TypeVar("C", bound=Member)

Result = Awaitable[None] | None
"""Returned by a callback of the application: its remaining work, to be awaited, if any."""


class Host(Protocol[C]):
    options: Options
    deadlines: Deadlines[C]
    admission: Admission[C]
    on_open: Callable[[C], Result]
    on_message: Callable[[C, Data], Result]
    on_disconnect: Callable[[C, CloseReason], Result]
    farewell: Callable[[C, CloseReason], str | None]
    waiting: WaitingOutput
    corked: list[C] | None
    """The connections with corked frames; None while the server is not corked."""

    def forget(self, connection: C) -> None: ...

    def ended(self, connection: C, reason: CloseReason) -> None: ...
