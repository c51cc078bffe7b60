"""Reference data that was created a moment ago, in a hub of this process whose feed has not brought it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Message

from auth.principal import Principal
from hub.app import assemble, make_listings
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.properties import create_property
from hub.http.call import Call
from hub.settings import Settings
from stores.records import Entity
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY
from tests.support.listings import listing, prepare_database


def posted(body: Entity) -> Call:
    """Return a call with this body."""
    content = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    scope = {"type": "http", "method": "POST", "path": "/v1/1/properties/", "query_string": b"", "headers": headers}

    async def receive() -> Message:
        return {"type": "http.request", "body": content}

    return Call(scope, receive)


@dataclass
class Behind:
    """The listings API of a hub, which does not follow the feed. `principal` is an administrator."""

    context: ListingsContext
    principal: Principal

    async def create(self, **fields: Any) -> Entity:
        """Create a listing; return the answer."""
        answer = await create_property(self.context, posted(listing(**fields)), self.principal)
        assert answer.status == 201
        assert isinstance(answer.body, bytes)
        created: Entity = orjson.loads(answer.body)
        return created


@pytest.fixture
async def behind(database: Database, tmp_path: Path) -> AsyncIterator[Behind]:
    await prepare_database(database)
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets: dict[str, Any] = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    settings = Settings(data_dir=tmp_path, **secrets)
    hub = assemble(settings)
    context = make_listings(settings, hub).context
    hub.followers.clear()
    async with hub.run():
        yield Behind(context, await hub.resolver.resolve(hub.control_token))


NEW: list[tuple[str, Entity, str, Entity]] = [
    ("amenities", {"name": "Helipad", "slug": "helipad"}, "helipad", {"amenities": ["parking", "helipad"]}),
    ("property_types", {"name": "Castle", "slug": "castle"}, "castle", {"property_type": "castle"}),
    ("currencies", {"code": "RWF", "symbol": "FRw"}, "RWF", {"currency": "RWF"}),
    ("districts", {"name": "New", "slug": "new", "region": "central"}, "new", {"district": "new"}),
]
"""Stores, entities, their keys, and fields of listings with them."""


async def test_what_was_created_a_moment_ago_may_be_used(behind: Behind) -> None:
    await behind.create()
    for store, row, key, fields in NEW:
        await behind.context.entities.create(behind.principal, store, [row])
        assert not (await behind.context.lookups.current()).has(store, key)
        assert (await behind.create(**fields)).items() >= fields.items()


async def test_what_was_never_created_is_refused(behind: Behind) -> None:
    with pytest.raises(InvalidFields) as refused:
        await behind.create(amenities=["parking", "helipad"])
    assert refused.value.errors == {"amenities": ["Object with slug=helipad does not exist."]}
