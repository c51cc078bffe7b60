"""Every secret that the tests use, so that each hub's log can be searched for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson

CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_-]{43,}")
"""Text that may be a session cookie or a token: 256 bits in the URL-safe base64 alphabet."""

WORDS: Final = frozenset({"password", "correct", "secret"})
"""Passwords of tests that also occur as words in ordinary log lines."""

SECRET_NAMES: Final = frozenset({"password", "current_password", "token", "secret", "code", "codes"})

KEY_NAMES: Final = frozenset({"key"})
"""In other answers, `key` is no secret."""

_credentials: set[str] = set()
_passwords: set[str] = set()


def note(secret: object) -> None:
    """Remember a secret, except short ones and plain words, which may be in a log by chance."""
    if not isinstance(secret, str) or len(secret) < 8 or secret.lower() in WORDS:
        return
    (_credentials if CREDENTIAL.fullmatch(secret) else _passwords).add(secret)


def found_in(text: str) -> list[str]:
    """Return the noted secrets that occur in `text`."""
    seen = {word[at : at + 43] for word in CREDENTIAL.findall(text) for at in range(len(word) - 42)}
    return [*(seen & _credentials), *(password for password in _passwords if password in text)]


async def note_request(request: httpx.Request) -> None:
    """Note the secrets that a client sends; an httpx hook."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        note(token)
    try:
        body = request.content
    except httpx.RequestNotRead:  # a streamed body; in the tests these hold no secrets
        return
    for secret in _secrets_of(body):
        note(secret)


async def note_response(response: httpx.Response) -> None:
    """Note the secrets that the hub issues; an httpx hook."""
    for cookie in response.headers.get_list("set-cookie"):
        note(cookie.partition("=")[2].partition(";")[0])
    path = response.url.path
    if "/auth" in path or "/tokens" in path or "/keys" in path:
        await response.aread()
        for secret in _secrets_of(response.content, KEY_NAMES if "/keys" in path else SECRET_NAMES):
            note(secret)


def _secrets_of(body: bytes, names: frozenset[str] = SECRET_NAMES) -> Iterator[Any]:
    """Yield the values of members with the name of a secret."""
    if not any(name.encode() in body for name in names):
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield from (item[name] for name in names & item.keys())
