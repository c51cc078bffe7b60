"""The comparison measures the hub beside other servers; Feathers with sign-in enforces its rules."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.compare import Result, Results, as_json, lines_of
from benchmarks.data import READINGS, body
from benchmarks.peers import EVE, FEATHERS, FILTERED, LIST, LIVE, READ, SIGNED_IN, SORTED, Subject, running_peer
from benchmarks.pocketbase import NAME as POCKETBASE
from benchmarks.processes import Cores

ENTITIES = 1_500


SERVERS = {
    "hub": "hub, sqlite",
    "mongodb": "hub, mongodb",
    "signed_in": SIGNED_IN.name,
    "free": FEATHERS.name,
    "eve": EVE.name,
    "pocketbase": POCKETBASE,
}


def results(operation: str = READ, **per_second: list[float]) -> Results:
    """Return the results of one operation, with the rounds of the hub and of its peers."""
    return {(operation, SERVERS[key]): Result(rounds, [100.0], [1.0]) for key, rounds in per_second.items()}


def test_the_hub_stands_beside_its_peers_round_by_round() -> None:
    """The figure is the median of the ratios, not the ratio of the medians."""
    rounds = {"signed_in": [100.0, 100.0, 400.0], "free": [200.0] * 3, "pocketbase": [300.0, 300.0, 200.0]}
    figures = as_json(results(hub=[900.0, 800.0, 4000.0], **rounds))
    times = {row["server"]: row["times"] for row in figures["rows"]}
    beside = {"signed in": 9.0, "open": 4.5, "PocketBase": 3.0}
    assert times == {"hub, sqlite": beside, SIGNED_IN.name: {}, FEATHERS.name: {}, POCKETBASE: {}}
    lines = lines_of(figures)
    assert lines[0] == "| operation | hub, sqlite | Feathers 5, signed in | Feathers 5, open | PocketBase 0.40 |"
    assert lines[2] == (
        "| read by id | 900/s (**9.0 ×**, open 4.5 ×, PocketBase 3.0 ×), 100 µs "
        "| 100/s, 100 µs | 200/s, 100 µs | 300/s, 100 µs |"
    )
    assert figures["misses"] == []


@pytest.mark.parametrize(
    ("per_second", "misses"),
    [
        (390.0, ["3.90 × Feathers 5, signed in, below 4", "1.95 × Feathers 5, open, below 4"]),
        (790.0, ["3.95 × Feathers 5, open, below 4"]),
        (800.0, []),
    ],
)
def test_a_target_is_missed_beside_each_feathers(per_second: float, misses: list[str]) -> None:
    """The target of the hub on SQLite is four times the throughput of either; Eve has no target."""
    figures = as_json(results(hub=[per_second], signed_in=[100.0], free=[200.0], eve=[1.0]))
    assert figures["misses"] == [f"hub, sqlite, read by id: {miss}" for miss in misses]


def test_pocketbase_has_a_target_on_sqlite_and_rows_that_others_lack() -> None:
    """The target is three times its throughput; the hub on MongoDB has none."""
    figures = as_json(results(LIVE, hub=[290.0], mongodb=[1.0], pocketbase=[100.0]))
    assert figures["misses"] == [f"hub, sqlite, {LIVE}: 2.90 × PocketBase 0.40, below 3"]
    assert "290/s (PocketBase 2.9 ×), 100 µs" in lines_of(figures)[2]


@pytest.fixture(scope="module")
def signed_in(mongodb: str) -> Iterator[Subject]:
    with running_peer(SIGNED_IN, mongodb, Cores(), ENTITIES) as subject:
        yield subject


@pytest.fixture
def http(signed_in: Subject) -> Iterator[httpx.Client]:
    """A client without credentials."""
    host, port = signed_in.address
    with httpx.Client(base_url=f"http://{host}:{port}/", trust_env=False, timeout=30) as client:
        yield client


def head(request: bytes) -> tuple[str, dict[str, str]]:
    """Return the path and the headers of a request of the benchmark."""
    first, *lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return first.split()[1], dict(line.split(": ", 1) for line in lines)


@pytest.mark.full
@pytest.mark.engine("mongodb")
@pytest.mark.parametrize(
    ("operation", "length", "order"), [(LIST, 100, "_id"), (FILTERED, 3, "_id"), (SORTED, 3, "value")]
)
def test_a_list_holds_what_its_user_owns(
    signed_in: Subject, http: httpx.Client, operation: str, length: int, order: str
) -> None:
    """It has the entities that the benchmark expects, in order. Another user's list is empty, and without credentials
    the answer is 401."""
    path, headers = head(signed_in.requests[operation][0])
    answer = http.get(path, headers=headers)
    entities = answer.raise_for_status().json()
    found = [each[order] for each in entities]
    assert found == sorted(found, reverse=operation == SORTED)
    assert (len(entities), len({each["userId"] for each in entities})) == (length, 1)
    assert body(entities[0]["serial"]).items() <= entities[0].items()
    assert http.get(path).status_code == 401
    assert http.get(path, headers=another(http)).json() == []


@pytest.mark.full
@pytest.mark.engine("mongodb")
def test_an_entity_is_read_by_its_owner_alone(signed_in: Subject, http: httpx.Client) -> None:
    path, headers = head(signed_in.requests[READ][0])
    assert http.get(path, headers=headers).json()["_id"] == path.rpartition("/")[2]
    assert (http.get(path).status_code, http.get(path, headers=another(http)).status_code) == (401, 404)


@pytest.mark.full
@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("spoilt", [{"serial": "1"}, {"place": {}}, {"surplus": 1}, {"userId": "0" * 24}])
def test_what_is_created_is_checked_one_by_one(
    signed_in: Subject, http: httpx.Client, spoilt: dict[str, object]
) -> None:
    """An array with one invalid item is refused as a whole."""
    headers = {"authorization": head(signed_in.requests[LIST][0])[1]["authorization"]}
    for data in (body(1) | spoilt, [body(1), body(2) | spoilt]):
        assert http.post(READINGS, json=data, headers=headers).status_code == 400
    assert http.post(READINGS, json=body(1)).status_code == 401


def another(http: httpx.Client) -> dict[str, str]:
    """Sign up another user; return its headers."""
    account = {"email": f"{secrets.token_hex(6)}@example.org", "password": "visitor's"}
    http.post("users", json=account).raise_for_status()
    answer = http.post("authentication", json={"strategy": "local", **account}).raise_for_status()
    return {"authorization": f"Bearer {answer.json()['accessToken']}"}
