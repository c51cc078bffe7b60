"""The services that handlers of the listings API call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol

from auth.principal import Principal
from hub.dialects.listings.lookups import Lookups
from hub.dialects.listings.stores import ListingStores
from hub.http.call import Call
from hub.services.entities import EntityService
from hub.services.registry import StoreRegistry
from hub.settings import Settings
from stores.bounds import Limit
from stores.protocol import Engine

PREFIX: Final = "/v1"
KIND: Final = "listings"
"""The kind of the keys that open this API."""

MOST_REQUESTS: Final[Annotated[int, Limit("key of the listings API", "requests a minute", "429")]] = 120
MOST_REGISTRATIONS: Final[Annotated[int, Limit("address", "registration requests an hour", "429")]] = 10


class Key(Protocol):
    """An API key without its secret. `scope`: ``R`` or ``RW``. `origins`: the hostnames, in lower case, whose pages may
    use it; empty for all."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def origins(self) -> frozenset[str]: ...


class KeyHolder(Protocol):
    """A key, the principal that acts with it, and the number of its user."""

    @property
    def principal(self) -> Principal: ...
    @property
    def key(self) -> Key: ...
    @property
    def number(self) -> int | None: ...


class KeyResolver(Protocol):
    async def resolve_key(self, credential: str, kind: str) -> KeyHolder:
        """Return the holder of an active key of this kind. Raises Unauthenticated."""


class Taken(Protocol):
    """The outcome of a count. `wait`: seconds until a request would be accepted, if this one is not."""

    @property
    def allowed(self) -> bool: ...
    @property
    def wait(self) -> float: ...


Count = Callable[[str], Awaitable[Taken]]
"""Counts a request under a key, unless it is one too many."""


NoteUse = Callable[[Principal, Call], None]
"""Records in the background that a key was used."""


def note_nothing(principal: Principal, call: Call) -> None:
    """Record no use of keys."""


@dataclass(slots=True)
class ListingsContext:
    """The services that the operations call.

    `count_request` counts the requests of a key by its id, `count_registration` those to the registration endpoints by
    the block of the client's address.
    """

    settings: Settings
    engine: Engine
    registry: StoreRegistry
    entities: EntityService
    keys: KeyResolver
    count_request: Count
    count_registration: Count
    stores: ListingStores
    lookups: Lookups = field(init=False)
    note_use: NoteUse = note_nothing

    def __post_init__(self) -> None:
        self.lookups = Lookups(self.engine, self.stores)

    async def resolve(self, credential: str) -> Principal:
        """Return the current principal of a key. Raises Unauthenticated."""
        return (await self.keys.resolve_key(credential, KIND)).principal
