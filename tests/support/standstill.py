"""Asserts that a hub's event loop is never blocked: no turn takes much CPU time of the loop's thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hub import PATIENCE, Hub

LONGEST_TURN: Final = 0.1
"""Seconds of CPU time that one turn of the loop may take; must be a bucket of the histogram."""


class Metrics:
    """A hub's metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; 0 if there are none."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    def turns_longer_than(self, seconds: float) -> int:
        """Return the number of turns since the hub started that took more CPU time than `seconds`."""
        bucket = str(float(seconds))
        name = "hub_loop_turn_cpu_seconds"
        return int(self.value(f"{name}_count") - self.value(f"{name}_bucket", le=bucket))


async def read_metrics(url: str) -> Metrics:
    """Return the current metrics of the hub at `url`."""
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as http:
        answer = await http.get(f"{url}/metrics")
    assert answer.status_code == 200, answer.text
    return Metrics(answer.text)


@asynccontextmanager
async def no_standstill(url: str, longest: float = LONGEST_TURN) -> AsyncGenerator[None, None]:
    """Fail if a turn of the loop takes more than `longest` seconds of CPU time while the block runs."""
    before = (await read_metrics(url)).turns_longer_than(longest)
    yield
    metrics = await read_metrics(url)
    more = metrics.turns_longer_than(longest) - before
    lag = metrics.value("hub_loop_lag_seconds")
    assert not more, f"{more} turns of the loop took more than {longest} s of CPU (longest wait: {lag:.3f} s)"


async def limit_reached(hub: Hub, name: str) -> float:
    return (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=name)
