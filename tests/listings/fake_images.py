"""Files of images and registration, until the hub's own are there: `ListingsContext.images` and `.registration`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import UploadFile

from auth.principal import Principal
from auth.secrets import digest
from hub.dialects.listings.services import ImageRefused, UrlRefused
from hub.http.errors import BadRequest
from hub.services.entities import EntityService
from stores.protocol import Engine, Insert
from stores.query import Equal, Query
from stores.records import Entity, new_id

CODE = "123456"
"""The code that is mailed to everybody."""


class FakeImageFiles:
    """Takes every file that begins like a PNG, as it is; no host but ``cdn.example.com`` answers."""

    def __init__(self, entities: EntityService) -> None:
        self.entities = entities

    @asynccontextmanager
    async def from_upload(self, principal: Principal, file: UploadFile) -> AsyncIterator[Any]:
        if not (await file.read(4)).endswith(b"PNG"):
            raise ImageRefused("The file is no image.")
        yield {"url": f"/media/{file.filename}", "size": file.size}

    @asynccontextmanager
    async def from_url(self, principal: Principal, url: str) -> AsyncIterator[Any]:
        if not url.startswith("https://cdn.example.com/"):
            raise UrlRefused(url)
        yield {"url": f"/media/{url.rpartition('/')[2]}"}

    async def create(self, principal: Principal, image: Entity, ready: Any) -> bytes:
        [(text, _)] = await self.entities.create(principal, "property_images", [image | {"image": ready}])
        return text


class FakeRegistration:
    """Every user has the same code at all times. A new key is like the first one of the user."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def request_code(self, login: str, address: str) -> None:
        pass

    async def verify(self, login: str, code: str, name: str) -> tuple[str, Entity]:
        users = await self.engine.entities("users", Query(Equal(("login",), login), limit=1))
        if code != CODE or not users:
            raise BadRequest("code", "wrong")
        [user], secret = users, f"R_{secrets.token_hex(16)}"
        [key, *_] = await self.engine.entities("keys", Query(Equal(("user",), user["_id"])))
        new = {"_id": new_id(), "name": name, "scope": "R", "digest": digest(secret)}
        await self.engine.commit([Insert("keys", {**key, **new})], None)
        return secret, user | {"number": key["number"]}
