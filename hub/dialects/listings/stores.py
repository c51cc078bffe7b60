"""The stores of the listings API: found by their purpose, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from hub.services.registry import StoreRegistry
from stores.schema import StoreDefinition

PURPOSES: Final[Mapping[str, str]] = {
    "listings.properties": "properties",
    "listings.images": "images",
    "listings.reference.amenities": "amenities",
    "listings.reference.property_types": "property_types",
    "listings.reference.currencies": "currencies",
    "listings.reference.tenures": "tenures",
    "listings.reference.plot_size_units": "plot_size_units",
    "listings.reference.regions": "regions",
    "listings.reference.districts": "districts",
}
"""The purposes of stores, with the attributes of `StoreNames`."""

TOMBSTONES: Final = "_listing_tombstones"


@dataclass(frozen=True, slots=True)
class StoreNames:
    """The names of the stores. One that does not exist is empty."""

    properties: str = ""
    images: str = ""
    tombstones: str = TOMBSTONES
    amenities: str = ""
    property_types: str = ""
    currencies: str = ""
    districts: str = ""
    regions: str = ""
    tenures: str = ""
    plot_size_units: str = ""


class ListingStores(Protocol):
    def names(self) -> StoreNames:
        """Return the names of the stores as they are now."""


class PurposedStores:
    """The stores of the registry that have the purposes of this API."""

    def __init__(self, registry: StoreRegistry) -> None:
        self._registry = registry
        self._generation = -1
        self._names = StoreNames()

    def names(self) -> StoreNames:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._names = names_of(self._registry.all())
        return self._names


def names_of(definitions: Iterable[StoreDefinition]) -> StoreNames:
    """Return the names of the listings' stores among these."""
    purposes = ((getattr(each, "purpose", ""), each.name) for each in definitions)
    return StoreNames(**{PURPOSES[purpose]: name for purpose, name in purposes if purpose in PURPOSES})
