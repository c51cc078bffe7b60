"""Keys in web pages: the hostnames of a key, the headers of answers, and preflight requests."""

from __future__ import annotations

import httpx
import pytest

from stores.records import now_ms
from tests.listings.answers import INVALID_KEY, NOT_PERMITTED, check
from tests.listings.support import Tenant, Tenants, new_key
from tests.platform.answers import good
from tests.support.hub import Hub, eventually

SITE = "https://Example.com:8443"
ASKS = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
ALLOWED = "access-control-allow-origin"


@pytest.fixture
async def restricted(hub: Hub, tenants: Tenants, tenant: Tenant) -> httpx.AsyncClient:
    """A client with a key for example.com and www.example.com."""
    key = await new_key(hub, tenant.platform.id, tenant.number, "R", "example.com", "www.example.com")
    return tenants.client(key, f"/{tenant.number}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "http://EXAMPLE.com:8080"},
        {"Origin": "https://www.example.com"},
        {"Referer": "https://example.com/page?x=1#y"},
        {"Origin": "https://example.com", "Referer": "https://evil.example/"},
    ],
)
async def test_a_page_that_the_key_names(restricted: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await restricted.get("account/", headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get(ALLOWED) == headers.get("Origin")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil-example.com"},
        {"Origin": "https://sub.example.com"},
        {"Origin": "https://example.com.evil.example"},
        {"Origin": "https://evil.example", "Referer": "https://example.com/"},
        {"Referer": "https://evil.example/example.com"},
        {"Referer": "https://example.com@evil.example/"},
        {"Referer": "example.com"},
        {"Referer": "https://[::1/"},
    ],
)
async def test_a_page_that_the_key_does_not_name(restricted: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await restricted.get("account/", headers=headers)
    check(answer, 403, NOT_PERMITTED)
    assert ALLOWED not in answer.headers


async def test_a_key_that_writes_is_for_servers(hub: Hub, tenants: Tenants, tenant: Tenant) -> None:
    """Its hostnames are not examined, and no page reads its answers."""
    key = await new_key(hub, tenant.platform.id, tenant.number, "RW", "example.com")
    for headers in ({}, {"Origin": "https://evil.example"}):
        answer = await tenants.client(key).get(f"/{tenant.number}/account/", headers=headers)
        assert answer.status_code == 200
        assert ALLOWED not in answer.headers


@pytest.mark.parametrize("origin", ["https://example.com/", "example.com", "", "https://a b", "null"])
async def test_a_malformed_origin_comes_after_path_and_key(
    hub: Hub, tenants: Tenants, tenant: Tenant, origin: str
) -> None:
    headers = {"Origin": origin}
    for path, status in [("/nothing/", 404), ("/amenities/", 401), ("/", 200)]:
        assert (await tenants.client().get(path, headers=headers)).status_code == status
    key = await new_key(hub, tenant.platform.id, tenant.number, "RW", "example.com")
    for client in (tenants.client(key, f"/{tenant.number}"), tenant.reader):
        assert (await client.get("account/", headers=headers)).status_code == 200


async def test_a_key_without_restriction_is_for_every_page(tenant: Tenant) -> None:
    for path, status in [("account/", 200), ("properties/0/", 404), ("properties/?min_price=x", 400)]:
        answer = await tenant.reader.get(path, headers={"Origin": SITE})
        assert (answer.status_code, answer.headers[ALLOWED], answer.headers["vary"]) == (status, "*", "Origin")
        assert "access-control-allow-credentials" not in answer.headers
    assert ALLOWED not in (await tenant.reader.get("account/")).headers


async def test_errors_can_be_read_by_the_page(restricted: httpx.AsyncClient, tenants: Tenants) -> None:
    headers = {"Origin": "https://example.com"}
    for method, path, status in [
        ("GET", "properties/0/", 404),
        ("POST", "properties/", 403),
        ("GET", "/v1/1/account/", 403),
    ]:
        answer = await restricted.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers[ALLOWED]) == (status, "https://example.com")
    for path, status in [("/nothing/", 404), ("/amenities/", 401), ("/", 200)]:
        answer = await tenants.client().get(path, headers=headers)
        assert (answer.status_code, answer.headers[ALLOWED]) == (status, "*")


async def ask(client: httpx.AsyncClient, path: str, origin: str) -> str | None:
    """Send a preflight request; return the origin that it allows."""
    answer = await client.options(path, headers=ASKS | {"Origin": origin})
    assert answer.status_code == 200
    assert "OPTIONS" in answer.headers["allow"]
    allowed: str | None = answer.headers.get(ALLOWED)
    if allowed is not None:
        assert answer.headers["access-control-allow-headers"] == "Authorization, Content-Type"
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    return allowed


async def test_a_preflight_request_is_for_the_keys_of_the_user(hub: Hub, tenants: Tenants) -> None:
    anybody = tenants.client()
    alone = await tenants()
    path = f"/{alone.number}/properties/"
    assert (await alone.reader.get("account/")).status_code == 200
    assert await ask(anybody, path, "https://example.com") == "*"
    for key in await hub.admin.list("keys", {"user": alone.platform.id}):
        await hub.admin.patch(f"/keys/{key['_id']}", {"active": False})
    assert await ask(anybody, path, "https://example.com") is None
    await new_key(hub, alone.platform.id, alone.number, "RW")
    assert await ask(anybody, path, "https://example.com") is None
    await new_key(hub, alone.platform.id, alone.number, "R", "example.com")
    assert await ask(anybody, path, "https://example.com") == "https://example.com"
    assert await ask(anybody, path, "https://evil.example") is None
    await new_key(hub, alone.platform.id, alone.number, "R", "example.org", expires=2**52)
    assert await ask(anybody, path, "https://example.org") == "https://example.org"


@pytest.fixture
async def keyless(hub: Hub) -> tuple[str, int]:
    """The id and the number of a user who has no key yet."""
    user = await hub.as_user()
    return user.id, (await hub.admin.see("users", user.id))["number"]


async def test_a_preflight_request_is_not_for_keys_that_have_expired(
    hub: Hub, tenants: Tenants, keyless: tuple[str, int]
) -> None:
    user, number = keyless
    path, anybody, later = f"/{number}/properties/", tenants.client(), now_ms() + 600_000
    named = await new_key(hub, user, number, "R", "example.com", expires=later)
    assert await ask(anybody, path, "https://example.com") == "https://example.com"
    await new_key(hub, user, number, "R", expires=later)
    assert await ask(anybody, path, "https://example.com") == "*"
    for key in await hub.admin.list("keys", {"user": user}):
        good(await hub.admin.patch(f"/keys/{key['_id']}", {"expires": now_ms() + 500}))

    async def is_refused() -> bool:
        return await ask(anybody, path, "https://example.com") is None

    await eventually(is_refused)
    answer = await tenants.client(named).get(path, headers={"Origin": "https://example.com"})
    check(answer, 401, INVALID_KEY)


@pytest.mark.parametrize(("hosts", "allowed"), [((), "*"), (("example.com",), "https://example.com")])
async def test_a_preflight_request_is_not_for_the_keys_of_a_disabled_user(
    hub: Hub, tenants: Tenants, keyless: tuple[str, int], hosts: tuple[str, ...], allowed: str
) -> None:
    user, number = keyless
    path, anybody = f"/{number}/properties/", tenants.client()
    await new_key(hub, user, number, "R", *hosts)
    for disabled, expected in ((False, allowed), (True, None), (False, allowed)):
        good(await hub.admin.patch(f"/users/{user}", {"disabled": disabled}))
        assert await ask(anybody, path, "https://example.com") == expected


async def test_a_preflight_request_without_a_user(tenants: Tenants, tenant: Tenant) -> None:
    anybody = tenants.client()
    assert await ask(anybody, "/register/", "https://example.com") is None
    assert await ask(anybody, "/", "https://example.com") == "*"
    assert await ask(anybody, "/999999999/properties/", "https://example.com") is None
    assert (await anybody.options("/nothing/", headers=ASKS | {"Origin": SITE})).status_code == 404
