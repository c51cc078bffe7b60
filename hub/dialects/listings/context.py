"""The services that handlers of the listings API call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from auth.keys import LISTINGS
from auth.principal import Principal
from auth.resolver import Resolver
from hub.dialects.listings.image_files import ImageFiles
from hub.dialects.listings.known_pages import KnownPages
from hub.dialects.listings.lookups import Lookups
from hub.dialects.listings.stores import ListingStores
from hub.http.call import Call
from hub.services.entities import EntityService
from hub.services.registration import Registration
from hub.services.registry import StoreRegistry
from hub.services.throttles import Taken
from hub.settings import Settings
from stores.bounds import Limit
from stores.protocol import Engine

PREFIX: Final = "/v1"

MOST_REQUESTS: Final[Annotated[int, Limit("key of the listings API", "requests a minute", "429")]] = 120
MOST_REGISTRATIONS: Final[Annotated[int, Limit("address", "registration requests an hour", "429")]] = 10

Count = Callable[[str], Awaitable[Taken]]
"""Counts a request under a key, unless it is one too many."""


@dataclass(slots=True)
class ListingsContext:
    """The services that the operations call.

    `count_request` counts the requests of a key by its id, `count_registration` those to the registration endpoints by
    the block of the client's address. `note_use` records in the background that a key was used.
    """

    settings: Settings
    engine: Engine
    registry: StoreRegistry
    entities: EntityService
    resolver: Resolver
    count_request: Count
    count_registration: Count
    stores: ListingStores
    images: ImageFiles
    registration: Registration
    note_use: Callable[[Principal, Call], None]
    lookups: Lookups = field(init=False)
    pages: KnownPages = field(init=False)

    def __post_init__(self) -> None:
        self.lookups = Lookups(self.engine, self.stores)
        self.pages = KnownPages(self.engine)

    async def resolve(self, credential: str) -> Principal:
        """Return the current principal of a key. Raises Unauthenticated."""
        return (await self.resolver.resolve_key(credential, LISTINGS)).principal
