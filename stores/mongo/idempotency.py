"""Outcomes of commits by idempotency key. They are read and written in the transaction of the commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from stores.errors import KeyReused
from stores.mongo.codec import Document
from stores.mongo.computing import PART_BYTES
from stores.mongo.connection import Connection, Session
from stores.mongo.errors import store_errors
from stores.mongo.room import Room
from stores.mongo.structure import KEYS
from stores.protocol import IdempotencyKey, Written, pack, unpack
from stores.records import now_ms
from stores.threads import in_thread

_LONG: Final = 262_144
"""Bytes from which an outcome is packed in a thread."""

_PART_BYTES: Final = 8 * 1024 * 1024  # half of the largest document


async def write_once(
    connection: Connection,
    key: IdempotencyKey,
    write: Callable[[Session, Room], Awaitable[list[Written]]],
    session: Session,
    room: Room,
) -> list[Written]:
    """Call `write` and store its outcome, or return the outcome that is stored already. Raises KeyReused."""
    keys = connection.collection(KEYS)
    known = await keys.find_one({"_id": key.key}, session=session)
    if known is not None:
        if known["expires"] > _date(now_ms()):
            return await _unpacked(connection, known, key, session)
        await keys.delete_many({"_id": {"$in": _part_ids(key.key, known["parts"])}}, session=session)
    outcome = await write(session, room)
    size = sum(len(done.entity) for done in outcome)
    if size > PART_BYTES:
        await room.take()  # the outcome is as large as the entities, once more
    is_long = size > _LONG
    for part in await in_thread(_parts, key, outcome) if is_long else _parts(key, outcome):
        await keys.insert_one(part, session=session)
    return outcome


async def earlier_outcome(connection: Connection, key: IdempotencyKey) -> list[Written] | None:
    """See `stores.protocol.Engine.outcome`."""
    with store_errors():
        # A snapshot holds all parts of an outcome, and only what a majority of the servers has.
        async with connection.client.start_session(snapshot=True) as session:
            known = await connection.collection(KEYS).find_one({"_id": key.key}, session=session)
            if known is None or known["expires"] <= _date(now_ms()):
                return None
            return await _unpacked(connection, known, key, session)


async def forget_expired(connection: Connection, now: int) -> None:
    """Remove the outcomes whose time is over at `now` (Unix ms)."""
    with store_errors():
        await connection.collection(KEYS).delete_many({"expires": {"$lte": _date(now)}})


async def _unpacked(connection: Connection, known: Document, key: IdempotencyKey, session: Session) -> list[Written]:
    """Return the outcome of the first commit with this key. Raises KeyReused when that was another request."""
    if known["fingerprint"] != key.fingerprint:
        raise KeyReused(f"the idempotency key {key.key!r} was used for another request")
    texts: list[bytes] = [known["results"]]
    for id in _part_ids(key.key, known["parts"])[1:]:
        part = await connection.collection(KEYS).find_one({"_id": id}, session=session)
        texts.append((part or {})["results"])
    is_long = sum(map(len, texts)) > _LONG
    return await in_thread(lambda: unpack(b"".join(texts))) if is_long else unpack(texts[0])


def _parts(key: IdempotencyKey, outcome: Sequence[Written]) -> list[Document]:
    """Return the outcome of a commit as documents. The id of the first one is the key."""
    text = pack(outcome)
    pieces = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
    expires = _date(key.expires)
    ids = _part_ids(key.key, len(pieces))
    documents = [{"_id": id, "expires": expires, "results": piece} for id, piece in zip(ids, pieces, strict=True)]
    documents[0] |= {"fingerprint": key.fingerprint, "parts": len(pieces)}
    return documents


def _part_ids(key: str, parts: int) -> list[Any]:
    return [key, *({"key": key, "part": part} for part in range(1, parts))]


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
