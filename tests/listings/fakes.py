"""Parts of the listings API that other changes bring: keys, throttles, and the purposes of stores.

Everything here is to be replaced by the hub's own when they are there: `Resolver.resolve_key`, `hub.services.throttles`
and `PurposedStores`; `serving.py` and `support.py` then need only `hub serve` and `POST /api/v1/keys`.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from auth.errors import Unauthenticated
from auth.principal import Principal
from auth.resolver import FOREVER, Credential, Resolver
from auth.secrets import digest
from hub.dialects.listings.stores import StoreNames
from stores.protocol import Engine, Update
from stores.query import Equal, Query
from stores.records import now_ms

NAMES = StoreNames(
    properties="properties",
    images="property_images",
    tombstones="listing_tombstones",
    amenities="amenities",
    property_types="property_types",
    currencies="currencies",
    districts="districts",
    regions="regions",
    tenures="tenures",
    plot_size_units="plot_size_units",
)


class FakeStores:
    def names(self) -> StoreNames:
        return NAMES


@dataclass(frozen=True)
class FakeKey:
    id: str
    name: str
    scope: str
    origins: frozenset[str]


@dataclass(frozen=True)
class FakeHolder:
    principal: Principal
    key: FakeKey
    number: int | None


class FakeKeys:
    """Keys in an ordinary store, without a cache."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        self.engine = engine
        self.resolver = resolver

    async def resolve_key(self, credential: str, kind: str) -> FakeHolder:
        for found in await self.engine.entities("keys", Query(Equal(("digest",), digest(credential)), limit=1)):
            expires = found.get("expires") or FOREVER
            if found["kind"] == kind and found.get("active") is not False and expires > now_ms():
                await self._number_user(found["user"], found["number"])
                of_user = Credential(found["_id"], found["user"], "token", expires, None)
                principal = await self.resolver.principal_of(found["user"], of_user)
                origins = frozenset(found.get("allowed_origins") or ())
                return FakeHolder(
                    principal, FakeKey(found["_id"], found["name"], found["scope"], origins), found["number"]
                )
        raise Unauthenticated("no such key")

    async def _number_user(self, user: str, number: int) -> None:
        [found] = await self.engine.entities("users", Query(Equal(("_id",), user), limit=1))
        if found.get("number") != number:
            await self.engine.commit([Update("users", user, {"number": number})], None)


@dataclass(frozen=True)
class FakeTaken:
    allowed: bool
    wait: float


class FakeThrottle:
    """A sliding log in memory."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.seconds = seconds
        self.clock = clock
        self.times: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, key: str) -> FakeTaken:
        now, times = self.clock(), self.times[key]
        while times and times[0] <= now - self.seconds:
            times.popleft()
        if len(times) >= self.most:
            return FakeTaken(False, times[0] + self.seconds - now)
        times.append(now)
        return FakeTaken(True, 0)
