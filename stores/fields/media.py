"""Files of entities. A value describes a file that the hub has stored; an upload sets it, and nothing else.

The check of a value tells its form only: whether a write may set it depends on the entity as it is
(`hub.services.file_keeper`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal

from stores.bounds import Limit
from stores.fields.base import Checker, FieldSettings, FieldType, Rejected, Schema
from stores.records import Json

URL: Final = "/media/"
"""What the address of every file begins with. It is relative to the address of the hub."""
MEMBERS: Final = ("id", "url", "type", "size", "name", "width", "height")
"""The members of a value, in this order. `width` and `height` are null for a file that is no image."""
NAME_LENGTH: Final = 200
TYPE_LENGTH: Final = 127
FILE_ID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""The pattern of a UUID of version 4."""
MEDIA_TYPE: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}/(?:\*|[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62})"
"""The pattern of a media type (RFC 6838, 4.2), or of all of one kind: ``image/*``."""
LARGEST_FILE: Final[Annotated[int, Limit("field", "bytes that `max_bytes` may allow", "400")]] = 2**40
WIDEST: Final = 2**31 - 1

_ID: Final = re.compile(FILE_ID + r"\Z")
_EXAMPLE: Final = {
    "id": "2b1c7a52-6f0d-4a9b-8f5e-0d6c5a1b7e90",
    "url": "/media/2b1c7a52-6f0d-4a9b-8f5e-0d6c5a1b7e90",
}
IMAGE: Final[dict[str, Json]] = {
    **_EXAMPLE, "type": "image/webp", "size": 48213, "name": "front.webp", "width": 1200, "height": 800,
}  # fmt: skip
DOCUMENT: Final[dict[str, Json]] = {
    **_EXAMPLE, "type": "application/pdf", "size": 81920, "name": "lease.pdf", "width": None, "height": None,
}  # fmt: skip


class UploadedFile(FieldType):
    """A file of any kind. `types` limits its media types, `max_bytes` its size; with `public`, whoever knows its
    address may read it."""

    takes = frozenset({"hidden", "many", "max_items", "public", "max_bytes", "types"})
    free = True
    uploaded: ClassVar[Literal["", "file", "image"]] = "file"

    def checker(self, field: FieldSettings) -> Checker:
        return check_file

    def schema(self, field: FieldSettings) -> Schema:
        side: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": WIDEST}
        members: dict[str, Schema] = {
            "id": {"type": "string", "pattern": f"^{FILE_ID}$"},
            "url": {"type": "string", "pattern": f"^{URL}{FILE_ID}$", "description": "Below the address of the hub"},
            "type": {"type": "string", "minLength": 1, "maxLength": TYPE_LENGTH},
            "size": {"type": "integer", "minimum": 0, "maximum": LARGEST_FILE},
            "name": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH},
            "width": side,
            "height": dict(side),
        }
        return {
            "type": "object",
            "properties": members,
            "required": [*MEMBERS],
            "additionalProperties": False,
            "description": "A stored file. Only an upload sets it",
        }


class UploadedImage(UploadedFile):
    """An image, which the hub stores without metadata, upright, and in a form that browsers show."""

    takes = UploadedFile.takes - {"types"} | {"watermark"}
    uploaded = "image"


def is_file_id(text: object) -> bool:
    return isinstance(text, str) and _ID.match(text) is not None


def check_file(value: Any) -> Json:
    """Return the value with its members in order. Raises Rejected."""
    if not isinstance(value, dict) or value.keys() != {*MEMBERS} or not _is_described(value):
        raise Rejected("type", "a file that was uploaded to this field")
    return {name: int(value[name]) if isinstance(value[name], float) else value[name] for name in MEMBERS}


def _is_described(value: dict[str, Any]) -> bool:
    return (
        is_file_id(value["id"])
        and value["url"] == URL + value["id"]
        and _is_text(value["type"], TYPE_LENGTH)
        and _is_text(value["name"], NAME_LENGTH)
        and _is_whole(value["size"], 0, LARGEST_FILE)
        and all(value[side] is None or _is_whole(value[side], 1, WIDEST) for side in ("width", "height"))
    )


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _is_whole(value: Any, least: int, most: int) -> bool:
    """Return whether it is a whole number; JSON does not tell 1 from 1.0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value == value // 1 and least <= value <= most


def files_of(value: Any) -> list[dict[str, Any]]:
    """Return the files in the value of a field, or in any value: those that have the form of files."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict) and item.keys() == {*MEMBERS} and is_file_id(item["id"])]
