"""Records the exchanges between the tests' clients and a hub, for `python -m tests.recorded`.

As a pytest plugin it writes one JSON line per test to the file that HUB_TEST_EXCHANGES names: the test's id and its
exchanges. Without that variable it records nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import httpx
import orjson
import pytest

FILE: Final = os.environ.get("HUB_TEST_EXCHANGES")

LONGEST: Final = 20_000
"""Characters to which a recorded text is cut."""

_HEADERS: Final = frozenset({"x-request-id", "date", "content-length", "connection", "server"})
"""Response headers that do not show the hub's behaviour, or depend on masked values."""

_MASKS: Final = tuple(
    (re.compile(pattern), mask)
    for pattern, mask in (
        (r'("(?:position|channel|cursor|next|sid|token|secret|url|codes|credential|digest)":\s?)"[^"]*"', r'\1"*"'),
        (r'("prefix":\s?)"[^"]*"', r'\1"*"'),
        (r'("codes":)\[[^]]*\]', r"\1[*]"),
        (r"(\b(?:after|since|channel)(?:=|%3D))[^&>\s\"]+", r"\1*"),
        (r"((?:x-position|etag): )[^\n]*~[^\n]*", r"\1*"),
        (r"(x-position: )[^\n]*", r"\1*"),
        (r"((?:__Host-)?sid=)[^;]*", r"\1*"),
        (r"(Expires=)[^;]*", r"\1*"),
        (r"(?:(?<=%22)|\b)[0-9A-Fa-f]{24}\b", "ID"),
        (r"\b[0-9a-f]{12}(?=s?\b)", "NAME"),
        (r"\b1[5-9]\d{11}(?:\.\d+)?\b", "TIME"),
        (r"\d{4}-\d\d-\d\dT\d\d(?::|%3A)\d\d(?::|%3A)\d\d(?:\.\d+)?Z?", "TIME"),
        (r"(?:127\.0\.0\.1|localhost):\d+", "HOST"),
        (r"[A-Za-z0-9_-]{43,}", "SECRET"),
    )
)

_kept: list[str] = []


def masked(text: str) -> str:
    """Mask the values that differ between runs: ids, times, positions, cursors, channels, names and secrets."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text[:LONGEST]


def keep(text: str) -> None:
    """Record one exchange of the running test."""
    if FILE:
        _kept.append(masked(text))


async def keep_answer(response: httpx.Response) -> None:
    """Record a request and its answer; an httpx hook."""
    if not FILE:
        return
    request = response.request
    try:
        sent = request.content[:LONGEST].decode("utf-8", "backslashreplace")
    except httpx.RequestNotRead:
        sent = "(streamed)"
    await response.aread()
    headers = sorted(f"{n.lower()}: {v}" for n, v in response.headers.multi_items() if n.lower() not in _HEADERS)
    asked = sorted(f"{n}: {v}" for n, v in request.headers.items() if n.startswith("if-") or n == "idempotency-key")
    keep(
        "\n".join(
            [
                f"{request.method} {request.url.raw_path.decode()}",
                *asked,
                f"> {sent}",
                f"< {response.status_code}",
                *headers,
                response.text,
            ]
        )
    )


def keep_packet(packet: str) -> None:
    """Record a Socket.IO packet from the hub, except pings and ``position`` events, which are sent at intervals."""
    if packet.startswith("4") and not packet.startswith('42["position"'):
        keep(f"live {packet}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _kept.clear()
    result = yield
    if FILE and _kept:
        with Path(FILE).open("ab") as file:
            file.write(orjson.dumps({"test": item.nodeid, "exchanges": _kept}) + b"\n")
    return result
