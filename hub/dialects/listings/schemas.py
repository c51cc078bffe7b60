"""The schemas of the listings API's answers, for its OpenAPI document."""

from __future__ import annotations

from typing import Final

from hub.openapi.schemas import NULL, Schema, object_of, ref

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer", "format": "int64"}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
ADDRESS: Final[Schema] = {"type": "string", "format": "uri"}


def decimal(scale: int, whole: int, example: str) -> Schema:
    """Return the schema of a decimal as text."""
    return {"type": "string", "pattern": rf"^-?\d{{1,{whole}}}\.\d{{{scale}}}$", "examples": [example]}


def options(*names: str) -> Schema:
    return {"type": "string", "enum": list(names)}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def array_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


LISTING_TYPE: Final = options("rent", "sale")
FURNISHED: Final = options("furnished", "unfurnished", "semi_furnished")
AVAILABILITY: Final = options("available", "sold", "rented_out", "reserved")
PUBLISH_STATUS: Final = options("published", "draft", "trash")
PRICE: Final = decimal(2, 13, "1500000.00")
COORDINATE: Final = decimal(6, 3, "0.300000")

_AREA: Final = or_null(decimal(2, 13, "350.00"))
_COUNT: Final = or_null({"type": "integer", "minimum": 0})
_FACET: Final[Schema] = {"type": "object", "additionalProperties": TEXT}

LISTING: Final = object_of(
    {
        "id": NUMBER,
        "title": TEXT,
        "description": TEXT,
        "price": or_null(PRICE),
        "currency": or_null(ref("Currency")),
        "property_type": or_null(ref("Named")),
        "listing_type": or_null(LISTING_TYPE),
        "location": TEXT,
        "region": or_null(ref("Named")),
        "district": or_null(ref("Named")),
        "latitude": or_null(COORDINATE),
        "longitude": or_null(COORDINATE),
        "bedrooms": _COUNT,
        "bathrooms": _COUNT,
        "floor_size": _AREA,
        "plot_size": _AREA,
        "furnished": or_null(FURNISHED),
        "is_verified": {"type": "boolean"},
        "is_sponsored": {"type": "boolean"},
        "publish_status": or_null(PUBLISH_STATUS),
        "availability": or_null(AVAILABILITY),
        "amenities": array_of(ref("Amenity")),
        "images": array_of(ref("Image")),
        "youtube_video_id": TEXT,
        "created_at": or_null(MOMENT),
        "updated_at": or_null(MOMENT),
    }
)


def page_of(schema: Schema) -> Schema:
    return object_of({"next": or_null(ADDRESS), "previous": or_null(ADDRESS), "results": array_of(schema)})


KEY: Final = object_of(
    {"name": TEXT, "scope": options("R", "RW"), "allowed_origins": array_of(TEXT)},
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Root": object_of({"version": TEXT, "endpoints": {"type": "object", "additionalProperties": TEXT}}),
    "Account": object_of(
        {
            "id": or_null(NUMBER),
            "username": TEXT,
            "email": TEXT,
            "subscription_tier": TEXT,
            "key": KEY,
            "properties_count": NUMBER,
        }
    ),
    "Named": object_of({"name": TEXT, "slug": TEXT}),
    "Amenity": object_of({"name": TEXT, "slug": TEXT, "icon": TEXT}, optional=["icon"]),
    "Currency": object_of({"code": TEXT, "symbol": TEXT}),
    "Region": object_of({"name": TEXT, "slug": TEXT, "districts": array_of(ref("Named"))}),
    "Facets": object_of(
        {
            "listing_type": _FACET,
            "furnished": _FACET,
            "availability": _FACET,
            "publish_status": _FACET,
            "property_types": array_of(ref("Named")),
            "currencies": array_of(ref("Currency")),
        }
    ),
    "Image": object_of({"id": NUMBER, "url": or_null(TEXT), "is_main": {"type": "boolean"}, "alt": TEXT}),
    "Listing": LISTING,
    "Feed": page_of(ref("Listing")),
    "Deleted": object_of(
        {"id": NUMBER, "deleted_at": or_null(MOMENT), "publish_status": PUBLISH_STATUS}, optional=["publish_status"]
    ),
    "DeletedPage": page_of(ref("Deleted")),
    "Detail": object_of({"detail": TEXT}),
    "FieldErrors": {"type": "object"},
    "Document": {"type": "object"},
}
