"""Pages of other origins, the host names of the hub, and access to the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform.answers import good, refused
from tests.platform.raw import wire
from tests.support.engines import Database
from tests.support.hub import API, Client, Hub, StartHub, fetch, launch, running_hub
from tests.support.live import Refused, live

TRUSTED = "https://portal.example.com"
APP = "capacitor://localhost"
PASSWORD = "one two three four"
HTTPS = {"x-forwarded-proto": "https"}


@pytest.fixture(scope="module")
async def open_hub(sqlite_hub: StartHub) -> Hub:
    """A hub that trusts two origins and has two allowed hosts; nothing here depends on the engine."""
    settings = {"trusted_origins": f"{TRUSTED},{APP}", "allowed_hosts": "127.0.0.1, hub.example.org:8443"}
    return await sqlite_hub(**settings)


@pytest.fixture(scope="module")
async def member(hub: Hub) -> Client:
    user = await hub.as_user(password=PASSWORD)
    return await hub.as_session(user.user["login"], PASSWORD)


async def status(client: Client, host: str, origin: str, scheme: str = "http") -> int:
    headers = {"Host": host, "Origin": origin, "X-Forwarded-Proto": scheme}
    return (await client.request("POST", "/nowhere", json={}, headers=headers)).status_code


PAGES = [
    ("name", "http", "http://name", True),
    ("name", "http", "http://name:80", True),
    ("name:80", "http", "http://name", True),
    ("NAME", "http", "http://name", True),
    ("name:443", "https", "wss://name", True),
    ("name", "https", "https://name:443", True),
    ("name", "http", "ws://name", True),
    ("[::1]:8000", "http", "http://[::1]:8000", True),
    ("name", "http", "https://name", False),
    ("name", "https", "http://name", False),
    ("name:8000", "http", "http://name", False),
    ("name", "http", "http://name.example", False),
    ("name", "http", "ftp://name", False),
    ("name", "http", "null", False),
]


@pytest.mark.parametrize(("host", "scheme", "origin", "passes"), PAGES)
async def test_a_page_is_the_hubs_own_by_scheme_host_and_port(
    member: Client, host: str, scheme: str, origin: str, passes: bool
) -> None:
    """Default ports are added, and WebSocket schemes count as HTTP schemes."""
    assert await status(member, host, origin, scheme) == (404 if passes else 403)


MALFORMED = ["http://[::1", "http://", "x", "", "http://a b", "http://a/", "http://a:99999", "http://a:b", "//a",
             "http://u@a", "http://a, http://b", "http://" + "a" * 400, "http://\xe9"]  # fmt: skip


@pytest.mark.parametrize("origin", MALFORMED)
async def test_a_malformed_origin_is_refused_in_the_apis_shape(hub: Hub, origin: str) -> None:
    """This holds for every method and path, and for polls and handshakes of live clients; the log has no traceback."""
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}==\r\n"
    for target, more in (
        ("POST /api/v1/auth", "Content-Length: 0\r\n"),
        ("GET /api/v1/users", ""),
        ("GET /health/live", ""),
        ("GET /socket.io/?EIO=4&transport=polling", ""),
        ("GET /socket.io/?EIO=3&transport=polling", ""),
        ("GET /socket.io/?EIO=4&transport=websocket", upgrade.format("x" * 22)),
    ):
        async with wire(hub.process.port) as connection:
            head = f"{target} HTTP/1.1\r\nHost: hub\r\nOrigin: {origin}\r\n{more}\r\n"
            await connection.send(head.encode("latin-1"))
            answer = await connection.answer()
        assert (answer.status, answer.headers["content-type"]) == (403, "application/json"), target
        assert answer.json() == {
            "success": False,
            "code": "403",
            "message": "Forbidden",
            "tags": ["error_credentials", "error_forbidden"],
        }
        assert answer.headers["x-request-id"]
    assert "Traceback" not in hub.process.log


async def test_a_token_needs_no_trusted_origin(hub: Hub, user: Client, store: str) -> None:
    """Over REST a page of any origin may send a token, without cookies, and read the answer, including preflights and
    errors."""
    page = {"Origin": "https://any.example"}
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    for path in (f"/{store}", f"/{store}/x", "/nowhere/at/all"):
        preflight = await hub.client().request("OPTIONS", path, headers=page | asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "*")
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
    made = await user.make(store)
    for answer in (
        await user.request("GET", f"/{store}", headers=page),
        await user.request("PATCH", f"/{store}/{made['_id']}", json={"n": 1}, headers=page),
        await user.request("GET", f"/{store}/{'0' * 24}", headers=page),
        await hub.client().request("GET", f"/{store}", headers=page),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "X-Position" in answer.headers["access-control-expose-headers"]
        assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in (await user.get(f"/{store}")).headers


@pytest.mark.parametrize("version", [3, 4])
async def test_a_token_needs_no_trusted_origin_live(hub: Hub, user: Client, member: Client, version: int) -> None:
    """A cookie needs a trusted origin; polls can be read by any page, without credentials."""
    page = {"Origin": "https://any.example"}
    token = user.http.headers["Authorization"].removeprefix("Bearer ")
    async with live(hub, version=version, query={"token": token}, headers=page) as client:
        assert (await client.watch("users")).view.keys() == {user.id}
    with pytest.raises(Refused):
        async with live(hub, member, version=version, headers=page):
            pass
    poll = await fetch(f"{hub.url}/socket.io/?EIO={version}&transport=polling", **page)
    assert (poll.status_code, poll.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in poll.headers


async def test_a_trusted_page_gets_the_cookies_that_it_needs(open_hub: Hub) -> None:
    """Over https its cookie is `SameSite=None; Secure`, and its answers allow credentials. Same-site pages and http get
    `SameSite=Lax`."""
    user = await open_hub.as_user(password=PASSWORD)
    login = {"login": user.user["login"], "password": PASSWORD}

    async def cookie(**headers: str) -> str:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await open_hub.client().request("POST", "/auth", json=login, headers=sent)
        assert answer.status_code == 200, answer.text
        return answer.headers["set-cookie"]

    for origin in (TRUSTED, APP):
        assert (await cookie(origin=origin, **HTTPS)).endswith("; HttpOnly; SameSite=None; Secure")
    same_site = await cookie(origin=TRUSTED, sec_fetch_site="same-site", **HTTPS)
    assert same_site.endswith("; SameSite=Lax; Secure")
    assert (await cookie(origin=TRUSTED)).endswith("; SameSite=Lax")
    assert (await cookie(**HTTPS)).endswith("; SameSite=Lax; Secure")
    answer = await open_hub.client().request("GET", "/auth", headers={"Origin": TRUSTED})
    assert answer.headers["access-control-allow-origin"] == TRUSTED
    assert answer.headers["access-control-allow-credentials"] == "true"


async def test_the_cookie_over_https_is_bound_to_the_host(hub: Hub) -> None:
    """It is `__Host-sid` with Path=/, Secure and no Domain. `sid` is accepted too, and signing out clears both."""
    user = await hub.as_user(password=PASSWORD)
    login = {"login": user.user["login"], "password": PASSWORD}
    answer = await hub.client(**HTTPS).post("/auth", login)
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == "__Host-sid"
    assert "; Path=/; " in answer.headers["set-cookie"]
    assert "domain" not in answer.headers["set-cookie"].lower()
    for cookies in (f"__Host-sid={value}", f"sid={value}", f"sid=old; __Host-sid={value}", f"__Host-sid=; sid={value}"):
        assert good(await hub.client(cookie=cookies).get("/auth"))["_id"] == user.id
    async with live(hub, version=4, headers={"Cookie": f"__Host-sid={value}"}) as client:
        assert (await client.watch("users")).view.keys() == {user.id}
    ended = await hub.client(cookie=f"__Host-sid={value}", **HTTPS).delete("/auth")
    gone = [cookie.partition(";")[0] for cookie in ended.headers.get_list("set-cookie")]
    assert gone == ["__Host-sid=", "sid="]


@pytest.mark.parametrize(
    "origin",
    ["*", "https://x/", "x.com", "https://*.x", "null", "https://", "http://a b", "HTTPS://x", "https://x:70000",
     "https://x?y", "https://\xfc.example"],
)  # fmt: skip
def test_a_trusted_origin_that_is_none_stops_the_start(tmp_path: Path, origin: str) -> None:
    """One line names the setting and the value."""
    stops(tmp_path, "trusted_origins", origin)


@pytest.mark.parametrize("host", ["https://x", "*", "x/", "a b"])
def test_a_name_of_the_hub_that_is_none_stops_the_start(tmp_path: Path, host: str) -> None:
    stops(tmp_path, "allowed_hosts", host)


def stops(tmp_path: Path, setting: str, value: str) -> None:
    database = Database("sqlite", str(tmp_path / "hub.db"))
    process = launch(database, tmp_path, {setting: value})
    assert process.wait(timeout=30) != 0
    [line] = (tmp_path / "hub.log").read_text().splitlines()
    assert f"HUB_{setting.upper()}" in line
    assert value in line
    assert process.stdout
    process.stdout.close()


async def test_the_hub_answers_to_its_names_only(open_hub: Hub) -> None:
    """Other names are answered 421 in the API's format, over REST and live; health checks work with any name."""
    for host, expected in (("evil.example", 421), ("hub.example.org:8443", 401), ("hub.example.org", 421), ("", 421)):
        async with wire(open_hub.process.port) as connection:
            await connection.send(f"GET {API}/users HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = await connection.answer()
            assert answer.status == expected, host
            if expected == 421:
                assert (answer.json()["code"], answer.json()["tags"]) == ("421", ["error_misdirected_request"])
                assert "Host" in answer.json()["errors"]
    poll = await fetch(f"{open_hub.url}/socket.io/?EIO=4&transport=polling", host="evil.example")
    assert (poll.status_code, poll.json()["code"]) == (421, "421")
    assert (await fetch(f"{open_hub.url}/health/live", host="evil.example")).status_code == 200


async def test_this_machine_needs_no_allowed_name(tmp_path: Path) -> None:
    """Commands and Prometheus may use the hub's address; requests from a proxy still need an allowed name."""
    database = Database("sqlite", str(tmp_path / "hub.db"))
    async with running_hub(database, tmp_path, allowed_hosts="hub.example.org") as hub:
        address = f"127.0.0.1:{hub.process.port}"
        for host, forwarded, expected in (
            (address, {}, 200),
            ("localhost", {}, 200),
            ("evil.example", {}, 421),
            (address, {"x-forwarded-for": "203.0.113.9"}, 421),
            (address, {"via": "1.1 proxy"}, 421),
        ):
            answer = await hub.admin.get("/auth", host=host, **forwarded)
            assert answer.status_code == expected, (host, forwarded)
        assert (await fetch(f"{hub.url}/metrics")).status_code == 200


async def test_the_metrics_are_for_this_machine_and_administrators(hub: Hub, admin: Client, user: Client) -> None:
    """Metrics are restricted because they name stores. A request through a proxy, with another host name, or from a
    page in a browser does not count as one of this machine."""
    url = hub.url + "/metrics"
    assert (await fetch(url)).status_code == 200
    bearer = {"Authorization": admin.http.headers["Authorization"]}
    for headers in (
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-Ip": "203.0.113.9"},
        {"Host": "hub.example.org"},
        {"Origin": "https://elsewhere.example"},
    ):
        refused(await fetch(url, **headers), 401)
        refused(await fetch(url, Authorization=user.http.headers["Authorization"], **headers), 403)
        assert (await fetch(url, **bearer, **headers)).status_code == 200
    narrow = await hub.with_token(admin.user, scopes=["GET /units/*"])
    refused(await fetch(url, Host="x", Authorization=narrow.http.headers["Authorization"]), 403)


async def test_the_metrics_can_be_public_or_off(tmp_path: Path) -> None:
    database = Database("sqlite", str(tmp_path / "hub.db"))
    for setting, expected in (("public", 200), ("off", 404), ("false", 404), ("true", 401)):
        async with running_hub(database, tmp_path / setting, metrics=setting) as hub:
            assert (await fetch(hub.url + "/metrics", x_forwarded_for="203.0.113.9")).status_code == expected
