"""The listings API as an OpenAPI 3.1 document, generated from its operations."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import orjson

from hub.dialects.forms import MULTIPART, URLENCODED
from hub.dialects.listings.context import PREFIX, ListingsContext
from hub.dialects.listings.cross_origin import allow_any_page
from hub.dialects.listings.operations import READING, Operation
from hub.dialects.listings.schemas import AVAILABILITY, LISTING_TYPE, SCHEMAS, TEXT, array_of, options
from hub.dialects.listings.write_operations import WRITING
from hub.dialects.listings.write_schemas import WRITE_SCHEMAS
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.proxies import PREFIX as OUTER_PREFIX
from hub.openapi.document import DocumentPart, document_of
from hub.openapi.schemas import JSON, Schema, content, path, query, ref

_PARAMETER: Final = re.compile(r"{(\w+)}")
_PATH_PARAMETERS: Final = {
    "user_id": path("user_id", {"type": "integer", "minimum": 1}, "The number of the key's user"),
    "id": path("id", {"type": "integer", "minimum": 1}, "The `id` of a listing"),
    "img_id": path("img_id", {"type": "integer", "minimum": 1}, "The `id` of an image"),
}
_CURSOR: Final = query("cursor", TEXT, "A position, from `next` or `previous`")
_UPDATED_AFTER: Final = query("updated_after", TEXT, "Only what has changed since this ISO 8601 time")
PARAMETERS: Final[dict[str, list[Schema]]] = {
    "none": [],
    "feed": [
        query("search", {"type": "string", "maxLength": 1_000}, "Words that texts or the names of places contain"),
        query("listing_type", LISTING_TYPE, "Rent or sale"),
        query("property_type", TEXT, "The slug of a property type"),
        query("region", TEXT, "The slug of a region"),
        query("district", TEXT, "The slug of a district"),
        query("min_price", TEXT, "The least price"),
        query("max_price", TEXT, "The greatest price"),
        query("availability", AVAILABILITY, "The availability"),
        query("publish_status", options("published", "draft", "trash", "all"), "The status; default `published`"),
        _UPDATED_AFTER,
        _CURSOR,
    ],
    "deleted": [_UPDATED_AFTER, _CURSOR],
}
_ERRORS: Final = {
    400: "Wrong values, by field, or a request that cannot be read",
    401: "No valid key",
    403: "The key is not for this user, method or page",
    404: "There is no such listing or cursor",
    415: "A body of a type that is not read",
    429: "Too many requests; `Retry-After` says when to go on",
    503: "The hub has no capacity now; `Retry-After` says when to go on",
}
_EITHER: Final[Schema] = {"anyOf": [ref("Detail"), ref("FieldErrors")]}


@lru_cache(maxsize=16)
def openapi_document(operations: tuple[Operation, ...], prefix: str) -> bytes:
    """Return the document of a hub that is published under `prefix`."""
    paths: dict[str, Any] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = operation_object(each)
    scheme = {"key": {"type": "http", "scheme": "bearer", "description": "An API key: R_… or RW_…"}}
    part = DocumentPart(paths, [{"key": []}], scheme, SCHEMAS | WRITE_SCHEMAS)
    return orjson.dumps(document_of(part, "Listings", "v1", "Listings, their images and reference data.", prefix))


def operation_object(operation: Operation) -> Schema:
    names = _PARAMETER.findall(operation.path)
    made: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*(_PATH_PARAMETERS[name] for name in names), *PARAMETERS[operation.parameters]],
        "responses": _responses(operation),
    }
    if operation.body:
        body = ref(operation.body)
        made["requestBody"] = {"content": {kind: {"schema": body} for kind in (JSON, MULTIPART, URLENCODED)}}
    if operation.open:
        made["security"] = []
    return made


def _responses(operation: Operation) -> Schema:
    done: Schema = {"description": "Done"}
    if operation.result:
        schema = ref(operation.result)
        done |= content(array_of(schema) if operation.many else schema)
    statuses = {503, *operation.errors}
    statuses |= set() if operation.open else {401, 403, 429}
    statuses |= {429} if operation.registers else set()
    statuses |= {400, 415} if operation.body else set()
    return {str(operation.status): done} | {str(status): _error(status) for status in sorted(statuses)}


def _error(status: int) -> Schema:
    return {"description": _ERRORS[status]} | content(_EITHER if status == 400 else ref("Detail"))


# The operation that returns the document.


async def describe_api(context: ListingsContext, call: Call) -> Answer:
    allow_any_page(call)
    return Answer(openapi_document(OPERATIONS, call.scope.get(OUTER_PREFIX, "")))


DESCRIBE: Final = Operation(
    "describeListings", "GET", PREFIX + "/openapi.json", "This document", describe_api, "Document", open=True
)

OPERATIONS: Final = (*READING, *WRITING, DESCRIBE)
"""Every operation of the listings API."""
