"""The stores of the listings API: found by their purpose and by the references between them, whatever their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from hub.services.registry import StoreRegistry
from stores.schema import StoreDefinition

PROPERTIES: Final = "listings.properties"
IMAGES: Final = "listings.images"
REFERENCE: Final = "listings.reference"
TOMBSTONES: Final = "_listing_tombstones"

_LISTED: Final = ("tenures", "plot_size_units")
"""Reference stores to which listings do not refer: their names end like this."""


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


def names_of(definitions: list[StoreDefinition]) -> StoreNames:
    """Return the names of the listings' stores among these."""
    by_purpose: dict[str, list[StoreDefinition]] = {}
    for definition in definitions:
        by_purpose.setdefault(getattr(definition, "purpose", ""), []).append(definition)
    properties = next(iter(by_purpose.get(PROPERTIES, ())), None)
    images = next(iter(by_purpose.get(IMAGES, ())), None)
    found = {"images": images.name if images else ""}
    if properties is not None:
        found["properties"] = properties.name
        targets = {"currency": "currencies", "property_type": "property_types", "amenities": "amenities"}
        for field, store in (targets | {"district": "districts", "region": "regions"}).items():
            if field in properties.by_id:
                found[store] = properties.by_id[field].store
    for definition in by_purpose.get(REFERENCE, ()):
        found |= {name: definition.name for name in _LISTED if definition.name.endswith(name)}
        if not found.get("regions") and definition.name == found.get("districts"):
            found["regions"] = definition.by_id["region"].store
    return StoreNames(**found)
