"""One Engine.IO server for both versions of the protocol (EIO=3, EIO=4): a core without I/O in an ASGI shell.

```
packets   what a packet and a payload look like on the wire      (no I/O)
frames    the bytes of a WebSocket frame, built once for many     (no I/O)
session   (state, input, time) -> outputs: heartbeat, upgrade     (no I/O)
http      request -> verdict and response: errors, CORS, JSONP    (no I/O)
wire      one WebSocket: the raw transport, or any ASGI server
connection  one client: its session, its wire or pending poll, its inbox
host      what a connection needs of the server
inbox     a client's messages while the application is busy with it
polling   a poll that waits for packets
deadlines one loop timer for the deadlines of all connections
server    the ASGI application
uvicorn_protocol  offers uvicorn's transport to `wire`
```
The protocol: engine.io-protocol v3 and v4.
"""

from realtime.engineio.connection import Connection
from realtime.engineio.frames import build_binary_frame, build_text_frame
from realtime.engineio.options import Options
from realtime.engineio.server import EngineIOServer
from realtime.engineio.session import CloseReason

__all__ = ["CloseReason", "Connection", "EngineIOServer", "Options", "build_binary_frame", "build_text_frame"]
