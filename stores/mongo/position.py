"""Positions of the feed: ``<epoch>.t<seconds>.<increment>`` or ``<epoch>.r<resume token>``, in URL-safe text.

A cluster time says: everything up to it, itself included, has been seen. The events of one transaction share a
cluster time, so a change is known by its resume token. A token is nearly always ``{"_data": hex}``, kept as the
bytes of the hex; one that holds more is kept as BSON after ``b``.

Source: MongoDB specifications, "Change Streams"; `src/mongo/db/pipeline/resume_token.cpp` and
`src/mongo/db/storage/key_string.cpp` (a token begins with 0x82 and the 8 bytes of its cluster time).
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson import Timestamp
from bson.errors import BSONError

from stores.errors import HistoryGone

Token = Mapping[str, Any]

_TIME = re.compile(r"(\d{1,10})\.(\d{1,10})\Z", re.ASCII)
_TIMESTAMP_HEAD: Final = 0x82


@dataclass(frozen=True, slots=True)
class Resume:
    """A place in the change stream: the cluster time up to which all is known, or a token that knows its own."""

    time: Timestamp
    token: Token | None = None

    def options(self) -> dict[str, Any]:
        """The options of `$changeStream` that start right after it."""
        if self.token is not None:
            return {"resumeAfter": dict(self.token)}
        return {"startAtOperationTime": Timestamp(self.time.time, self.time.inc + 1)}


def at_time(epoch: str, time: Timestamp) -> str:
    return f"{epoch}.t{time.time}.{time.inc}"


def at_token(epoch: str, token: Token) -> str:
    if len(token) == 1:
        return f"{epoch}.r{_encode(bytes.fromhex(token['_data']))}"
    return f"{epoch}.b{_encode(bson.encode(token))}"


def after_token(token: Token) -> Resume:
    return Resume(_time_of(bytes.fromhex(token["_data"])), token)


def parse(epoch: str, text: str) -> Resume:
    """The place that a position names. Raises HistoryGone when it is malformed or of another database."""
    own, _, place = text.partition(".")
    try:
        if own == epoch:
            return _parse(place[:1], place[1:])
    except (ValueError, TypeError, KeyError, OverflowError, BSONError):
        pass
    raise HistoryGone("this position is not one of this database")


def parse_order(epoch: str, text: str) -> bytes:
    """A sort key of positions: a token's own bytes, which begin with its time; a time comes after all tokens of it.
    Raises HistoryGone like `parse`."""
    resume = parse(epoch, text)
    if resume.token is not None:
        return bytes.fromhex(resume.token["_data"])
    return bytes((_TIMESTAMP_HEAD,)) + resume.time.time.to_bytes(4) + resume.time.inc.to_bytes(4) + b"\xff"


def _parse(kind: str, text: str) -> Resume:
    if kind == "t":
        match = _TIME.match(text)
        if match is None:
            raise ValueError(text)
        return Resume(Timestamp(int(match[1]), int(match[2])))
    data = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if kind == "r":
        return Resume(_time_of(data), {"_data": data.hex().upper()})
    if kind == "b":
        return after_token(bson.decode(data))
    raise ValueError(kind)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _time_of(data: bytes) -> Timestamp:
    if len(data) < 9 or data[0] != _TIMESTAMP_HEAD:
        raise ValueError("not a resume token")
    return Timestamp(int.from_bytes(data[1:5]), int.from_bytes(data[5:9]))
