"""The parts of a hub in this process, and other writes between the reads and the writes of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from auth.principal import Principal
from hub.running import Hub
from stores.protocol import Update
from stores.query import WHOLE
from stores.records import Entity

Race = Callable[[], Awaitable[Any]]


@dataclass
class Racing:
    """The parts of a running hub, in this process, and its administrator."""

    hub: Hub
    principal: Principal
    monkeypatch: pytest.MonkeyPatch

    async def make(self, store: str, body: Entity) -> str:
        [(text, _)] = await self.hub.entities.create(self.principal, store, [body])
        return str(orjson.loads(text)["_id"])

    async def see(self, store: str, id: str) -> Entity:
        found: Entity = orjson.loads((await self.hub.entities.get(self.principal, store, id, WHOLE))[0])
        return found

    async def spoil(self, store: str, id: str, fields: Entity) -> None:
        """Write fields directly to the engine, as another program would."""
        await self.hub.engine.commit([Update(store, id, fields)], None)

    def before(self, method: str, race: Race) -> None:
        """Run `race` once, before the engine's next call of `method`."""
        engine: Any = self.hub.engine
        write = getattr(engine, method)

        async def wait(*args: Any, **more: Any) -> Any:
            setattr(engine, method, write)
            await race()
            return await write(*args, **more)

        self.monkeypatch.setattr(engine, method, wait)
