"""Every hub's log is searched for the secrets of the tests, and the search works."""

from __future__ import annotations

import secrets

from tests.support.hub import ADMIN_PASSWORD, Hub
from tests.support.secrets import found_in, note


def test_noted_secrets_are_found_wherever_they_stand() -> None:
    token, password = secrets.token_urlsafe(32), f"pass {secrets.token_hex(8)}"
    note(token)
    note(password)
    assert found_in(f"GET /socket.io/?token={token}&EIO=3") == [token]
    assert found_in(f"x{token}x") == [token]
    assert found_in(f'{{"password":"{password}"}}') == [password]
    assert found_in("GET /api/v1/auth 200") == []


async def test_what_clients_send_and_get_is_noted(hub: Hub) -> None:
    password = f"pass {secrets.token_hex(8)}"
    user = await hub.as_user(password)
    session = await hub.as_session(user.user["login"], password)
    access = await hub.token_of(user.user["login"], password)
    cookie = next(iter(session.http.cookies.values()))
    token = user.http.headers["authorization"].removeprefix("Bearer ")
    for secret in (password, cookie, access, token, ADMIN_PASSWORD):
        assert found_in(f"… {secret} …") == [secret]
