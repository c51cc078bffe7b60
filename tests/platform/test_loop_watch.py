"""The hub measures the turns of its own event loop, and counts refusals at limits."""

from __future__ import annotations

import asyncio
import time

import pytest

from hub.loop_watch import WINDOW, LongestOf, LoopWatch
from tests.platform.raw import wire
from tests.support.hub import Client, Hub
from tests.support.standstill import no_standstill, read_metrics


def burn(seconds: float) -> None:
    """Use this much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_a_long_turn_is_seen_by_its_cpu_time_and_by_the_clock() -> None:
    turns: list[float] = []
    watch = LoopWatch(turns.append)
    watch.start()
    await asyncio.sleep(0.1)
    burn(0.15)
    await asyncio.sleep(0.1)
    watch.stop()
    assert max(turns) >= 0.15
    assert watch.longest() >= 0.1


async def test_waiting_is_not_a_long_turn() -> None:
    turns: list[float] = []
    watch = LoopWatch(turns.append)
    watch.start()
    time.sleep(0.15)  # noqa: ASYNC251 - the loop stands still without using its thread's CPU, as beside a busy neighbour
    await asyncio.sleep(0.05)
    watch.stop()
    assert max(turns) < 0.1
    assert watch.longest() >= 0.1


def test_the_longest_turn_is_forgotten_after_a_minute() -> None:
    longest = LongestOf()
    longest.add(0.5, 100.0)
    longest.add(0.2, 100.0 + WINDOW)
    assert longest.read(100.0 + WINDOW) == 0.5
    assert longest.read(102.0 + WINDOW) == 0.2
    assert longest.read(200.0 + WINDOW) == 0.0


async def test_the_metrics_tell_the_longest_turn(hub: Hub, user: Client) -> None:
    async with no_standstill(hub.url):
        await user.get("/auth")
    metrics = await read_metrics(hub.url)
    assert metrics.value("hub_loop_turn_cpu_seconds_count") > 0
    assert metrics.value("hub_loop_lag_seconds") > 0


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        (b"GET /api/v1/openapi.json?" + b"a=1&" * 1_001 + b" HTTP/1.1\r\nHost: hub\r\n\r\n", "MOST_PARAMETERS"),
        (
            b"POST /api/v1/auth HTTP/1.1\r\nHost: hub\r\nContent-Length: 999999999\r\n\r\n",
            "max_auth_body_bytes",
        ),
    ],
    ids=["parameters", "body"],
)
async def test_a_refusal_at_a_limit_is_counted_under_its_name(hub: Hub, request_: bytes, limit: str) -> None:
    before = (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=limit)
    async with wire(hub.process.port) as raw:
        await raw.send(request_)
        assert (await raw.answer()).status in (400, 413)
    after = (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=limit)
    assert after == before + 1
