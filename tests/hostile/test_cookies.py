"""Cookies of other applications on the same host never hide the session, and no cookie takes long to parse."""

from __future__ import annotations

import pytest

from tests.platform.raw import RawAnswer, wire
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, Hub, StartHub
from tests.support.standstill import no_standstill

pytestmark = pytest.mark.engine("sqlite")  # cookies are parsed before the engine is used


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    return await sqlite_hub()


@pytest.fixture(scope="module")
async def sid(hub: Hub) -> str:
    """The value of a session cookie."""
    session = await hub.as_session(ADMIN_LOGIN, ADMIN_PASSWORD)
    return str(session.http.cookies["sid"])


async def ask(hub: Hub, *cookies: str) -> RawAnswer:
    """Send the Cookie headers to ``GET /auth``; return the answer."""
    lines = ["GET /api/v1/auth HTTP/1.1", "Host: hub", *(f"Cookie: {cookie}" for cookie in cookies), "", ""]
    async with wire(hub.process.port) as connection:
        await connection.send("\r\n".join(lines).encode("latin-1"))
        return await connection.answer()


NEIGHBOURS = [
    'prefs={"a":1}; sid=%s',
    "flag; sid=%s",
    "a=b c; sid=%s",
    'a="q; sid=%s',
    "=; ;;sid=%s",
    "a=\xe9; sid=%s",
    "sid=%s; prefs={}",
    "mysid=no; sid=%s",
    'sid="%s"',
    "sid = %s",
    "$Version=1; sid=%s; $Path=/",
]


@pytest.mark.parametrize("cookies", NEIGHBOURS)
async def test_odd_cookies_do_not_hide_the_session(hub: Hub, sid: str, cookies: str) -> None:
    assert (await ask(hub, cookies % sid)).status == 200


async def test_the_session_is_found_in_any_cookie_header(hub: Hub, sid: str) -> None:
    """A proxy that speaks HTTP/2 may send one header per cookie."""
    assert (await ask(hub, "a=b", f"sid={sid}")).status == 200


@pytest.mark.parametrize("cookie", ["sid", "sid=", "sid=;", "Sid=%s", 'sid="', "x=sid=%s", "sid=\xff"])
async def test_what_is_no_session_is_refused(hub: Hub, sid: str, cookie: str) -> None:
    assert (await ask(hub, cookie.replace("%s", sid))).status == 401


@pytest.mark.parametrize("filler", [b'\\"', b'"', b";", b"sid;", b"sid=;", b"=", b"a=b c;", b"\\"])
async def test_a_long_cookie_takes_no_time(hub: Hub, filler: bytes) -> None:
    value = (filler * 60_000)[:60_000].decode()
    async with no_standstill(hub.url):
        assert (await ask(hub, f'sid="{value}"')).status == 401
