"""Ending of transactions that a killed hub has left open.

MongoDB keeps an open transaction for a minute (`transactionLifetimeLimitSeconds`) after its client has disconnected.
Until then no one else can change the documents that it has written: a request that is repeated after a restart of the
hub would be rejected for a minute. A transaction that is idle has no client if none of the client's connections exists
any more, except such as still run a command: MongoDB does not end the creation of an index with its connection, and it
may wait for the transaction. If this is wrong in some case, the transaction is only repeated.

Source: MongoDB manual, `$currentOp` (idleSessions, idleConnections) and `killSessions`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pymongo.errors import ConnectionFailure, PyMongoError

from stores.errors import Unavailable
from stores.mongo.codec import Document
from stores.mongo.connection import APPLICATION, Connection
from stores.tasks import end_tasks

log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 1.0


@asynccontextmanager
async def orphans_ended(connection: Connection) -> AsyncIterator[None]:
    """End them every second while the block runs, since it may wait for what they have locked. They may be found only
    then: a busy server notices after a moment that a client has gone."""
    again = asyncio.create_task(_end_again(connection))
    try:
        yield
    finally:
        await end_tasks([again])


async def _end_again(connection: Connection) -> None:
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        await end_orphans(connection)


async def end_orphans(connection: Connection, idle_seconds: float | None = None) -> None:
    """End open transactions of hubs that are no longer connected, and transactions that have been idle for
    `idle_seconds`, because a suspended hub keeps its connections. Without the right to list operations nothing is done,
    and the server's time limit ends them."""
    try:
        open_ = await _operations(connection, "idleSession")
        if not open_:
            return
        alive = {_client(operation) for operation in await _operations(connection, "op") if _is_listening(operation)}
        orphans = [
            {"id": session["lsid"]["id"]}
            for session in open_
            if _client(session) not in alive or (idle_seconds is not None and _idle_of(session) > idle_seconds)
        ]
        if orphans:
            await connection.client.admin.command({"killSessions": orphans})
            log.info("ended %d transactions of a hub that has gone", len(orphans))
    except (ConnectionFailure, Unavailable):
        pass  # the caller that waits for the database reports it
    except PyMongoError as error:
        log.warning("cannot look for transactions of hubs that have gone: %s", type(error).__name__)


async def _operations(connection: Connection, type: str) -> list[Document]:
    """Return open transactions of hubs between two operations (`type` "idleSession"), or their connections ("op")."""
    look = {"allUsers": False, "idleConnections": True, "idleSessions": True}
    match = {"type": type, "appName": APPLICATION}
    cursor = await connection.client.admin.aggregate([{"$currentOp": look}, {"$match": match}])
    return await cursor.to_list()


def _idle_of(session: Document) -> float:
    """Return the seconds since the last operation of an open transaction."""
    return float(session.get("transaction", {}).get("timeInactiveMicros", 0)) / 1_000_000


def _is_listening(operation: Document) -> bool:
    """Return whether a connection waits for its client, or for news that it would send it. A client always has one."""
    return not operation.get("active") or "hello" in operation.get("command", {})


def _client(operation: Document) -> tuple[Any, Any]:
    """Return the identity of a client at one member (`stores.mongo.connection`), or of its connection if it has none:
    earlier hubs gave none."""
    platform = str(operation.get("clientMetadata", {}).get("platform", ""))
    return operation.get("host"), platform if "|" in platform else operation.get("connectionId")
