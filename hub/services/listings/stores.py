"""The stores of the listings API: their purposes, names and definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auth.purposes import IMAGES, PROPERTIES
from stores.errors import NotFound
from stores.records import Entity
from stores.schema import StoreDefinition

Part = dict[str, Any]
"""A part of a definition as a document."""

AMENITIES: Final = "listings.reference.amenities"
PROPERTY_TYPES: Final = "listings.reference.property_types"
CURRENCIES: Final = "listings.reference.currencies"
TENURES: Final = "listings.reference.tenures"
PLOT_SIZE_UNITS: Final = "listings.reference.plot_size_units"
REGIONS: Final = "listings.reference.regions"
DISTRICTS: Final = "listings.reference.districts"

NAMES: Final[Mapping[str, str]] = {
    AMENITIES: "amenities",
    PROPERTY_TYPES: "property_types",
    CURRENCIES: "currencies",
    TENURES: "tenures",
    PLOT_SIZE_UNITS: "plot_size_units",
    REGIONS: "regions",
    DISTRICTS: "districts",
    PROPERTIES: "properties",
    IMAGES: "property_images",
}
"""The names of the stores by their purposes, without the prefix of `HUB_LISTINGS_STORE_PREFIX`. A store stands after
those to which it refers."""

PUBLISHED: Final = "published"

SHORT_TEXT: Final = 255
"""Characters of a title, a location, or the description of an image."""
VIDEO_ID: Final = 32
COUNT_BOUND: Final = 2_147_483_647

LISTING_TYPES: Final = {"rent": "For Rent", "sale": "For Sale"}
FURNISHED: Final = {"furnished": "Furnished", "unfurnished": "Unfurnished", "semi_furnished": "Semi-furnished"}
PUBLISH_STATUSES: Final = {PUBLISHED: "Published", "draft": "Draft", "trash": "Trash"}
AVAILABILITIES: Final = {
    "available": "Available",
    "sold": "Sold",
    "rented_out": "Rented Out",
    "reserved": "Reserved",
}


@dataclass(frozen=True, slots=True)
class ListingsStores:
    """The stores as they are defined now, by their purposes, whatever their names."""

    by_purpose: Mapping[str, StoreDefinition]

    @classmethod
    def among(cls, definitions: Iterable[StoreDefinition]) -> ListingsStores:
        return cls({each.purpose: each for each in definitions if each.purpose in NAMES})

    def get(self, purpose: str) -> StoreDefinition:
        """Return the store of a purpose. Raises NotFound while there is none."""
        found = self.by_purpose.get(purpose)
        if found is None:
            raise NotFound(f"no store of {purpose}")
        return found

    @property
    def are_complete(self) -> bool:
        return self.by_purpose.keys() >= NAMES.keys()


def definitions_of(names: Mapping[str, str]) -> dict[str, Entity]:
    """Return the definitions as documents, by their purposes. `names` are the names of the stores by their purposes."""
    made = {
        AMENITIES: _of([_name(), _slug(), _text("icon", "Icon")], "Amenities", "What a property offers"),
        PROPERTY_TYPES: _of([_name(), _slug()], "Property types", "Kinds of properties"),
        CURRENCIES: _of(
            [_text("code", "Code", required=True, unique=True), _text("symbol", "Symbol", required=True)],
            "Currencies",
            "Currencies of prices",
        ),
        TENURES: _of([_name(), _slug()], "Tenures", "Kinds of land tenure"),
        PLOT_SIZE_UNITS: _of([_name(), _slug()], "Plot size units", "Units of the sizes of plots"),
        REGIONS: _of([_name(), _slug()], "Regions", "Regions, with districts in them"),
        DISTRICTS: _of(
            [_name(), _slug(), _reference("region", "Region", names[REGIONS], "slug", required=True)],
            "Districts",
            "Districts of the regions",
        ),
        PROPERTIES: _properties(names),
        IMAGES: _of(_image_fields(names[PROPERTIES]), "Images", "Images of listings, in the order of their numbers"),
    }
    return {purpose: {"name": names[purpose], "purpose": purpose, **made[purpose]} for purpose in NAMES}


def _properties(names: Mapping[str, str]) -> Part:
    indexes = [
        ["owner", "publish_status", "-time", "-number"],
        ["owner", "-time", "-number"],
        ["owner", "updated_at"],
    ]
    made = _of([*_property_fields(names)], "Properties", "Listings of properties for rent and for sale")
    return {**made, "indexes": indexes}


def _property_fields(names: Mapping[str, str]) -> Iterable[Part]:
    return (
        {"id": "number", "type": "Serial", "label": "Number"},
        _text("title", "Title", required=True, search=True, length=SHORT_TEXT),
        {"id": "description", "type": "Textarea", "label": "Description", "search": True},
        _decimal("price", "Price", required=True),
        _reference("currency", "Currency", names[CURRENCIES], "code", required=True),
        _reference("property_type", "Property type", names[PROPERTY_TYPES], "slug", required=True),
        {**_choice("listing_type", "Listing type", LISTING_TYPES), "required": True},
        _text("location", "Location", search=True, length=SHORT_TEXT),
        _reference("district", "District", names[DISTRICTS], "slug", required=True),
        _reference("region", "Region", names[REGIONS], "slug"),
        _coordinate("latitude", "Latitude", 90),
        _coordinate("longitude", "Longitude", 180),
        {"id": "bedrooms", "type": "Number", "label": "Bedrooms", "min": 0, "max": COUNT_BOUND},
        {"id": "bathrooms", "type": "Number", "label": "Bathrooms", "min": 0, "max": COUNT_BOUND},
        _decimal("floor_size", "Floor size"),
        _decimal("plot_size", "Plot size"),
        {**_choice("furnished", "Furnished", FURNISHED), "required": True, "default": "unfurnished"},
        _flag("is_verified", "Verified"),
        _flag("is_sponsored", "Sponsored"),
        {**_choice("publish_status", "Publish status", PUBLISH_STATUSES), "required": True, "default": PUBLISHED},
        {**_choice("availability", "Availability", AVAILABILITIES), "required": True, "default": "available"},
        {
            **_reference("amenities", "Amenities", names[AMENITIES], "slug"),
            **{"many": True, "distinct": True, "on_delete": "clear"},
        },
        _text("youtube_video_id", "YouTube video", length=VIDEO_ID),
        {"id": "updated_at", "type": "Stamp", "label": "Updated at"},
    )


def _image_fields(properties: str) -> list[Part]:
    listing = {**_reference("property", "Property", properties, "", required=True), "on_delete": "cascade"}
    return [
        {"id": "number", "type": "Serial", "label": "Number"},
        listing,
        {"id": "image", "type": "Image", "label": "Image", "public": True, "watermark": True},
        _flag("is_main", "Main image"),
        _text("alt", "Description", length=SHORT_TEXT),
    ]


def _of(fields: list[Part], label: str, description: str) -> Part:
    return {"label": label, "description": description, "fields": fields, "open": False}


def _text(id: str, label: str, **settings: Any) -> Part:
    return {"id": id, "type": "Text", "label": label, **settings}


def _name() -> Part:
    return _text("name", "Name", required=True, search=True)


def _slug() -> Part:
    return _text("slug", "Slug", required=True, unique=True)


def _decimal(id: str, label: str, **settings: Any) -> Part:
    return {"id": id, "type": "Numeric", "label": label, "digits": 15, "places": 2, "min": 0, **settings}


def _coordinate(id: str, label: str, most: int) -> Part:
    return {"id": id, "type": "Numeric", "label": label, "digits": 9, "places": 6, "min": -most, "max": most}


def _choice(id: str, label: str, names: Mapping[str, str]) -> Part:
    options = [{"id": each, "name": name} for each, name in names.items()]
    return {"id": id, "type": "Select", "label": label, "options": options}


def _flag(id: str, label: str) -> Part:
    return {"id": id, "type": "Boolean", "label": label, "default": False}


def _reference(id: str, label: str, store: str, by: str, **settings: Any) -> Part:
    return {"id": id, "type": "Reference", "label": label, "store": store, **({"by": by} if by else {}), **settings}
