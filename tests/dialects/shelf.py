"""A sample API over the store `books`: the smallest dialect with its own key, errors, pages, upload and document. It
uses only the kit."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import orjson
from starlette.datastructures import UploadFile
from starlette.types import Scope

from auth.errors import Unauthenticated
from auth.principal import Principal
from hub.dialects.base import Dialect, Operation
from hub.dialects.forms import MULTIPART, FormLimits, read_form
from hub.http.answer import Answer, json_answer
from hub.http.body import BodyLimit
from hub.http.call import Call
from hub.http.errors import BadRequest, Failure, status_text
from hub.http.origins import Origins
from hub.openapi.document import DocumentPart, document_of
from hub.openapi.schemas import content, object_of, query, ref
from hub.running import Hub
from stores.query import Query

STORE, MOST, SECONDS = "books", 100, 10
BOUNDS = FormLimits(BodyLimit(200_000), fields=3, files=1, field_bytes=1_000)


@dataclass(frozen=True, slots=True)
class ShelfContext:
    """The services of a hub that the handlers use."""

    hub: Hub

    async def authenticate(self, call: Call) -> Principal:
        key = call.header(b"x-shelf-key")
        if key is None:
            raise Unauthenticated("no key")
        principal = await self.hub.resolver.resolve(key)
        call.caller = key, principal
        return principal


def natural(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= 10**6):
        raise BadRequest(name, "must be a whole number from 1")
    return int(text)


async def list_books(context: ShelfContext, call: Call, principal: Principal) -> Answer:
    parameters = dict(call.parameters())
    page, size = natural(parameters, "page", 1), min(natural(parameters, "size", 10), MOST)
    listing = await context.hub.entities.find(principal, STORE, Query(offset=(page - 1) * size, limit=size))
    assert isinstance(listing.body, bytes)
    return Answer(b'{"page":%d,"books":%b}' % (page, listing.body))


async def add_book(context: ShelfContext, call: Call, principal: Principal) -> Answer:
    async with read_form(call, BOUNDS, SECONDS, context.hub.resolver.resolve) as form:
        title, cover = form.get("title"), form.get("cover")
        if not isinstance(title, str) or not isinstance(cover, UploadFile):
            raise BadRequest("title", "needs a title and a cover")
        book = {"title": title, "cover": cover.filename, "size": cover.size}
    [(text, _)] = await context.hub.entities.create(principal, STORE, [book], None, indexed=False)
    return Answer(text, 201)


async def describe(context: ShelfContext, call: Call) -> Answer:
    book = {"type": "object", "properties": {"title": {"type": "string"}}}
    listed = object_of({"page": {"type": "integer"}, "books": {"type": "array", "items": ref("Book")}})
    sent = object_of({"title": {"type": "string"}, "cover": {"type": "string", "format": "binary"}})
    refused = {"401": {"description": "No key that counts"}}
    paging = [query(name, {"type": "integer", "minimum": 1}, f"The {name}") for name in ("page", "size")]
    books = {
        "get": {"parameters": paging, "responses": {"200": {"description": "A page"} | content(listed)} | refused},
        "post": {
            "requestBody": {"required": True} | content(sent, MULTIPART),
            "responses": {"201": {"description": "Added"} | content(ref("Book"))} | refused,
        },
    }
    key = {"key": {"type": "apiKey", "in": "header", "name": "x-shelf-key"}}
    part = DocumentPart({"/shelf/v2/books": books}, [{"key": []}], key, {"Book": book})
    return json_answer(document_of(part, "shelf", "2", "Books."))


OPERATIONS: list[Operation[ShelfContext]] = [
    Operation("listBooks", "GET", "/shelf/v2/books", "List books", list_books),
    Operation("addBook", "POST", "/shelf/v2/books", "Add a book with its cover", add_book),
    Operation("describeShelf", "GET", "/shelf/v2/openapi.json", "This document", describe, open=True),
]


class ShelfDialect(Dialect[ShelfContext]):
    prefixes = ("/shelf/v2",)

    def authenticate(self, call: Call) -> Awaitable[Principal]:
        return self.context.authenticate(call)

    def admit(self, operation: Operation[ShelfContext], call: Call, principal: Principal) -> None:
        self.context.hub.registry.authorized(principal, STORE, operation.method)

    def render(self, failure: Failure, scope: Scope) -> Answer:
        problem = {"what": status_text(failure.status), "where": scope["path"], "fields": failure.errors}
        headers = [(name.lower().encode(), value.encode()) for name, value in failure.headers.items()]
        return Answer(orjson.dumps({"problem": problem}), failure.status, headers)


def make_shelf(hub: Hub, origins: Origins) -> ShelfDialect:
    return ShelfDialect(ShelfContext(hub), OPERATIONS)
