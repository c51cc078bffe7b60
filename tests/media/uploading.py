"""Uploads for tests: files, and requests with them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image

from stores.records import Entity
from tests.support.hub import Client, entity_of

FILES_HOST: Final = "files.test"
"""The name by which a hub with the settings of `own_files` fetches from itself."""
PDF: Final = b"%PDF-1.7\n" + b"lease " * 200


def own_files(folder: Path, port: int) -> dict[str, object]:
    """Return the settings of a hub at this port that may fetch files from itself."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 {FILES_HOST}\n")
    return {"port": port, "fetch_hosts": hosts, "fetch_allow": f"{FILES_HOST}:{port}"}


def png(width: int = 800, height: int = 600, colour: str = "teal") -> bytes:
    """Return an image as PNG."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


async def upload(
    client: Client,
    store: str,
    id: str,
    field: str,
    content: bytes,
    name: str = "front.png",
    type: str = "image/png",
    **headers: str,
) -> httpx.Response:
    """Upload a file as a form; return the answer of any status."""
    path = f"/{store}/{id}/files/{field}"
    return await client.request("POST", path, files={"file": (name, content, type)}, headers=headers)


async def uploaded(client: Client, store: str, id: str, field: str, content: bytes, *more: str) -> Entity:
    """Upload a file, which must succeed; return the new value."""
    answer = await upload(client, store, id, field, content, *more)
    value: Any = entity_of(answer)[field]
    newest: Entity = value[-1] if isinstance(value, list) else value
    assert answer.headers["location"] == newest["url"]
    return newest


async def read(client: Client, url: str, **headers: str) -> httpx.Response:
    """GET a file at its URL below the hub's address, as this client."""
    return await client.http.get(client.url + url, headers={n.replace("_", "-"): v for n, v in headers.items()})
