"""Tests of the harness itself: it passes on a quiet hub, and fails for a hub that does harm."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.hostile.harness import check_log, percentile, unharmed
from tests.support.hub import Hub


@pytest.mark.alone
async def test_a_quiet_hub_is_unharmed(hub: Hub) -> None:
    async with unharmed(hub):
        await asyncio.sleep(2)


async def attack_by_a_pause(hub: Hub) -> None:
    async with unharmed(hub):
        await asyncio.sleep(0.5)
        hub.process.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        hub.process.process.send_signal(signal.SIGCONT)


@pytest.mark.alone
@pytest.mark.engine("sqlite")
async def test_a_hub_that_stands_still_is_harmed(hub: Hub) -> None:
    with pytest.raises(AssertionError, match="p99"):
        await attack_by_a_pause(hub)


def test_a_traceback_and_a_secret_in_the_log_are_found() -> None:
    with pytest.raises(AssertionError):
        check_log("x\nTraceback (most recent call last):\n", ())
    with pytest.raises(AssertionError):
        check_log("GET /?token=abc", ("abc",))
    check_log("GET /", ("abc",))


def test_the_percentile_is_of_the_slowest() -> None:
    assert percentile([0.1] * 99 + [5.0], 0.99) == 5.0
    assert percentile([0.1] * 100, 0.99) == 0.1
