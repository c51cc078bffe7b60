"""A bucket on a server that takes no conditions on writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.media.storage import Storage
from stores.errors import Unavailable
from tests.media.conftest import bucket_server


async def test_it_belongs_to_one_database_too(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    await asyncio.to_thread(source.write_bytes, b"text")
    with bucket_server("plain") as url:
        storage = Storage.at(url.format("one"))
        await storage.claim("a database")
        await storage.put("ab/file", source)
        assert await storage.size("ab/file") == 4
        await storage.claim("a database")
        with pytest.raises(Unavailable, match="another database"):
            await storage.claim("another one")
