"""Counts of calls on MongoDB, which all processes of a hub share: one document for each key.

A call is one findAndModify, whose pipeline follows the rules of `stores.throttling` by the server's clock. The counts
need not survive the loss of a primary, so its acknowledgement is enough.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from stores.bounds import Limit
from stores.mongo.codec import Document
from stores.mongo.connection import Connection
from stores.mongo.errors import store_errors
from stores.mongo.structure import THROTTLES
from stores.throttling import SKEW_MS, Rule, Taken, outcome_of_log, outcome_of_window

REFUSED_KEYS: Annotated[int, Limit("process on MongoDB", "refused keys of throttles", "the oldest goes")] = 10_000
"""Keys of which a process knows until when they are refused. It asks the database about the others."""

_NOW: Final = {"$toLong": "$$NOW"}
_ACKNOWLEDGED: Final = WriteConcern(w=1, j=False)
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A refused key. Times are those of `time.monotonic`.

    `until`: no call can be allowed before, whenever the server has read its clock. `after`: one can be from then on.
    """

    until: float
    after: float
    resets: float


class MongoThrottles:
    """See `stores.throttling.ThrottleCounts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._refused: OrderedDict[tuple[str, int], _Refusal] = OrderedDict()

    async def take(self, key: str, rule: Rule) -> Taken:
        id = f"{rule.kind}:{rule.seconds}:{key}"
        began = time.monotonic()
        refusal = self._refused.get((id, rule.limit))
        if refusal is not None and began < refusal.until:
            # Its refused calls are the most frequent ones of a key, and each would be a write.
            return Taken(False, 0, refusal.after - began, refusal.resets)
        with store_errors():
            counted = await self._count(id, pipeline_of(rule))
        taken = outcome_of(counted, rule)
        if not taken.allowed:
            self._remember((id, rule.limit), _Refusal(began + taken.wait, time.monotonic() + taken.wait, taken.resets))
        return taken

    async def _count(self, id: str, pipeline: Sequence[Document]) -> Document:
        collection = self._connection.collection(THROTTLES).with_options(write_concern=_ACKNOWLEDGED)
        for left in reversed(range(_TRIES)):
            try:
                counted = await collection.find_one_and_update(
                    {"_id": id}, pipeline, {"expires": 0}, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # two calls have created it at once
                if not left:
                    raise
            else:
                assert counted is not None
                return counted
        raise AssertionError

    def _remember(self, key: tuple[str, int], refusal: _Refusal) -> None:
        self._refused[key] = refusal
        self._refused.move_to_end(key)
        while len(self._refused) > REFUSED_KEYS:
            self._refused.popitem(last=False)


def pipeline_of(rule: Rule, now: Any = _NOW) -> list[Document]:
    """Return the update that counts a call at `now`, an expression for Unix milliseconds."""
    return _sliding(rule, now) if rule.kind == "sliding" else _fixed(rule, now)


def outcome_of(counted: Document, rule: Rule) -> Taken:
    """Return the outcome of a call, given the document after it."""
    allowed, now = counted["allowed"], counted["now"]
    if rule.kind == "sliding":
        return outcome_of_log(allowed, counted["times"], now, rule)
    return outcome_of_window(allowed, counted["begin"], counted["count"], now, rule)


def _sliding(rule: Rule, now: Any) -> list[Document]:
    made_by_now = {"$map": {"input": {"$ifNull": ["$times", []]}, "in": {"$min": ["$$this", "$at"]}}}
    in_time = {"$gt": ["$$this", {"$subtract": ["$at", rule.ms]}]}
    return [
        *_read_clock(now, {"$arrayElemAt": ["$times", -1]}),
        {"$set": {"times": {"$filter": {"input": made_by_now, "cond": in_time}}}},
        {"$set": {"allowed": {"$lt": [{"$size": "$times"}, rule.limit]}}},
        {"$set": {"times": {"$concatArrays": ["$times", {"$cond": ["$allowed", ["$at"], []]}]}}},
        {"$set": {"expires": {"$toDate": {"$add": [{"$arrayElemAt": ["$times", -1]}, rule.ms]}}}},
    ]


def _fixed(rule: Rule, now: Any) -> list[Document]:
    begin = {"$subtract": ["$at", {"$mod": ["$at", rule.ms]}]}
    return [
        *_read_clock(now, "$last"),
        {"$set": {"begin": begin, "count": {"$cond": [{"$eq": ["$begin", begin]}, "$count", 0]}}},
        {"$set": {"allowed": {"$lt": ["$count", rule.limit]}}},
        {"$set": {"count": {"$cond": ["$allowed", {"$add": ["$count", 1]}, "$count"]}}},
        {"$set": {"last": {"$cond": ["$allowed", "$at", "$last"]}}},
        {"$set": {"expires": {"$toDate": {"$add": ["$begin", rule.ms]}}}},
    ]


def _read_clock(now: Any, last: Any) -> list[Document]:
    """Return the stages that set `now`, and `at`, the time at which a call counts. `last`: that of the last call."""
    ahead = {"$subtract": [{"$ifNull": [last, 0]}, "$now"]}
    stands_still = {"$and": [{"$gt": [ahead, 0]}, {"$lte": [ahead, SKEW_MS]}]}
    return [{"$set": {"now": now}}, {"$set": {"at": {"$cond": [stands_still, last, "$now"]}}}]
