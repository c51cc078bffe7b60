"""Bodies are read as Django REST framework reads them: media types, charsets, JSON, forms, and the texts of what is not
understood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.listings import drf
from tests.listings.support import Json, Tenant

GOOD: dict[str, Any] = {
    "title": "Bungalow",
    "price": 5,
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "rent",
    "district": "kampala",
}
ACCENTS = GOOD | {"title": "Ébène à Kololo"}
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    drf.apart(drf.open_database)
    yield
    drf.apart(drf.close_database)


def text(value: Any, encoding: str = "utf-8") -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(encoding)


def part(name: str, value: str, more: str = "", encoding: str = "utf-8") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'.encode(encoding)


def parts(values: dict[str, Any], *further: bytes) -> bytes:
    return b"".join([*(part(name, str(value)) for name, value in values.items()), *further, b"--x--\r\n"])


MEDIA_TYPES = [
    JSON, "APPLICATION/JSON", "application/json; charset=utf-8", "application/json;charset=UTF8",
    'application/json; charset="utf-8"', "application/json; indent=4", "application/json;", "application/*", "*/*",
    "application/json; charset=nonsense", "application/json; charset=", "application/json; charset=bz2_codec",
    "application/json; charset=hex", "application/json; charset=rot13", "application/vnd.api+json", "text/json",
    "text/plain", "text/plain; charset=utf-8", "application/xml", "application/octet-stream", "json", "application",
    "application/jsonx", "application/json/x", "application/json, text/plain", "", "nonsense",
    f"application/json; x={'y' * 300}",
]  # fmt: skip

JSON_BODIES = [
    text(GOOD), text(ACCENTS), b"\xef\xbb\xbf" + text(GOOD), text(ACCENTS, "latin-1"), text(GOOD, "utf-16"),
    b" " + text(GOOD) + b"\r\n", b" ", b"\n", b"{", b"}", b"{]", b"[1,]", b"nul", b"null", b"true", b"[]", b"[{}]",
    b'""', b'"a"', b"5", b"5.5", b"NaN", b'{"price": NaN}', b'{"price": Infinity}', b'{"price": -Infinity}',
    b"{'a': 1}", b'{"a": 1,}', b'{"a" 1}', b'{a: 1}', b'{"a": 1} x', b'{"a": "\t"}',
    b'{"a": "\\x"}', b'{"a": "\\ud800"}', b"\xff",
    b'{"a": 01}', b'{"a": 1.}', b'{"a": .5}', b'{"a": +1}', b'{"a": 1e400}', b'{"price": 1e400}', b'{"a": "b',
    b'{"title": "\\u00e9"}', b'{"title": "a", "title": ""}', b'{"price": ' + b"5" * 4_000 + b"}",
    b'{"price": ' + b"5" * 5_000 + b"}", b'{"a": ' + b"[" * 50 + b"]" * 50 + b"}", b"/* a */ {}", b'{"a": "\xc3"}',
    b'{"title": "\xed\xa0\x80"}', b'{"title": "\\u0000"}', b"\x00", b"{}\x00",
]  # fmt: skip

IN_CHARSETS = [("latin-1", "latin-1"), ("ISO-8859-15", "iso8859-15"), ("windows-1252", "cp1252"), ("utf-16", "utf-16"),
               ("UTF-16LE", "utf-16-le"), ("utf-32", "utf-32"), ("utf-8-sig", "utf-8-sig")]  # fmt: skip

FORM_BODIES = [
    urlencode(GOOD), urlencode(ACCENTS), urlencode(GOOD) + "&amenities=parking&amenities=swimming-pool",
    urlencode(GOOD) + "&title=", urlencode(GOOD) + "&title=Second", "title", "title=", "&&", "=", "=a", "a=b=c",
    "title=a+b%20c", "title=%ff", "title=%", "title=%zz", "title=a;price=1", "amenities", "amenities=", "%74itle=a",
    urlencode(GOOD) + "&bedrooms=&latitude=&furnished=&description=", "x" * 100, "title=%00", "title=%F0%9F%98%80",
    "title=\u00e9",
]  # fmt: skip

MULTIPARTS = [
    parts(GOOD),
    parts(ACCENTS),
    parts(GOOD, part("amenities", "parking"), part("amenities", "swimming-pool")),
    parts(GOOD, part("title", "Second")),
    parts(GOOD, part("title", "a file", '; filename="a.txt"')),
    parts(GOOD, part("ignored", "a file", '; filename="a.txt"')),
    parts(GOOD, part("title", "", '; filename=""')),
    parts({}),
    b"--x--\r\n",
    parts(GOOD) + b"epilogue",
]
BOUNDARIES = ["", "; boundary=", '; boundary="y z"', '; boundary=" "', "; boundary=" + "y" * 202, "; bound=x"]


async def said_by_hub(tenant: Tenant, content: bytes, content_type: str) -> tuple[int, Any]:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await tenant.writer.post("properties/", content=content, headers=headers)
    return answer.status_code, answer.json()


async def compare(tenant: Tenant, content: bytes, content_type: str) -> tuple[int, Json]:
    """Return what both say."""
    status, theirs = drf.apart(drf.answer, content, content_type)
    ours, said = await said_by_hub(tenant, content, content_type)
    sent = content_type[:100], content[:200]
    assert ours == status, (sent, said, theirs)
    if status == 201:
        assert {name: said[name] for name in theirs} == theirs, sent
    else:
        assert said == theirs, sent
        assert list(said) == list(theirs), sent
    return ours, said


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_media_types(tenant: Tenant, media_type: str) -> None:
    for content in (text(GOOD), text({}), b""):
        await compare(tenant, content, media_type)


async def test_a_wrong_media_type_is_named(tenant: Tenant) -> None:
    expected = 415, {"detail": 'Unsupported media type "text/plain" in request.'}
    assert await compare(tenant, b"{}", "text/plain") == expected


@pytest.mark.parametrize("number", range(len(JSON_BODIES)))
async def test_json(tenant: Tenant, number: int) -> None:
    await compare(tenant, JSON_BODIES[number], JSON)


@pytest.mark.parametrize(("charset", "codec"), IN_CHARSETS)
async def test_charsets(tenant: Tenant, charset: str, codec: str) -> None:
    status, said = await compare(tenant, text(ACCENTS, codec), f"{JSON}; charset={charset}")
    assert (status, said["title"]) == (201, ACCENTS["title"])
    if not codec.startswith("utf-"):
        await compare(tenant, urlencode(ACCENTS, encoding=codec).encode(), f"{FORM}; charset={charset}")


@pytest.mark.parametrize("body", FORM_BODIES)
async def test_urlencoded_forms(tenant: Tenant, body: str) -> None:
    await compare(tenant, body.encode(), FORM)


@pytest.mark.parametrize("number", range(len(MULTIPARTS)))
async def test_multipart_forms(tenant: Tenant, number: int) -> None:
    await compare(tenant, MULTIPARTS[number], f"{MULTIPART}; boundary=x")


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_boundaries(tenant: Tenant, boundary: str) -> None:
    content = parts(GOOD).replace(b"--x", b"--y z") if "y z" in boundary else parts(GOOD)
    for sent in (content, b""):
        await compare(tenant, sent, MULTIPART + boundary)


async def test_all_writes_read_all_kinds_of_bodies(tenant: Tenant) -> None:
    answer = await tenant.writer.post("properties/", json=GOOD)
    path = f"properties/{answer.json()['id']}/"
    kinds = [(text(GOOD), JSON), (urlencode(GOOD).encode(), FORM), (parts(GOOD), f"{MULTIPART}; boundary=x")]
    for method in ("PUT", "PATCH"):
        for content, kind in kinds:
            answer = await tenant.writer.request(method, path, content=content, headers={"Content-Type": kind})
            assert answer.status_code == 200, answer.text
        answer = await tenant.writer.request(method, path, content=b"a", headers={"Content-Type": "text/csv"})
        assert answer.status_code == 415
