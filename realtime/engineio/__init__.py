"""One Engine.IO server for both versions of the protocol (EIO=3, EIO=4): a core without I/O in an ASGI shell.

```
packets   encoding of packets and payloads                        (no I/O)
frames    WebSocket frames, built once and written to many        (no I/O)
session   (state, input, time) -> outputs: heartbeat, upgrade     (no I/O)
http      request -> verdict and response: errors, CORS, JSONP    (no I/O)
options   the settings of a server
wire      one WebSocket, over the raw transport or any ASGI server
connection  one client: its session, its wire or pending poll, its inbox
host      the server as a connection uses it
admission   limits on connections, in total and by address
inbox     a client's messages that wait for the application
polling   a poll that waits for packets
probe     a WebSocket that upgrades a polling session
deadlines one loop timer for the deadlines of all connections
asgi      one HTTP exchange over ASGI: the body of a request, the response
server    the ASGI application
engine    the same with the interface that python-socketio expects
socketio_packets  strict Socket.IO packets
uvicorn_protocol  gives `wire` access to uvicorn's transport
```
The protocol: engine.io-protocol v3 and v4.
"""

from realtime.engineio.connection import Connection
from realtime.engineio.frames import build_binary_frame, build_text_frame
from realtime.engineio.options import Options
from realtime.engineio.server import EngineIOServer
from realtime.engineio.session import CloseReason

__all__ = ["CloseReason", "Connection", "EngineIOServer", "Options", "build_binary_frame", "build_text_frame"]
