"""The JSON shapes of listings and images: as they are read, and as a write answers.

Times and decimals are written here without a class for each field: a page has more than a thousand of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from hub.dialects.listings.lookups import ReferenceData, Table
from stores.records import Entity

MILLISECONDS: Final = 1_000
MICROSECONDS: Final = 1_000_000

_OPTIONS: Final = orjson.OPT_UTC_Z
_NUMBERS: Final = (int, float)

WRITTEN: Final = (
    "title", "description", "price", "currency", "property_type", "listing_type", "location", "district", "latitude",
    "longitude", "bedrooms", "bathrooms", "floor_size", "plot_size", "furnished", "amenities", "youtube_video_id",
    "publish_status", "availability",
)  # fmt: skip
"""The fields that a body may have, in the order of the answer to a write."""


def rendered(value: Any) -> bytes:
    """Return the JSON text of shapes."""
    return orjson.dumps(value, option=_OPTIONS)


def page_text(results: list[Any], following: str | None, previous: str | None) -> bytes:
    """Return a page, with the addresses of the next and the previous one."""
    return rendered({"next": following, "previous": previous, "results": results})


def listing(entity: Entity, images: Sequence[Entity], data: ReferenceData, base: str) -> dict[str, Any]:
    """Return a listing as it is read. `images`: its own, the main one first. `base`: see `links.base_of`."""
    get, tables = entity.get, data.tables
    amenities = tables["amenities"]
    return {
        "id": get("number"),
        "title": get("title") or "",
        "description": get("description") or "",
        "price": fixed_2(get("price")),
        "currency": _currency(tables["currencies"], get("currency")),
        "property_type": _named(tables["property_types"], get("property_type")),
        "listing_type": get("listing_type"),
        "location": get("location") or "",
        "region": _named(tables["regions"], get("region")),
        "district": _named(tables["districts"], get("district")),
        "latitude": fixed_6(get("latitude")),
        "longitude": fixed_6(get("longitude")),
        "bedrooms": get("bedrooms"),
        "bathrooms": get("bathrooms"),
        "floor_size": fixed_2(get("floor_size")),
        "plot_size": fixed_2(get("plot_size")),
        "furnished": get("furnished"),
        "is_verified": get("is_verified") is True,
        "is_sponsored": get("is_sponsored") is True,
        "publish_status": get("publish_status"),
        "availability": get("availability"),
        "amenities": [_named(amenities, slug) for slug in get("amenities") or ()],
        "images": [image(each, base) for each in images],
        "youtube_video_id": get("youtube_video_id") or "",
        "created_at": moment(get("time"), MILLISECONDS),
        "updated_at": updated_at(entity),
    }


def image(entity: Entity, base: str) -> dict[str, Any]:
    """Return an image as it is read and as a write answers."""
    stored = entity.get("image")
    url = stored.get("url") if isinstance(stored, dict) else None
    return {
        "id": entity.get("number"),
        "url": base + url if isinstance(url, str) and url.startswith("/") else url,
        "is_main": entity.get("is_main") is True,
        "alt": entity.get("alt") or "",
    }


def written_listing(entity: Entity) -> dict[str, Any]:
    """Return a listing as a write answers: with slugs and codes."""
    shown = {name: entity.get(name) for name in WRITTEN}
    for name in ("description", "location", "youtube_video_id"):
        shown[name] = shown[name] or ""
    for name in ("price", "floor_size", "plot_size"):
        shown[name] = fixed_2(shown[name])
    for name in ("latitude", "longitude"):
        shown[name] = fixed_6(shown[name])
    return {"id": entity.get("number"), **shown, "amenities": shown["amenities"] or []}


def fixed_2(value: Any) -> str | None:
    """Return a decimal with two places. A double has the 15 digits of `price` without loss."""
    return f"{value:.2f}" if type(value) in _NUMBERS else None


def fixed_6(value: Any) -> str | None:
    return f"{value:.6f}" if type(value) in _NUMBERS else None


def moment(value: Any, unit: int) -> datetime | None:
    """Return a time in UTC; `value` counts units of which a second has `unit`. Its text has six digits after the second
    unless they are all zero."""
    try:
        return datetime.fromtimestamp(value / unit, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None  # another program may have stored anything


def updated_at(entity: Entity) -> datetime | None:
    stamp = entity.get("updated_at")
    return moment(entity.get("_at"), MILLISECONDS) if stamp is None else moment(stamp, MICROSECONDS)


def _named(table: Table, slug: Any) -> Any:
    """Return the text of a reference. What another program has put there is shown as a name."""
    if not isinstance(slug, str):
        return None
    return table.texts.get(slug) or {"name": slug, "slug": slug}


def _currency(table: Table, code: Any) -> Any:
    if not isinstance(code, str):
        return None
    return table.texts.get(code) or {"code": code, "symbol": code}


def by_listing(images: Mapping[str, Sequence[bytes]]) -> dict[str, list[Entity]]:
    """Return the images of each listing, the main one first, from their texts."""
    return {id: sorted(map(orjson.loads, texts), key=_main_first) for id, texts in images.items()}


def _main_first(image: Entity) -> tuple[bool, Any]:
    return image.get("is_main") is not True, image.get("number") or 0
