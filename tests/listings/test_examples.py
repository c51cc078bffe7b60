"""The shell commands of the API's document, as they stand there: only host, keys, ids and the file differ."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.listings.support import Json, Tenant, Tenants, fetched, mailed_code, new_key
from tests.support.hub import Hub
from tests.support.smtp import Inbox

pytestmark = pytest.mark.needs("curl")

SHELL = shutil.which("dash") or "sh"
"""Bash does not let a script set UID, as the quick start does."""

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

REGISTER = """
curl -s -X POST $HOST/v1/register/ \\
     -H "Content-Type: application/json" -d '{"username":"you"}'
curl -s -X POST $HOST/v1/register/verify/ \\
     -H "Content-Type: application/json" \\
     -d '{"username":"you","api_key_name":"My site","code":"123456"}'
"""

QUICK_START = """
KEY=R_...; UID=12345
curl -s "$HOST/v1/$UID/properties/?listing_type=rent" \\
     -H "Authorization: Bearer $KEY"

curl -s "$HOST/v1/amenities/" -H "Authorization: Bearer $KEY"
"""

STEPS = """
curl -X POST https://<host>/v1/register/ \\
     -H "Content-Type: application/json" -d '{"username": "your-username"}'
curl -X POST https://<host>/v1/register/verify/ \\
     -H "Content-Type: application/json" \\
     -d '{"username": "your-username", "api_key_name": "My website", "code": "123456"}'
"""

CREATE = """
curl -X POST https://<host>/v1/12345/properties/ \\
     -H "Authorization: Bearer RW_xxx" \\
     -H "Content-Type: application/json" \\
     -d '{
           "title": "3 bedroom Bungalow in Kololo",
           "description": "Spacious family home.",
           "price": "850000000",
           "currency": "UGX",
           "property_type": "bungalow",
           "listing_type": "sale",
           "location": "Kololo",
           "district": "kampala",
           "bedrooms": 3,
           "bathrooms": 2,
           "amenities": ["parking", "swimming-pool"],
           "publish_status": "published",
           "availability": "available"
         }'
"""

IMAGES = """
# Upload a file (multipart) — let curl set the multipart Content-Type
curl -X POST https://<host>/v1/12345/properties/987/images/ \\
     -H "Authorization: Bearer RW_xxx" \\
     -F "image=@/path/to/photo.jpg" \\
     -F "is_main=true" \\
     -F "alt=Front view of the bungalow"

# …or reference an external URL — we download and host it (not hot-linked)
curl -X POST https://<host>/v1/12345/properties/987/images/ \\
     -H "Authorization: Bearer RW_xxx" \\
     -H "Content-Type: application/json" \\
     -d '{
           "external_url": "https://cdn.example.com/photo.jpg",
           "is_main": true,
           "alt": "Front view of the bungalow"
         }'
"""


@dataclass
class Reader:
    """A reader of the document who runs its commands. `known`: what stands there, and what the reader writes."""

    hub: Hub
    folder: Path
    known: dict[str, str] = field(default_factory=dict)

    async def run(self, script: str, **known: str) -> list[tuple[int, Any]]:
        """Run commands in a shell; return the status and the JSON value of each answer."""
        for text, value in {"https://<host>": self.hub.url, **self.known, **known}.items():
            script = script.replace(text, value)
        (self.folder / ".curlrc").write_text('silent\nnoproxy = "*"\nwrite-out = "\\n%{http_code}\\n"\n')
        environment = {"CURL_HOME": str(self.folder), "HOST": self.hub.url, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        shell = await asyncio.create_subprocess_exec(
            SHELL, "-euc", script, stdout=asyncio.subprocess.PIPE, env=environment
        )
        output, _ = await shell.communicate()
        assert shell.returncode == 0, output
        lines = output.decode().splitlines()
        return [(int(status), json.loads(body)) for body, status in zip(lines[::2], lines[1::2], strict=True)]


@pytest.fixture
async def tenant(tenants: Tenants) -> Tenant:
    return await tenants()


@pytest.fixture
async def reader(hub: Hub, tenant: Tenant, tmp_path: Path) -> Reader:
    login = tenant.platform.user["login"]
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PNG)
    known = {
        '"you"': f'"{login}"',
        "your-username": login,
        "/12345/": f"/{tenant.number}/",
        "UID=12345": f"UID={tenant.number}",
        "RW_xxx": await new_key(hub, tenant.platform.id, tenant.number, "RW"),
        "/path/to/photo.jpg": str(photo),
    }
    return Reader(hub, tmp_path, known)


def commands_of(script: str) -> list[str]:
    return [f"curl {command}" for command in re.split("^curl ", script, flags=re.MULTILINE)[1:]]


@pytest.mark.parametrize("script", [REGISTER, STEPS], ids=["quick start", "steps"])
async def test_the_quick_start(reader: Reader, tenant: Tenant, inbox: Inbox, script: str) -> None:
    ask, verify = commands_of(script)
    [mailed] = await reader.run(ask)
    assert mailed == (200, {"detail": "If the account exists, a verification code has been emailed."})
    code = await mailed_code(inbox, tenant.platform.user["email"])
    [(status, given)] = await reader.run(verify, **{"123456": code})
    assert (status, given["user_id"], given["scope"]) == (200, tenant.number, "R")
    listed, amenities = await reader.run(QUICK_START, **{"R_...": given["key"]})
    assert listed == (200, {"next": None, "previous": None, "results": []})
    assert amenities[0] == 200
    assert {"parking", "swimming-pool"} <= {amenity["slug"] for amenity in amenities[1]}


async def test_a_listing_and_its_images(reader: Reader, tenant: Tenant) -> None:
    [(status, listing)] = await reader.run(CREATE)
    assert (status, listing["title"], listing["currency"]) == (201, "3 bedroom Bungalow in Kololo", "UGX")
    upload, refer = commands_of(IMAGES)
    here = {"/987/": f"/{listing['id']}/"}
    [first] = await reader.run(upload, **here)
    source = {"https://cdn.example.com/photo.jpg": fetched(reader.hub, first[1]["url"])}
    [second] = await reader.run(refer, **here, **source)
    images = [first, second]
    assert [status for status, _ in images] == [201, 201]
    for _, image in images:
        assert (image["is_main"], image["alt"]) == (True, "Front view of the bungalow")
        assert image["url"].startswith(f"{reader.hub.url}/media/")
    shown: list[Json] = (await tenant.reader.get(f"properties/{listing['id']}/images/")).json()
    assert {each["id"] for each in shown} == {image["id"] for _, image in images}
