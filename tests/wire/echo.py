"""The echo servers of the protocol suites: `python -m tests.wire.echo engineio|socketio PORT [setting=value…]`.

`/engine.io/` sends every message back. `/socket.io/` has the namespaces `/` and `/custom`: it sends `auth` with the
payload of CONNECT after connecting, `message-back` for `message`, and an acknowledgement for `message-with-ack`.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn

from realtime.engineio import EngineIOServer
from realtime.engineio.uvicorn_protocol import HubProtocol
from realtime.socketio import SocketIOServer

QUICK = {"ping_interval": 300, "ping_timeout": 200}


def engineio(**settings: Any) -> EngineIOServer:
    return EngineIOServer(lambda connection, data: connection.send(data), **{**QUICK, **settings})


def socketio(**settings: Any) -> Any:
    server = SocketIOServer(
        always_connect=True, announce_max_payload=True, **{**QUICK, "connect_timeout": 1000, **settings}
    )
    for namespace in ("/", "/custom"):
        _serve(server, namespace)
    return server.eio


def _serve(server: Any, namespace: str) -> None:
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await server.emit("auth", auth or {}, to=sid, namespace=namespace)

    async def message(sid: str, *data: Any) -> None:
        await server.emit("message-back", data, to=sid, namespace=namespace)

    async def acknowledge(sid: str, *data: Any) -> tuple[Any, ...]:
        return data

    for event, handler in (("connect", connect), ("message", message), ("message-with-ack", acknowledge)):
        server.on(event, handler, namespace)


def main(kind: str, port: str, *settings: str) -> None:
    pairs = (setting.partition("=") for setting in settings)
    app = {"engineio": engineio, "socketio": socketio}[kind](**{name: int(value) for name, _, value in pairs})
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=512)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, ws=HubProtocol, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
