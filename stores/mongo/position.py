"""Positions of the feed: ``<epoch>.t<seconds>.<increment>`` or ``<epoch>.s<sealed resume token>``, in URL-safe text.

A cluster time means that everything up to it, inclusive, has been seen. The events of one transaction share a cluster
time, so a change is identified by its resume token. A token is nearly always ``{"_data": hex}``, encoded as the bytes
of the hex; a token with more fields is encoded as BSON. It contains the id of the changed entity, which the holder of
the position may not be allowed to see: so it is sealed, after ``s`` and with ``r`` or ``b`` as the first sealed byte.
Inside the database, and where there is no key, it is plain, after ``r`` or ``b``.

Source: MongoDB specifications, "Change Streams"; `src/mongo/db/pipeline/resume_token.cpp` and
`src/mongo/db/storage/key_string.cpp` (a token begins with 0x82 and the 8 bytes of its cluster time).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import bson
from bson import Timestamp
from bson.errors import BSONError

from stores import base64url
from stores.bounds import Limit
from stores.errors import HistoryGone
from stores.options import Seal

Token = Mapping[str, Any]

_TIME = re.compile(r"(\d{1,10})\.(\d{1,10})\Z", re.ASCII)
_TIMESTAMP_HEAD: Final = 0x82
_LAST_INCREMENT: Final = 2**32 - 1

MOST_UNSEALED_POSITIONS: Final[Annotated[int, Limit("process", "positions", "all go, and are unsealed")]] = 2_000
"""Positions kept with their unsealed content: about 400 bytes each."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A place in the change stream: a cluster time up to which everything has been seen, or a token and its time."""

    time: Timestamp
    token: Token | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of `$changeStream` that start right after this place."""
        if self.token is not None:
            return {"resumeAfter": dict(self.token)}
        return {"startAtOperationTime": Timestamp(self.time.time, self.time.inc + 1)}


@dataclass(frozen=True, slots=True)
class Epoch:
    """The identity of a database in its positions, and their encryption."""

    name: str
    seal: Seal | None = None
    known: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    """Sealed text → content, for the last positions: each change's position is parsed again when the change is
    delivered, and unsealing takes longer than all the rest of that work."""


def at_time(epoch: Epoch, time: Timestamp) -> str:
    return f"{epoch.name}.t{time.time}.{time.inc}"


def at_token(epoch: Epoch, token: Token) -> str:
    if epoch.seal is None:
        return _of_bytes(epoch, token)
    data = _bytes_of(token)
    sealed = epoch.seal.seal(data)
    if len(epoch.known) >= MOST_UNSEALED_POSITIONS:
        epoch.known.clear()
    epoch.known[sealed] = data
    return f"{epoch.name}.s{sealed}"


def plain(epoch: Epoch, text: str) -> str:
    """Return the position in its unsealed form, which does not depend on the key. Raises HistoryGone."""
    token = parse(epoch, text).token
    return text if token is None else _of_bytes(epoch, token)


def _of_bytes(epoch: Epoch, token: Token) -> str:
    data = _bytes_of(token)
    return f"{epoch.name}.{chr(data[0])}{base64url.encode(data[1:])}"


def _bytes_of(token: Token) -> bytes:
    return b"r" + bytes.fromhex(token["_data"]) if len(token) == 1 else b"b" + bson.encode(token)


def after_token(token: Token) -> Resume:
    return Resume(_time_of(bytes.fromhex(token["_data"])), token)


def parse(epoch: Epoch, text: str) -> Resume:
    """Return the place that a position names. Raises HistoryGone when it is malformed or of another database."""
    own, _, place = text.partition(".")
    try:
        if own == epoch.name and place[:1] == "s" and epoch.seal is not None:
            data = epoch.known.get(place[1:]) or epoch.seal.unseal(place[1:])
            return _of_token(chr(data[0]), data[1:])
        if own == epoch.name:
            return _parse(place[:1], place[1:])
    except (ValueError, TypeError, KeyError, OverflowError, BSONError):
        pass
    raise HistoryGone("this position is not one of this database")


def parse_order(epoch: Epoch, text: str) -> bytes:
    """Return a sort key of positions. A token's key is its bytes, which begin with its time. A time sorts after all
    tokens of that time. Raises HistoryGone like `parse`."""
    if (known := _known_token(epoch, text)) is not None:
        return known
    resume = parse(epoch, text)
    if resume.token is not None:
        return bytes.fromhex(resume.token["_data"])
    return bytes((_TIMESTAMP_HEAD,)) + resume.time.time.to_bytes(4) + resume.time.inc.to_bytes(4) + b"\xff"


def token_text(epoch: Epoch, text: str) -> str:
    """Return the token of a change's position as text. Raises HistoryGone like `parse`."""
    if (known := _known_token(epoch, text)) is not None:
        return known.hex().upper()
    return str((parse(epoch, text).token or {})["_data"])


def _known_token(epoch: Epoch, text: str) -> bytes | None:
    """Return the token of a position that this process has made lately, unless the token has several parts. Every
    change asks for it some times; `parse` takes four times as long."""
    own, _, place = text.partition(".")
    data = epoch.known.get(place[1:]) if own == epoch.name and place[:1] == "s" else None
    return data[1:] if data is not None and data[:1] == b"r" else None


def _parse(kind: str, text: str) -> Resume:
    if kind == "t":
        match = _TIME.match(text)
        if match is None:
            raise ValueError(text)
        time = Timestamp(int(match[1]), int(match[2]))
        if time.inc == _LAST_INCREMENT:  # no time of that second follows it, and the hub makes no such position
            raise ValueError(text)
        return Resume(time)
    return _of_token(kind, base64url.decode(text))


def _of_token(kind: str, data: bytes) -> Resume:
    if kind == "r":
        return Resume(_time_of(data), {"_data": data.hex().upper()})
    if kind == "b":
        return after_token(bson.decode(data))
    raise ValueError(kind)


def _time_of(data: bytes) -> Timestamp:
    if len(data) < 9 or data[0] != _TIMESTAMP_HEAD:
        raise ValueError("not a resume token")
    return Timestamp(int.from_bytes(data[1:5]), int.from_bytes(data[5:9]))
