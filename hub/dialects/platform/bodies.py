"""Request bodies of the platform API: parsing and checks of their outer structure."""

from __future__ import annotations

from typing import Any

from hub.dialects.platform.context import PlatformContext
from hub.http.body import parse_body
from hub.http.call import Call
from hub.http.errors import BadRequest
from stores.records import Entity


async def read_json(context: PlatformContext, call: Call) -> Any:
    return await parse_json(context, call, await context.read(call))


async def parse_json(context: PlatformContext, call: Call, raw: bytes) -> Any:
    """Return the JSON value of a body. Its Content-Type is ignored, since curl declares everything a form; only the
    error text for a body of another kind mentions it. Raises BadRequest."""
    try:
        return await parse_body(raw, context.json_limits, call.block)
    except BadRequest:
        kind = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
        if not raw or kind == "application/json" or kind.endswith("+json") or _resembles_json(raw):
            raise
        said = kind or "of no content type"
        raise BadRequest("body", f"The body must be JSON (application/json); this one is {said}.") from None


def _resembles_json(raw: bytes) -> bool:
    """Return whether the body begins as JSON does, in whatever encoding."""
    return raw[:100].lstrip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe").startswith((b"{", b"["))


def entity_body(value: Any) -> Entity:
    if not isinstance(value, dict):
        raise BadRequest("body", "The body must be a JSON object.")
    return value


def entity_bodies(value: Any, most: int) -> list[Entity]:
    """Return the entities of a body: one object, or an array of objects. Raises BadRequest."""
    if not isinstance(value, list):
        return [entity_body(value)]
    if not 0 < len(value) <= most:
        raise BadRequest("body", f"An array holds 1 to {most} entities.")
    for position, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRequest(str(position), "Must be a JSON object.")
    return value
