"""Several hubs on one database and one storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.uploading import png, read, uploaded
from tests.support.engines import Database
from tests.support.hub import Client, Hub, eventually, running_hub

pytestmark = pytest.mark.engine("mongodb")


async def test_what_one_process_loses_no_other_serves(database: Database, tmp_path: Path, bucket_url: str) -> None:
    url = bucket_url.format("processes")
    async with (
        running_hub(database, tmp_path / "one", media_url=url) as one,
        running_hub(database, tmp_path / "two", media_url=url) as two,
    ):
        store = await one.define(fields=[{"id": "photo", "type": "Image", "public": True}])
        entity = await one.admin.make(store)
        first = await uploaded(one.admin, store, entity["_id"], "photo", png(400))
        for query in ("", "?w=160"):
            await eventually(lambda: is_served(two, first["url"] + query))  # noqa: B023
        second = await uploaded(one.admin, store, entity["_id"], "photo", png(300))
        for query in ("", "?w=160"):
            await eventually(lambda: is_gone(two, first["url"] + query), 5)  # noqa: B023
        await eventually(lambda: is_served(two, second["url"]))
        await one.admin.delete(f"/{store}/{entity['_id']}")
        await eventually(lambda: is_gone(two, second["url"]), 5)


async def is_served(hub: Hub, url: str) -> bool:
    return await status_of(hub.client(), url) == 200


async def is_gone(hub: Hub, url: str) -> bool:
    return await status_of(hub.client(), url) == 404


async def status_of(client: Client, url: str) -> int:
    return (await read(client, url)).status_code
