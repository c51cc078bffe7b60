"""Limits of request bodies, and their JSON values."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any

from hub.http.bounded_json import JsonLimits, parse_bounded
from hub.http.errors import BadRequest, BodyTooLarge
from stores.limits import parse_json
from stores.threads import in_thread

SMALL_BODY = 131_072
"""Bytes. A larger body is parsed in a thread."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Size limits of a body: `plain` bytes, or `array` bytes for a JSON array. `name` is the setting of `plain`."""

    plain: int
    array: int = 0
    name: str = "max_body_bytes"

    @property
    def largest(self) -> int:
        return max(self.plain, self.array)

    def check(self, beginning: bytes, size: int) -> None:
        """Raise BodyTooLarge if a body of `size` bytes with this `beginning` exceeds the limit."""
        if size > self.plain:
            as_array = self.array > self.plain and beginning[:1] == b"["
            if not as_array or size > self.array:
                raise self.refusal(as_array=as_array)

    def refusal(self, *, as_array: bool) -> BodyTooLarge:
        most = self.array if as_array else self.plain
        error = BodyTooLarge("body", f"The body must not exceed {most} bytes.")
        return error.at("max_bulk_body_bytes" if as_array else self.name)


def beginning(begun: bytes, piece: bytes) -> bytes:
    """Return the first bytes of a body without the blanks and the byte order mark before them, from those before
    `piece`. Once there are as many as such a mark may have, no further piece is looked at."""
    return begun if len(begun) > len(BOM_UTF8) else (begun + piece).lstrip().removeprefix(BOM_UTF8).lstrip()[:4]


async def parse_body(body: bytes, limits: JsonLimits, block: str) -> Any:
    """Return the JSON value of a body. Raises BadRequest that gives the reason, and InvalidEntity.

    `block`: the key under which limits count the client's address.
    """
    body = body.removeprefix(BOM_UTF8)  # RFC 8259, 8.1: a parser may ignore it
    try:
        # Each value takes at least two bytes, so a body this small cannot exceed the limits.
        if len(body) <= min(SMALL_BODY, limits.item_nodes, limits.nodes):
            return parse_json(body)
        return await in_thread(parse_bounded, body, limits, address=block)
    except ValueError as error:
        raise BadRequest("body", f"The body is not JSON: {error}.") from None
