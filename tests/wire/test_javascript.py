"""JavaScript against the echo servers: suites after the public ones of the protocols, and clients of every generation.

The suites assert, test by test, what those of engine.io-protocol (v3, v4) and socket.io-protocol (v4, v5) assert.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire import javascript

GENERATIONS = (1, 2, 3, 4)
WAYS = ("websocket", "polling", "upgrade")


@pytest.fixture(scope="module")
def packages() -> Path:
    return javascript.installed()


@pytest.mark.timeout(400)  # the first time the packages are installed
@pytest.mark.parametrize(
    ("layer", "version", "tests"),
    [("engineio", 4, 25), ("engineio", 3, 24), ("socketio", 4, 32), ("socketio", 3, 29)],
)
def test_the_protocol_suite_passes(packages: Path, layer: str, version: int, tests: int) -> None:
    everything = {"tests": str(tests), "pass": str(tests)}
    with javascript.echo_server(layer) as url:
        output = javascript.run(packages, f"{layer}.mjs", url, layer, str(version))
        if counted(output) != everything:
            # Its heartbeat leaves 200 ms for an answer, which a busy machine may miss; not twice.
            output = javascript.run(packages, f"{layer}.mjs", url, layer, str(version))
    assert counted(output) == everything, output


def counted(output: str) -> dict[str, str]:
    """How many tests Node ran, and how many passed."""
    return dict(re.findall(r"^(?:#|ℹ) (tests|pass) (\d+)", output, re.MULTILINE))


@pytest.fixture(scope="module")
def matrix(packages: Path) -> Iterator[dict[str, str]]:
    """What became of each client in each way to connect."""
    with javascript.echo_server("socketio", "ping_interval=25000", "ping_timeout=60000") as url:
        yield json.loads(javascript.run(packages, "matrix.mjs", url))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_client_of_this_generation_works(matrix: dict[str, str], generation: int, way: str) -> None:
    assert matrix[f"{generation} {way}"] == "ok"
