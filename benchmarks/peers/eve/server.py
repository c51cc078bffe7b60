"""An Eve application over MongoDB under waitress: resources without a schema.

In its favour, there is no sign-in, and lists have no counts. Writes are as durable as the hub's: majority and
journaled.

python server.py MONGODB_URL; prints its port.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

import waitress
from eve import Eve

RESOURCE: dict[str, Any] = {
    "allow_unknown": True,
    "schema": {},
    "mongo_write_concern": {"w": "majority", "j": True},
    "mongo_indexes": {"station": [("station", 1)], "serial": [("serial", 1)]},
}
SORTED = {"station_value": [("station", 1), ("value", -1)]}  # serves lists of readings; nothing reads writes
SETTINGS: dict[str, Any] = {
    "MONGO_URI": sys.argv[1],
    "DOMAIN": {  # copies, because Eve changes them
        "readings": {**RESOURCE, "mongo_indexes": {**RESOURCE["mongo_indexes"], **SORTED}},
        "writes": {**RESOURCE},
    },
    "RESOURCE_METHODS": ["GET", "POST"],
    "ITEM_METHODS": ["GET", "PATCH"],
    "BULK_ENABLED": True,
    "OPTIMIZE_PAGINATION_FOR_SPEED": True,
    "PAGINATION_LIMIT": 10_000,
    "HATEOAS": False,
    "RATE_LIMIT_GET": None,
    "TRANSPARENT_SCHEMA_RULES": True,
}

logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it logs a line for each request that waits
listening = socket.create_server(("127.0.0.1", 0))
server = waitress.create_server(Eve(settings=SETTINGS), sockets=[listening], threads=8, max_request_body_size=1 << 26)
print(listening.getsockname()[1], flush=True)
server.run()
