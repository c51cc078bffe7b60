"""The documents of a reply, decoded in groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

import bson
from bson.raw_bson import RawBSONDocument

from stores.mongo.codec import CODEC, Document
from stores.mongo.sizes import LARGE_DOCUMENT

_GROUP: Final = 100
"""Documents that are shown before other tasks may run."""

Row = Document | RawBSONDocument
"""A document of a reply, decoded or raw."""


def document_groups(rows: Sequence[Row]) -> Iterator[Sequence[Document]]:
    """Yield the rows as documents, in groups that take some milliseconds at most. The driver decodes many documents in
    one call in much less time than one by one."""
    if not rows or not isinstance(rows[0], RawBSONDocument):
        yield from (rows[start : start + _GROUP] for start in range(0, len(rows), _GROUP))  # type: ignore[misc]
        return
    group: list[bytes] = []
    size = 0
    for row in cast("Sequence[RawBSONDocument]", rows):
        group.append(cast(bytes, row.raw))
        size += len(group[-1])
        if size > LARGE_DOCUMENT or len(group) == _GROUP:
            yield bson.decode_all(b"".join(group), CODEC)
            group, size = [], 0
    if group:
        yield bson.decode_all(b"".join(group), CODEC)
