"""A client of the live sessions for tests within one process: a sink that keeps what it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from stores.records import Entity

PASSWORD = "correct horse battery"


@dataclass
class Ear:
    """A sink that records the messages to one client."""

    said: list[tuple[str, Any]] = field(default_factory=list)
    closed: bool = False

    def send(self, text: str) -> None:
        name, payload = orjson.loads(text[2:])
        self.said.append((name, payload))

    def offer(self, frame: bytes, text: str) -> bool:
        self.send(text)
        return True

    def make_room(self, size: int) -> None:
        """Do nothing: there is room for everything."""

    @property
    def has_room(self) -> bool:
        return True

    async def drained(self) -> None:
        """Return immediately: the client never lags."""

    async def taken(self) -> None:
        """Return immediately."""

    def close(self, kind: str) -> None:
        self.said.append(("closed", kind))

    def changes(self) -> list[Entity]:
        return [payload["entity"] for name, payload in self.said if name == "change"]
