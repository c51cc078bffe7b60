"""The schemas of bodies, and of answers to writes, made from the serializers."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Final

from hub.dialects.listings.fields import Choice, Exact, Field, Flag, Slug, Slugs, Text, Upload, Whole
from hub.dialects.listings.schemas import LISTING as READ
from hub.dialects.listings.schemas import NUMBER, TEXT, array_of, options, or_null
from hub.dialects.listings.serializers import CHANGED_IMAGE, CODE_REQUEST, LISTING, NEW_IMAGE, VERIFICATION, Serializer
from hub.dialects.listings.shapes import WRITTEN
from hub.openapi.schemas import Schema, object_of


@singledispatch
def schema_of(field: Field) -> Schema:
    """Return the schema of the values that a field is meant for; it accepts more, such as numbers as texts."""
    raise TypeError(type(field).__name__)


@schema_of.register
def _(field: Text) -> Schema:
    return {"type": "string", "maxLength": field.longest} | ({} if field.blank else {"minLength": 1})


@schema_of.register
def _(field: Whole) -> Schema:
    return {"type": "integer", "minimum": field.span.least, "maximum": field.span.most}


@schema_of.register
def _(field: Exact) -> Schema:
    bounds = {"minimum": field.span.least, "maximum": field.span.most}
    about = f"decimal({field.digits},{field.scale}), also as text"
    return {"type": ["number", "string"], "description": about} | {n: v for n, v in bounds.items() if v is not None}


@schema_of.register
def _(field: Choice) -> Schema:
    return options(*field.options)


@schema_of.register
def _(field: Flag) -> Schema:
    return {"type": "boolean"}


@schema_of.register
def _(field: Slug) -> Schema:
    return {"type": "string", "minLength": 1, "description": f"The `{field.by}` of one of the {named(field.kind)}"}


@schema_of.register
def _(field: Slugs) -> Schema:
    return array_of(schema_of(field.item))


@schema_of.register
def _(field: Upload) -> Schema:
    return {"type": "string", "format": "binary", "description": f"A file of at most {field.most_bytes} bytes"}


def named(kind: str) -> str:
    return kind.replace("_", " ")


def body_of(serializer: Serializer, *, partial: bool = False) -> Schema:
    """Return the schema of a body. Other members are ignored."""
    properties: dict[str, Any] = {
        name: or_null(schema_of(field)) if field.null else schema_of(field) for name, field in serializer.fields.items()
    }
    required = [name for name, field in serializer.fields.items() if field.required and not partial]
    return {"type": "object", "properties": properties, "required": required}


def _written(name: str) -> Schema:
    """Return the schema of a field in the answer to a write: references are texts there."""
    field = LISTING.fields[name]
    if isinstance(field, Slug):
        return TEXT
    return array_of(TEXT) if isinstance(field, Slugs) else dict(READ["properties"][name])


REGISTERED: Final = object_of(
    {"user_id": NUMBER, "username": TEXT, "key": TEXT, "scope": options("R"), "name": TEXT, "detail": TEXT}
)

WRITE_SCHEMAS: Final[dict[str, Schema]] = {
    "NewListing": body_of(LISTING),
    "ListingChanges": body_of(LISTING, partial=True),
    "WrittenListing": object_of({"id": NUMBER, **{name: _written(name) for name in WRITTEN}}),
    "NewImage": body_of(NEW_IMAGE),
    "ImageChanges": body_of(CHANGED_IMAGE, partial=True),
    "CodeRequest": body_of(CODE_REQUEST),
    "Verification": body_of(VERIFICATION),
    "Registered": REGISTERED,
}
