"""python-socketio's own client as a program: `python -m tests.live.python_client URL TOKEN TRANSPORT [STORE]`.

It prints one line per connection and per notice. With a store, it also prints the number of entities in its snapshot or
the error, and the bytes of each change event.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import socketio  # type: ignore[import-untyped]


async def main(url: str, token: str, transport: str, store: str = "") -> None:
    client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.2)

    async def connected() -> None:
        print("connected", client.transport(), flush=True)
        if store:
            await client.emit("subscribe", {"store": store, "snapshot": True}, callback=subscribed)

    def subscribed(answer: dict[str, Any]) -> None:
        print(len(answer["entities"]) if answer["ok"] else answer["error"], flush=True)

    def changed(event: dict[str, Any]) -> None:
        print("change", len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()), flush=True)

    client.on("connect", connected)
    client.on("notice", lambda notice: print("notice", notice["kind"], flush=True))
    client.on("change", changed)
    await client.connect(url, headers={"Authorization": f"Bearer {token}"}, transports=[transport])
    await client.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
