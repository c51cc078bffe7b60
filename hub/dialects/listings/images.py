"""Writes of the images of a listing: add by upload or by URL, change, delete. Which image is the main one is decided in
the commit, by the rules of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from auth.principal import Principal
from hub.dialects.listings.bodies import received
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.errors import NON_FIELD, InvalidFields
from hub.dialects.listings.image_files import ImageRefused
from hub.dialects.listings.links import base_of
from hub.dialects.listings.properties import written_answer
from hub.dialects.listings.reading import number_of, read_listing
from hub.dialects.listings.serializers import CHANGED_IMAGE, NEW_IMAGE, Values
from hub.dialects.listings.shapes import image as image_shape
from hub.http.answer import Answer
from hub.http.call import Call
from hub.services.store_rules.images import MOST_IMAGES
from stores.errors import InvalidEntity, NotFound
from stores.query import WHOLE, And, Equal, Query
from stores.records import Entity


async def add_image(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    listing = await read_listing(context, principal, call.path["id"])
    await _refuse_too_many(context, principal, listing)
    async with context.images.arriving(principal) as path, received(context, call, image=True) as body:
        values = NEW_IMAGE.validate(body)
        async with _converted(context, call, principal, values, path) as ready:
            image: Entity = {"property": listing["_id"], "is_main": False, "alt": ""}
            image |= {name: values[name] for name in ("is_main", "alt") if name in values}
            with _in_listing():
                text = await context.images.create(image, ready, partial(_principal_now, context, call, principal))
    return written_answer(_shown(context, call, text), 201)


async def change_image(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    image = await _read_image(context, call, principal)
    async with received(context, call) as body:
        values = CHANGED_IMAGE.validate(body, partial=True)
    text, _ = await context.entities.change(principal, context.stores.names().images, image["_id"], values, None)
    return written_answer(_shown(context, call, text))


async def delete_image(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    image = await _read_image(context, call, principal)
    await context.entities.delete(principal, context.stores.names().images, image["_id"], None)
    return Answer(status=204)


@asynccontextmanager
async def _converted(
    context: ListingsContext, call: Call, principal: Principal, values: Values, path: Path
) -> AsyncIterator[Any]:
    """Return the converted file, which arrives at `path`; stop converting when the client disconnects. Raises
    InvalidFields, and ClientGone."""
    files = context.images
    if "image" in values:
        source = files.from_upload(principal, values["image"], path)
    else:
        source = files.from_url(principal, values["external_url"], path)
    async with AsyncExitStack() as stack:
        try:
            ready = await call.while_connected(source.__aenter__())
        except ImageRefused as refusal:
            raise InvalidFields({refusal.field: [refusal.text]}).at(refusal.limit_name) from None
        stack.push_async_exit(source)
        yield ready


async def _principal_now(context: ListingsContext, call: Call, principal: Principal) -> Principal:
    """Return the principal of the key after a file has been fetched, converted and stored, which takes time. Raises
    Unauthenticated for a key that has been revoked meanwhile."""
    return principal if call.caller is None else await context.resolve(call.caller[0])


@contextmanager
def _in_listing() -> Iterator[None]:
    """Raise NotFound for an image whose listing has been deleted meanwhile, and InvalidFields for one too many."""
    try:
        yield
    except InvalidEntity as error:
        for violation in error.violations:
            if violation.field == "property" and violation.rule == "reference":
                raise NotFound("the listing has just been deleted") from error
        if error.limit_name == "MOST_IMAGES":
            raise too_many() from error
        raise


def too_many() -> InvalidFields:
    return InvalidFields({NON_FIELD: [f"A listing has at most {MOST_IMAGES} images."]}).at("MOST_IMAGES")


async def _refuse_too_many(context: ListingsContext, principal: Principal, listing: Entity) -> None:
    """Refuse an image before its file is read, fetched and converted. The rules of the store refuse it in any case."""
    images = Equal(("property",), listing["_id"])
    counted = await context.entities.summarize(principal, context.stores.names().images, images, WHOLE)
    if counted.count >= MOST_IMAGES:
        raise too_many()


async def _read_image(context: ListingsContext, call: Call, principal: Principal) -> Entity:
    """Return the image that the path names. Raises NotFound."""
    listing = await read_listing(context, principal, call.path["id"])
    number = number_of(call.path["img_id"])
    where = And((Equal(("property",), listing["_id"]), Equal(("number",), number)))
    found = await context.entities.find(principal, context.stores.names().images, Query(where, limit=1))
    images: list[Entity] = orjson.loads(found.body) if isinstance(found.body, bytes) else []
    if not images:
        raise NotFound(f"no image {number}")
    return images[0]


def _shown(context: ListingsContext, call: Call, text: bytes) -> dict[str, Any]:
    return image_shape(orjson.loads(text), base_of(context, call))
