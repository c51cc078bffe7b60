"""The stores of the listings API: found by their purpose, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from auth.purposes import IMAGES, PROPERTIES
from hub.services.listings.stores import (
    AMENITIES,
    CURRENCIES,
    DISTRICTS,
    PLOT_SIZE_UNITS,
    PROPERTY_TYPES,
    REGIONS,
    TENURES,
)
from hub.services.listings.tombstones import TOMBSTONES
from hub.services.registry import StoreRegistry
from stores.schema import StoreDefinition

_ATTRIBUTES: Final[Mapping[str, str]] = {
    PROPERTIES: "properties",
    IMAGES: "images",
    AMENITIES: "amenities",
    PROPERTY_TYPES: "property_types",
    CURRENCIES: "currencies",
    TENURES: "tenures",
    PLOT_SIZE_UNITS: "plot_size_units",
    REGIONS: "regions",
    DISTRICTS: "districts",
}
"""The attributes of `StoreNames` by the purposes of stores."""


@dataclass(frozen=True, slots=True)
class StoreNames:
    """The names of the stores. One that does not exist is empty."""

    properties: str = ""
    images: str = ""
    tombstones: str = TOMBSTONES.name
    amenities: str = ""
    property_types: str = ""
    currencies: str = ""
    districts: str = ""
    regions: str = ""
    tenures: str = ""
    plot_size_units: str = ""


class ListingStores:
    """The stores of the registry that have the purposes of this API."""

    def __init__(self, registry: StoreRegistry) -> None:
        self._registry = registry
        self._generation = -1
        self._names = StoreNames()

    def names(self) -> StoreNames:
        """Return the names of the stores as they are now."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._names = _names_of(self._registry.all())
        return self._names


def _names_of(definitions: Iterable[StoreDefinition]) -> StoreNames:
    found = {each.purpose: each.name for each in definitions if each.purpose in _ATTRIBUTES}
    return StoreNames(**{_ATTRIBUTES[purpose]: name for purpose, name in found.items()})
