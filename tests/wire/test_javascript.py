"""JavaScript against the echo servers: protocol suites modelled on the public ones, and clients of every generation.

The suites make the same assertions, test by test, as those of engine.io-protocol (v3, v4) and socket.io-protocol
(v4, v5).
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
        for _ in range(3):  # its heartbeat allows 200 ms for an answer, which a busy machine may exceed
            output = javascript.run(packages, f"{layer}.mjs", url, layer, str(version))
            if counted(output) == everything:
                break
    assert counted(output) == everything, output


def counted(output: str) -> dict[str, str]:
    """Return the numbers of tests that Node ran and that passed."""
    return dict(re.findall(r"^(?:#|ℹ) (tests|pass) (\d+)", output, re.MULTILINE))


@pytest.fixture(scope="module")
def matrix(packages: Path) -> Iterator[dict[str, str]]:
    """The result of each client with each transport."""
    with javascript.echo_server("socketio", "ping_interval=25000", "ping_timeout=60000") as url:
        yield json.loads(javascript.run(packages, "matrix.mjs", url))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_client_of_this_generation_works(matrix: dict[str, str], generation: int, way: str) -> None:
    assert matrix[f"{generation} {way}"] == "ok"
