"""The connection to one database, shared by all parts of this engine. Errors at opening say what to do."""

from __future__ import annotations

import asyncio
import re
import secrets
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import pymongo
from bson import Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.driver_info import DriverInfo
from pymongo.errors import (
    ConfigurationError,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.server_type import SERVER_TYPE

from stores.errors import CannotOpen, Unavailable
from stores.mongo import exchanges
from stores.mongo.codec import CODEC, Document
from stores.mongo.condition_waits import make_safe
from stores.mongo.errors import AUTHENTICATION_FAILED, SNAPSHOT_UNAVAILABLE, UNAUTHORIZED, is_changing_primary
from stores.mongo.position import Epoch
from stores.mongo.sizes import RAW, Sizes
from stores.mongo.slow_reads import milliseconds, read_limits
from stores.options import Seal
from stores.read_turns import ReadTurns

T = TypeVar("T")
Session = AsyncClientSession

META: Final = "_meta"
APPLICATION: Final = "hub"
"""The application name under which MongoDB lists the connections of hubs."""

OLDEST: Final = (6, 0)
SPLITTING: Final = (6, 0, 9)

_SETTINGS: Final[Mapping[str, Any]] = {
    "w": "majority",
    "journal": True,
    "retryWrites": True,
    "retryReads": True,
    "readPreference": "primary",
    "appname": APPLICATION,
}
SOCKETS: Final = 200
"""Connections: enough for all concurrent commits and slow reads, and for quick reads besides."""
LEAST_SOCKETS: Final = 10
"""Connections; with fewer, the feed, history and a commit would wait for each other."""
_MOST_COLLECTIONS: Final = 1_000
"""Collections whose objects are kept, since making one takes 3 µs."""
_TIMEOUTS: Final[Mapping[str, Any]] = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "heartbeatFrequencyMS": 5_000,
    "waitQueueTimeoutMS": 10_000,
}
_SOCKET_MS: Final = 5_000
"""Milliseconds for the transport of the server's reply, in addition to the time of the longest read."""
_NOT_A_URL = (
    "The database URL is not a MongoDB URL. It looks like mongodb://user:password@host:27017/hub?replicaSet=name, "
    "with special characters in user and password percent-encoded."
)
_STANDALONE = (
    "MongoDB at {hosts} is not a replica set, without which there are no transactions and no change feed. "
    "One member is enough: start mongod with --replSet hub, then run rs.initiate() once in mongosh."
)
_NOT_INITIATED = "The replica set at {hosts} has not been initiated: run rs.initiate() once in mongosh."
_UNREACHABLE = (
    "No primary of MongoDB answered at {hosts} within {seconds:g} s. Check that mongod runs there, that this machine "
    "can reach it, and that replicaSet in the URL, if given, is the set's name."
)
_REFUSED = "MongoDB at {hosts} refused the user or password of the database URL."
_FORBIDDEN = "The user of the database URL may not write to {database} on {hosts}: grant it the role readWrite there."
_TOO_OLD = "MongoDB at {hosts} is version {version}; the hub needs 6.0 or newer."
_SEVERAL_ROUTERS = (
    "The database URL names several mongos routers. Name one: a change feed stays with the router that opened it."
)


_MEMBERS: Final = frozenset({SERVER_TYPE.RSSecondary, SERVER_TYPE.RSOther})
"""Members of a replica set other than the primary; `RSOther` is one that starts or recovers."""


def check_cancelled() -> None:
    """Raise CancelledError if the current task has been cancelled. Call it in loops over requests to the server.

    Before Python 3.12 `asyncio.wait_for`, which PyMongo uses, may swallow a cancellation.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _identity() -> DriverInfo:
    """Return what tells the connections of one client from those of another in MongoDB's list of operations: one may
    still run a command of a hub that was killed."""
    return DriverInfo(APPLICATION, platform=secrets.token_hex(8))


def _wrong_option(warning: str) -> str:
    """Return the error for PyMongo's warning about an option of the URL."""
    unknown = re.match(r"Unknown option: (\w+)\.(?: Did you mean one of \((\w+))?", warning)
    if unknown is None:
        return f"The database URL has a wrong option: {warning}"
    near = f"; did you mean {unknown[2]}?" if unknown[2] else ""
    return f"The database URL has an option that MongoDB does not have: {unknown[1]}{near}"


class Connection:
    """A client, its database and the database's epoch. Before `open` and after `close`, methods raise Unavailable.

    `read_timeout`: seconds that the server may spend on one of the `reads`. `slow_reads_per_user`: slow reads of one
    user that may wait for their turn."""

    def __init__(self, url: str, read_timeout: float, seal: Seal | None = None, slow_reads_per_user: int = 32) -> None:
        self._url = url
        self.read_timeout = read_timeout
        self._client: AsyncMongoClient[Document] | None = None
        self._database: AsyncDatabase[Document] | None = None
        self._collections: dict[str, AsyncCollection[Document]] = {}
        self._seal = seal
        self._epoch = Epoch("")
        self.sizes = Sizes()
        self.sockets = SOCKETS
        self.reads = ReadTurns(read_limits(read_timeout, slow_reads_per_user), ExecutionTimeout)
        self.groupings = 0
        """Aggregations that the server groups now."""
        self.splits_events = False
        """Whether the server can split the event of a very large change into fragments."""
        self.is_router = False
        """Whether the server is mongos, which combines the replies of shards."""

    async def open(self, *, make: bool = True) -> None:
        """Connect and check the server; without `make`, write nothing. Raises CannotOpen, and Unavailable when a retry
        may succeed at once."""
        self._client = self._make_client()
        try:
            await self._check()
            if make:
                self._epoch = Epoch(await self._read_epoch(), self._seal)
        except PyMongoError as error:
            explanation = self._explain(error)
            may_be_elected = isinstance(error, ServerSelectionTimeoutError) and self._has_member()
            await self.close()
            kind = Unavailable if may_be_elected or is_changing_primary(error) else CannotOpen
            raise kind(explanation) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client, self._database = self._client, None, None
        self._collections.clear()
        if client is not None:
            await client.close()

    @property
    def client(self) -> AsyncMongoClient[Document]:
        if self._client is None:
            raise Unavailable("the database is not open")
        return self._client

    @property
    def database(self) -> AsyncDatabase[Document]:
        if self._database is None:  # kept, because making one takes a fiftieth of the time of a list
            self._database = self.client.get_default_database("hub", codec_options=CODEC)
        return self._database

    @property
    def socket_timeout(self) -> float:
        """Seconds after which a request counts as unanswered, unless it sets its own."""
        return self.client.options.pool_options.socket_timeout or _SOCKET_MS / 1000

    @property
    def epoch(self) -> Epoch:
        """The identity of this database. It changes when the database is dropped and created again."""
        return self._epoch

    def _make_client(self) -> AsyncMongoClient[Document]:
        make_safe()
        exchanges.shorten()
        try:
            # For `urlsplit`, "#" or "[" in a password would end the address, or be an error.
            address, _, query = self._url.partition("?")
            if not address.startswith(("mongodb://", "mongodb+srv://")):
                raise CannotOpen(_NOT_A_URL)
            # The URL may change timeouts, but not `_SETTINGS`, on which the hub's guarantees depend.
            given = {name.lower() for name, _ in parse_qsl(query)}
            known = {
                **_TIMEOUTS,
                "maxPoolSize": self.sockets,
                "socketTimeoutMS": _SOCKET_MS + round(self.read_timeout * 1000),
            }
            options = {name: value for name, value in known.items() if name.lower() not in given}
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                warnings.filterwarnings("ignore", "Wire protocol compression")  # not installed: PyMongo does without
                return AsyncMongoClient(self._url, driver=_identity(), **_SETTINGS, **options)
        except UserWarning as warning:  # PyMongo ignores an option that it does not know
            raise CannotOpen(_wrong_option(str(warning))) from None
        except (InvalidURI, ConfigurationError, ValueError):
            # The cause may quote the URL, and with it the password.
            raise CannotOpen(_NOT_A_URL) from None

    async def _check(self) -> None:
        hello = await self.database.command("hello")
        self.is_router = is_router = hello.get("msg") == "isdbgrid"
        if not is_router and "setName" not in hello:
            raise CannotOpen(_STANDALONE.format(hosts=self._hosts()))
        if is_router and len(self.client.topology_description.server_descriptions()) > 1:
            raise CannotOpen(_SEVERAL_ROUTERS)
        version = await self.database.command("buildInfo")
        self.splits_events = tuple(version["versionArray"]) >= SPLITTING
        if tuple(version["versionArray"]) < OLDEST:
            raise CannotOpen(_TOO_OLD.format(hosts=self._hosts(), version=version["version"]))

    async def _read_epoch(self) -> str:
        """Return the database's epoch, which is created when it is first opened."""
        return await self.stored_constant("epoch", secrets.token_hex(4))

    async def stored_constant(self, name: str, value: str, *, replace: bool = False) -> str:
        """See `stores.protocol.Engine.stored_constant`."""
        document = await self.database[META].find_one_and_update(
            {"_id": name},
            {"$set" if replace else "$setOnInsert": {"value": value}},
            upsert=True,
            return_document=pymongo.ReturnDocument.AFTER,
        )
        return str((document or {})["value"])

    async def read_constant(self, name: str) -> str | None:
        """See `stores.protocol.Engine.read_constant`."""
        document = await self.database[META].find_one({"_id": name})
        return None if document is None else str(document["value"])

    def _explain(self, error: PyMongoError) -> str:
        if isinstance(error, ServerSelectionTimeoutError):
            servers = self.client.topology_description.server_descriptions().values()
            if any(server.server_type == SERVER_TYPE.RSGhost for server in servers):
                return _NOT_INITIATED.format(hosts=self._hosts())
            seconds = self.client.options.server_selection_timeout
            return _UNREACHABLE.format(hosts=self._hosts(), seconds=seconds)
        if isinstance(error, OperationFailure) and error.code == UNAUTHORIZED:
            return _FORBIDDEN.format(hosts=self._hosts(), database=self.database.name)
        if isinstance(error, OperationFailure) and error.code in AUTHENTICATION_FAILED:
            return _REFUSED.format(hosts=self._hosts())
        return f"MongoDB at {self._hosts()} cannot be used: {type(error).__name__}."

    def _has_member(self) -> bool:
        """Return whether a member of the replica set answers, which may then elect a primary."""
        servers = self.client.topology_description.server_descriptions().values()
        return any(server.server_type in _MEMBERS for server in servers)

    def _hosts(self) -> str:
        addresses = self.client.topology_description.server_descriptions()
        return ", ".join(f"{host}:{port}" if port else str(host) for host, port in sorted(addresses)) or "its address"

    def collection(self, name: str) -> AsyncCollection[Document]:
        known = self._collections.get(name)
        if known is None:
            if len(self._collections) >= _MOST_COLLECTIONS:
                self._collections.clear()
            known = self._collections[name] = self.database[name]
        return known

    async def command(self, command: Document, session: Session | None = None, *, raw: bool = False) -> Document:
        """Run a command on the primary and return the reply. This costs half as much as the cursor API, and replies
        have fields that cursors hide. With `raw` the documents in the reply are not decoded (see `sizes.decoded`)."""
        return await self.database.command(command, session=session, codec_options=RAW if raw else CODEC)

    async def read(self, command: Document, *, raw: bool = False) -> Document:
        """Run a reading command with a time limit in the server, and return the reply. The command may be run twice.
        Beyond the limit PyMongo raises ExecutionTimeout, which `store_errors` translates to ReadTimeout."""
        return await self.reads.run(lambda most: self.command({**command, "maxTimeMS": milliseconds(most)}, raw=raw))

    async def snapshot(
        self, command: Document, at: Timestamp | None = None, *, raw: bool = False
    ) -> tuple[Document, Timestamp]:
        """Return the ``cursor`` in the reply of a reading command, read at one majority-committed cluster time, and
        that time: `at`, or the current one."""
        cursor = await self._read_at(command, at, raw)
        time = at or cursor.get("atClusterTime")
        if time is None:  # the reply for a collection that does not exist has no time
            return await self.snapshot(command, await self.now(), raw=raw)
        return cursor, time

    async def _read_at(self, command: Document, at: Timestamp | None, raw: bool) -> Document:
        async def read(concern: Document, most: float) -> Document:
            reply = await self.command({**command, "readConcern": concern, "maxTimeMS": milliseconds(most)}, raw=raw)
            cursor: Document = reply["cursor"]
            return cursor

        return await self.at_snapshot(read, at)

    async def at_snapshot(self, read: Callable[[Document, float], Awaitable[T]], at: Timestamp | None) -> T:
        """Run `read` as one of the `reads`, and return its result. It gets the read concern for the cluster time `at`
        (None: the current one) and the seconds that it may take, and may be called several times. Raises
        Unavailable."""
        concern: Document = {"level": "snapshot"} if at is None else {"level": "snapshot", "atClusterTime": at}
        for pause in (0.01, 0.05, 0.2):
            try:
                return await self.reads.run(lambda most: read(concern, most))
            except OperationFailure as error:
                # Just after an index has been created, the newest snapshot may be older than the index.
                if error.code != SNAPSHOT_UNAVAILABLE:
                    raise
            await asyncio.sleep(pause)
        raise Unavailable("the collection is being changed")

    async def kill(self, collection: str, cursor: int) -> None:
        """Close a cursor before its end."""
        await self.command({"killCursors": collection, "cursors": [cursor]})

    async def now(self) -> Timestamp:
        """Return the newest majority-committed cluster time."""
        probe = {"find": META, "filter": {"_id": "epoch"}, "limit": 1, "singleBatch": True}
        reply = await self.command({**probe, "readConcern": {"level": "snapshot"}})
        # Without `_meta` the database has been dropped: any later time will reveal that.
        time: Timestamp = reply["cursor"].get("atClusterTime") or reply["operationTime"]
        return time

    async def now_and_ids(self, collection: str) -> tuple[Timestamp, frozenset[str]]:
        """Return the newest majority-committed cluster time, and the ids of the collection at that time."""
        command = {"find": collection, "projection": {"_id": 1}, "batchSize": 100_000, "singleBatch": True}
        cursor, time = await self.snapshot(command)
        return time, frozenset(str(document["_id"]) for document in cursor["firstBatch"])
