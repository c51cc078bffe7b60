"""The order of checks: path, key, permission, throttle, method. And always JSON."""

from __future__ import annotations

import time

import httpx
import pytest

from hub.dialects.listings.context import MOST_REQUESTS
from hub.dialects.listings.errors import Throttled
from tests.listings.answers import INVALID_KEY, NO_ENDPOINT, NO_KEY, NOT_FOUND, NOT_PERMITTED, check, check_wait
from tests.listings.support import Tenant, Tenants
from tests.platform.raw import token_of
from tests.support.hub import Hub


@pytest.fixture(scope="module")
async def anybody(tenants: Tenants) -> httpx.AsyncClient:
    """A client without a key."""
    return tenants.client()


@pytest.mark.parametrize(
    "path",
    ["/1/", "/1", "/nothing/", "/amenities", "/1/properties", "/1/properties/5", "/1/properties//", "/abc/account/",
     "/1/properties/5/images", "/1/properties/5/videos/", "/-1/account/", "/٣/account/", "/1/account/x/"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_an_unknown_path_needs_no_key(anybody: httpx.AsyncClient, path: str, method: str) -> None:
    check(await anybody.request(method, path), 404, NO_ENDPOINT)


@pytest.mark.parametrize(
    ("authorization", "body"),
    [
        (None, NO_KEY),
        ("Basic YTpi", NO_KEY),
        ("R_" + "a" * 32, NO_KEY),
        ("Bearer", INVALID_KEY),
        ("Bearer R_" + "a" * 32, INVALID_KEY),
        ("bearer R_" + "a" * 32, INVALID_KEY),
        ("Bearer two words", INVALID_KEY),
        ("Bearer é", INVALID_KEY),
    ],
)
async def test_a_key_is_needed_before_anything_else(
    anybody: httpx.AsyncClient, authorization: str | None, body: object
) -> None:
    """Neither the user nor the method is examined before the key."""
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    for method, path in [("GET", "/99/account/"), ("DELETE", "/99/account/"), ("GET", "/amenities/")]:
        answer = await anybody.request(method, path, headers=headers)
        check(answer, 401, body)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_of_the_platform_opens_nothing_here(hub: Hub, tenants: Tenants, tenant: Tenant) -> None:
    token = token_of(tenant.platform.http.headers)
    check(await tenants.client(token).get("/amenities/"), 401, INVALID_KEY)


async def test_a_key_reaches_its_own_user_alone(tenant: Tenant, tenants: Tenants) -> None:
    """Another user's path is refused whatever follows."""
    other = await tenants()
    listing = await other.add()
    for path in ("account/", "properties/", f"properties/{listing['number']}/", "properties/999999/", "properties/x/"):
        for client in (tenant.reader, tenant.writer):
            for method in ("GET", "PUT", "OPTIONS"):
                check(await client.request(method, f"/v1/{other.number}/{path}"), 403, NOT_PERMITTED)
    for number in ("0", "999999999", "9" * 40):
        check(await tenant.reader.get(f"/v1/{number}/account/"), 403, NOT_PERMITTED)
    assert (await tenant.reader.get(f"/v1/00{tenant.number}/account/")).status_code == 200


async def test_a_read_only_key_cannot_write_even_where_nobody_can(tenant: Tenant) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
        for path in ("account/", "properties/", "properties/1/", "/v1/amenities/"):
            check(await tenant.reader.request(method, path), 403, NOT_PERMITTED)


async def test_a_method_that_does_not_exist(tenant: Tenant) -> None:
    answer = await tenant.writer.delete("account/")
    check(answer, 405, {"detail": 'Method "DELETE" not allowed.'})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    check(await tenant.writer.request("PROPFIND", "account/"), 405, {"detail": 'Method "PROPFIND" not allowed.'})


async def test_the_root_needs_no_key(hub: Hub, anybody: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = await anybody.get("/", headers=headers)
        assert answer.status_code == 200
        root = answer.json()
        assert root["version"] == "v1"
        assert root["endpoints"]["properties"] == f"{hub.url}/v1/{{user_id}}/properties/"
    answer = await anybody.post("/")
    check(answer, 405, {"detail": 'Method "POST" not allowed.'})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_the_root_lists_every_endpoint(hub: Hub, tenant: Tenant, anybody: httpx.AsyncClient) -> None:
    """By its absolute address: all paths of the document, but for that of the root itself. They are served."""
    endpoints = (await anybody.get("/")).json()["endpoints"]
    document = (await anybody.get(endpoints["openapi"])).json()
    assert sorted(endpoints.values()) == sorted(f"{hub.url}{path}" for path in document["paths"] if path != "/v1/")
    for address in endpoints.values():
        answer = await tenant.reader.options(address.format(user_id=tenant.number, id=1, img_id=1))
        assert answer.status_code == 200, address


async def test_options_says_what_is_allowed(tenant: Tenant, anybody: httpx.AsyncClient) -> None:
    for client, path in [(tenant.reader, "properties/"), (tenant.reader, "/v1/amenities/"), (anybody, "/")]:
        answer = await client.options(path)
        assert answer.status_code == 200
        assert answer.headers["allow"].startswith("GET, ")
        assert answer.headers["allow"].endswith("HEAD, OPTIONS")
        assert answer.json()["renders"] == ["application/json"]
    check(await anybody.options("/amenities/"), 401, NO_KEY)


async def test_head_is_get_without_a_body(tenant: Tenant) -> None:
    await tenant.add()
    for path in ("properties/", "account/", "/v1/amenities/", "/v1/"):
        got, head = await tenant.reader.get(path), await tenant.reader.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))
    assert (await tenant.reader.head("properties/999999/")).status_code == 404


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png", "nonsense", ""])
async def test_it_is_json_whatever_is_accepted(tenant: Tenant, accept: str) -> None:
    for path, status in [
        ("account/", 200),
        ("account/?format=xml", 200),
        ("properties/0/?format=api", 404),
        ("x/", 404),
    ]:
        answer = await tenant.reader.get(path, headers={"Accept": accept})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        answer.json()


async def test_what_is_no_number_or_no_listing_of_ones_own_is_not_found(tenant: Tenant, tenants: Tenants) -> None:
    other = await tenants()
    foreign = (await other.add())["number"]
    for id in ("abc", "-1", "1.0", "0", "٣", "9" * 30, str(foreign), f"{foreign}x", "%20"):
        for path in (f"properties/{id}/", f"properties/{id}/images/"):
            check(await tenant.reader.get(path), 404, NOT_FOUND)


async def test_a_key_that_has_ended(hub: Hub, tenants: Tenants, tenant: Tenant) -> None:
    key = await hub.admin.make("keys", {"name": "x", "kind": "listings", "user": tenant.platform.id})
    client = tenants.client(key["key"])
    assert (await client.get("/amenities/")).status_code == 200
    await hub.admin.patch(f"/keys/{key['_id']}", {"active": False})
    check(await client.get("/amenities/"), 401, INVALID_KEY)


@pytest.mark.engine("sqlite")
async def test_a_key_that_asks_too_often_waits(tenant: Tenant) -> None:
    """Methods that do not exist count, refused requests do not, and other keys are not concerned."""
    began = time.monotonic()
    for _ in range(MOST_REQUESTS - 2):
        assert (await tenant.writer.get("account/")).status_code == 200
    assert (await tenant.writer.delete("account/")).status_code == 405
    assert (await tenant.writer.get("properties/0/")).status_code == 404
    for path in ("account/", "/v1/amenities/", "properties/0/"):
        answer = await tenant.writer.get(path)
        wait = check_wait(answer, 60, began)
        seconds = "second" if wait == 1 else "seconds"
        assert answer.json() == {"detail": f"Request was throttled. Expected available in {wait} {seconds}."}
    check(await tenant.writer.get("/v1/1/account/"), 403, NOT_PERMITTED)
    check(await tenant.writer.get("/v1/nothing/"), 404, NO_ENDPOINT)
    assert (await tenant.reader.get("account/")).status_code == 200


@pytest.mark.engine("sqlite")
async def test_what_is_not_permitted_does_not_count(tenant: Tenant) -> None:
    for _ in range(MOST_REQUESTS + 1):
        assert (await tenant.reader.post("properties/")).status_code == 403
    assert (await tenant.reader.get("account/")).status_code == 200


def test_the_text_names_a_single_second() -> None:
    assert Throttled(0.2).detail == "Request was throttled. Expected available in 1 second."
    assert Throttled(1.2).detail == "Request was throttled. Expected available in 2 seconds."
    assert Throttled(0).retry_after == 1
