"""Conversion between entities and MongoDB documents: `_id` is an ObjectId, `_by` the last writer, and the rest is JSON.

Other programs may write to the same collections, so reading converts any BSON value to JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion

from stores.records import WRITER_FIELD, Entity, is_id

BY: Final = WRITER_FIELD
"""The field of a document with the id of its last writer."""

DELETER: Final = "deleter"
"""Just before the hub deletes a document it sets `_by` to ``{"deleter": <user id>}``, from which the feed learns the
user."""

Document = dict[str, Any]

CODEC: Final[CodecOptions[Document]] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="replace",
    # Dates after the year 9999 become DatetimeMS instead of an error.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

# Dates are passed to `default`, so that they have one format. orjson writes non-finite numbers as null.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME


def dumps(value: Any) -> bytes:
    """Return the JSON text of any BSON value."""
    return orjson.dumps(value, default=_to_json, option=_OPTIONS)


def json_of(value: Any) -> Any:
    """Return any BSON value as a JSON value."""
    return orjson.loads(dumps(value))


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def entity_text(document: Document) -> bytes:
    """Return the entity in a document as JSON text. Removes `_by` from the document."""
    document.pop(BY, None)
    if type(document.get("_rev")) is not int:  # as in `with_revision`; calling it would double the cost
        document["_rev"] = revision(document)
    return dumps(document)


def entity_texts(documents: Sequence[Document]) -> list[bytes]:
    """Return the texts that `entity_text` returns. A call for each would take a tenth longer."""
    for document in documents:
        document.pop(BY, None)
        if type(document.get("_rev")) is not int:
            document["_rev"] = revision(document)
    return [orjson.dumps(document, _to_json, _OPTIONS) for document in documents]


def entity_of(document: Document) -> Entity:
    """Return the entity in a document as JSON values. Removes `_by` from the document."""
    entity: Entity = orjson.loads(entity_text(document))
    return entity


def to_document(entity: Entity, by: str | None) -> Document:
    """Return the document of `entity`, with `_id` first."""
    return {"_id": to_id(entity["_id"]), **{k: v for k, v in entity.items() if k not in ("_id", BY)}, BY: by}


def to_id(id: Any) -> Any:
    """Return an entity's `_id` as stored in the document. Text that is not an ObjectId comes from another program."""
    return ObjectId(id) if is_id(id) else id


def revision(document: Mapping[str, Any] | None) -> int:
    """Return the document's `_rev`; 0 if another program wrote the document without one. A float with an integral value
    counts: some programs have only one type of number."""
    value = (document or {}).get("_rev")
    if isinstance(value, float):
        return int(value) if value.is_integer() else 0
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0


def with_revision(document: Document) -> Document:
    """Return the document with `_rev` set to its revision."""
    if type(document.get("_rev")) is not int:
        document["_rev"] = revision(document)
    return document
