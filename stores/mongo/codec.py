"""Entities as MongoDB documents and back: an ObjectId for `_id`, JSON for the rest, and who wrote it in `_by`.

Other programs may write to the same collections, so reading puts into JSON whatever BSON can hold.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion

from stores.records import WRITER_FIELD, Entity, is_id

BY: Final = WRITER_FIELD
"""The field of a document that names who wrote it last."""

DELETER: Final = "deleter"
"""`_by` is ``{"deleter": who}`` from just before the hub deletes a document, so that the feed can tell who did."""

Document = dict[str, Any]

CODEC: Final[CodecOptions[Document]] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="replace",
    # Dates beyond the year 9999 come as DatetimeMS instead of an error.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

# `default` sees dates, so that they have one spelling; orjson itself writes non-finite numbers as null.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME


def dumps(value: Any) -> bytes:
    """JSON text of any BSON value."""
    return orjson.dumps(value, default=_to_json, option=_OPTIONS)


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def entity_text(document: Document) -> bytes:
    """The entity in a document as JSON text. Takes `_by` out of the document."""
    document.pop(BY, None)
    if type(document.get("_rev")) is not int:  # as `numbered` does; a call would double the cost
        document["_rev"] = revision(document)
    return dumps(document)


def entity_of(document: Document) -> Entity:
    """The entity in a document as JSON values. Takes `_by` out of the document."""
    entity: Entity = orjson.loads(entity_text(document))
    return entity


def to_document(entity: Entity, by: str | None) -> Document:
    """The document that holds `entity`, its `_id` foremost."""
    return {"_id": to_id(entity["_id"]), **{k: v for k, v in entity.items() if k not in ("_id", BY)}, BY: by}


def to_id(id: Any) -> Any:
    """An entity's `_id` as the document has it: text that is no ObjectId was written by another program."""
    return ObjectId(id) if is_id(id) else id


def revision(document: Mapping[str, Any] | None) -> int:
    """The document's `_rev`; 0 for one that another program wrote without. Programs that know one kind of number only
    count in floats."""
    value = (document or {}).get("_rev")
    if isinstance(value, float):
        return int(value) if value.is_integer() else 0
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0


def numbered(document: Document) -> Document:
    """The document, in which `_rev` is the revision."""
    if type(document.get("_rev")) is not int:
        document["_rev"] = revision(document)
    return document
