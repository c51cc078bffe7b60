"""Ends the transactions that a killed hub has left open.

MongoDB keeps an open transaction for a minute (`transactionLifetimeLimitSeconds`) after its client has gone, and with
it keeps everybody else from what it has written: a request that is sent again after the hub has come back would be
refused all that time. A transaction between two operations whose connection no longer exists is nobody's any more.
Should it be somebody's all the same, it is only done again.

Source: MongoDB manual, `$currentOp` (idleSessions, idleConnections) and `killSessions`.
"""

from __future__ import annotations

import logging
from typing import Any

from pymongo.errors import ConnectionFailure, PyMongoError

from stores.mongo.codec import Document
from stores.mongo.connection import APPLICATION, Connection

log = logging.getLogger(__name__)


async def end_orphans(connection: Connection, idle_seconds: float | None = None) -> None:
    """End what hubs left open that are no longer connected, and what has been idle for `idle_seconds`, since a hub that
    stands still keeps its connections. Without the right to look, it is left to the server."""
    try:
        open_ = await _operations(connection, "idleSession")
        if not open_:
            return
        alive = {_source(operation) for operation in await _operations(connection, "op")}
        orphans = [
            {"id": held["lsid"]["id"]}
            for held in open_
            if _source(held) not in alive or (idle_seconds is not None and _idle_of(held) > idle_seconds)
        ]
        if orphans:
            await connection.client.admin.command({"killSessions": orphans})
            log.info("ended %d transactions of a hub that has gone", len(orphans))
    except ConnectionFailure:
        pass  # whoever waits for the database says so
    except PyMongoError as error:
        log.warning("cannot look for transactions of hubs that have gone: %s", type(error).__name__)


async def _operations(connection: Connection, type: str) -> list[Document]:
    """Of hubs: open transactions between two operations ("idleSession"), or connections ("op")."""
    look = {"allUsers": False, "idleConnections": True, "idleSessions": True}
    match = {"type": type, "appName": APPLICATION}
    cursor = await connection.client.admin.aggregate([{"$currentOp": look}, {"$match": match}])
    return await cursor.to_list()


def _idle_of(held: Document) -> float:
    """Seconds since the last operation of an open transaction."""
    return float(held.get("transaction", {}).get("timeInactiveMicros", 0)) / 1_000_000


def _source(operation: Document) -> tuple[Any, Any]:
    return operation.get("host"), operation.get("connectionId")
