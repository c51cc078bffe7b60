"""The listings API beside the same API in Django REST framework: `python -m benchmarks.listings [--listings N]`.

Both serve the same listings with the same images from SQLite, on the same core: the hub, and
`tests/listings/drf_app.py` under one worker of gunicorn. Figures are CPU per request, which the speed of a machine
changes alike for both. A key has 120 requests in a minute on both, so there are many keys.

With `--alone` the hub is measured without the framework, so that there may be a million listings: a page far behind is
to cost as much as the first one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.data import client
from benchmarks.load import LoadResult, load
from benchmarks.peers import plain_request
from benchmarks.processes import PASSWORD, ROOT, START_SECONDS, Cores, Hub, cpu_seconds, on_cores, running_hub
from benchmarks.report import conclude, number, parser, say

PAGE, FAR_PAGE, DETAIL, CREATE = OPERATIONS = ("first page", "a page far behind", "one listing", "create")
LEAST: Final = {PAGE: 8.0, FAR_PAGE: 8.0, DETAIL: 8.0, CREATE: 5.0}
"""How many times as much CPU as the hub the framework should take."""
MOST_BEHIND: Final = 1.1
"""The CPU of a page far behind, per that of the first page."""

HUB, FRAMEWORK = "hub", "Django REST framework"

EACH: Final = 100
"""Requests of a key."""
IMAGES: Final = 5
PAGE_SIZE: Final = 50
FAR: Final = 1_000
"""The number of the page far behind, if there are enough listings."""
PNG: Final = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NO_FILE: Final = {"url": "/media/00000000-0000-4000-8000-000000000000"}

LISTING: Final[dict[str, Any]] = {
    "title": "5 bedroom Bungalow for rent in Bbunga",
    "description": "A quiet house with a garden, near the lake. " * 10,
    "price": 1_500_000,
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "rent",
    "location": "Bbunga",
    "district": "kampala",
    "latitude": 0.3,
    "longitude": 32.58,
    "bedrooms": 5,
    "bathrooms": 4,
    "floor_size": 350,
    "plot_size": 50.5,
    "amenities": ["parking", "swimming-pool"],
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with listings: its requests by operation, for each key."""

    name: str
    address: tuple[str, int]
    pid: int
    requests: dict[str, list[list[bytes]]]


@dataclass(frozen=True, slots=True)
class Data:
    """What is in the hub: the number of the user, its keys, with those by which the page far behind is found
    (`walkers`), and its listings as entities, the oldest first."""

    number: int
    keys: Sequence[str]
    walkers: Sequence[str]
    listings: Sequence[dict[str, Any]]
    images: Sequence[dict[str, Any]]


def fill_hub(hub: Hub, listings: int, keys: int) -> Data:
    """Create a user with listings and keys."""
    with client(hub, "") as http:
        answer = http.post("auth/token", json={"login": "admin", "password": PASSWORD}).raise_for_status()
    with client(hub, answer.json()["token"]) as admin:
        user = admin.post("users", json={"login": "seller"}).raise_for_status().json()
        secrets = []
        for _ in range(keys + 1 + pages_behind(listings) // EACH):
            body = {"name": "benchmark", "kind": "listings", "scope": "RW", "user": user["_id"]}
            secrets.append(admin.post("keys", json=body).raise_for_status().json()["key"])
        token = admin.post("tokens", json={"name": "benchmark", "user": user["_id"]}).raise_for_status().json()["token"]
    with client(hub, token) as http:
        made = [entity for start in range(0, listings, 500) for entity in _create(http, "properties", [
            LISTING | {"title": f"{LISTING['title']} {n}"} for n in range(start, min(start + 500, listings))
        ])]  # fmt: skip
        images = [entity for start in range(0, listings, 200) for entity in _create(http, "property_images", [
            {"property": listing["_id"], "alt": "Front view"}
            for listing in made[start : start + 200] for n in range(IMAGES)
        ])]  # fmt: skip
        is_read = {made[index]["_id"] for index in read_listings(listings)}
        for image in images:
            if image["property"] in is_read:
                image["image"] = _upload(http, image["_id"])
    return Data(user["number"], secrets[:keys], secrets[keys:], made, images)


def _create(http: httpx.Client, store: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.post(store, json=bodies).raise_for_status().json()["entities"]
    return found


def _upload(http: httpx.Client, image: str) -> dict[str, Any]:
    """Give an image a file; return the value."""
    path, files = f"property_images/{image}/files/image", {"file": ("front.png", PNG, "image/png")}
    found: dict[str, Any] = http.post(path, files=files).raise_for_status().json()["image"]
    return found


def read_listings(listings: int) -> set[int]:
    """Return the listings that are asked for, whose images have files: those of the first page, and of the one far
    behind. They are numbered from the oldest."""
    behind = pages_behind(listings) * PAGE_SIZE
    newest_first = [*range(PAGE_SIZE), *range(behind, behind + PAGE_SIZE)]
    return {listings - 1 - index for index in newest_first if index < listings}


def pages_behind(listings: int) -> int:
    """Return how many pages there are before the one far behind, which is in the middle at most."""
    return min(FAR - 1, listings // (2 * PAGE_SIZE))


def fill_framework(data: Data, file: Path) -> None:
    """Give the framework the same data. In a process of its own: it is configured once."""
    os.environ["DRF_DATABASE"] = str(file)
    from tests.listings import drf_app as drf

    drf.make_tables()
    currency = drf.Currency.objects.create(code="UGX", symbol="USh")
    kind = drf.PropertyType.objects.create(name="Bungalow", slug="bungalow")
    district = drf.District.objects.create(
        name="Kampala", slug="kampala", region=drf.Region.objects.create(name="Central", slug="central")
    )
    amenities = [drf.Amenity.objects.create(name=n, slug=n, icon="bi-x") for n in ("parking", "swimming-pool")]
    own = {
        name: LISTING[name] for name in LISTING.keys() - {"currency", "property_type", "district", "amenities", "title"}
    }
    related = {"currency": currency, "property_type": kind, "district": district}
    moments = [drf.moment_of(each["time"]) for each in data.listings]
    drf.Property.objects.bulk_create(
        drf.Property(id=each["number"], owner=data.number, title=each["title"], created_at=at, updated_at=at,
                     **related, **own)
        for each, at in zip(data.listings, moments, strict=True)
    )  # fmt: skip
    through = drf.Property.amenities.through
    through.objects.bulk_create(
        through(property_id=each["number"], amenity_id=a.pk) for each in data.listings for a in amenities
    )
    numbers = {each["_id"]: each["number"] for each in data.listings}
    drf.PropertyImage.objects.bulk_create(
        drf.PropertyImage(id=i["number"], property_id=numbers[i["property"]],
                          url=f"http://x{(i.get('image') or NO_FILE)['url']}",
                          is_main=bool(i.get("is_main")), alt=i["alt"])
        for i in data.images
    )  # fmt: skip
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (*data.keys, *data.walkers)]
    drf.ApiKey.objects.bulk_create(drf.ApiKey(owner=data.number, scope="RW", digest=d) for d in digests)
    drf.connection.close()


@contextmanager
def running_framework(file: Path, cores: Cores) -> Iterator[tuple[tuple[str, int], int]]:
    """Run the framework under one worker of gunicorn; yield its address and the worker's process id."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--threads", "4", "--keep-alive", "60"]
    command += ["--bind", f"127.0.0.1:{port}", "--log-level", "error", "tests.listings.drf_app:application"]
    environment = os.environ | {"DRF_DATABASE": str(file), "PYTHONPATH": str(ROOT)}
    with on_cores(cores.hub):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        wait_for(("127.0.0.1", port))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield ("127.0.0.1", port), int(children[0])
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def wait_for(address: tuple[str, int]) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + 4 * START_SECONDS
    while True:
        try:
            httpx.get(f"http://{address[0]}:{address[1]}/v1/nothing/", trust_env=False, timeout=60)
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def server_of(name: str, address: tuple[str, int], pid: int, data: Data) -> Server:
    """Return the server with its requests. A page far behind has a cursor of the server's own."""
    base = f"v1/{data.number}/properties/"
    numbers = [data.listings[index]["number"] for index in sorted(read_listings(len(data.listings)))]
    behind = page_far_behind(address, data)
    paths = {PAGE: [base], FAR_PAGE: [behind], DETAIL: [f"{base}{number}/" for number in numbers], CREATE: [base]}
    per_operation = len(data.keys) // len(OPERATIONS)
    requests: dict[str, list[list[bytes]]] = {}
    for index, operation in enumerate(OPERATIONS):
        keys = data.keys[index * per_operation : (index + 1) * per_operation]
        found = paths[operation]
        method, body = ("POST", orjson.dumps(LISTING)) if operation == CREATE else ("GET", b"")
        requests[operation] = [
            [plain_request(address, {"authorization": f"Bearer {key}"}, method, found[n % len(found)], body)
             for n in range(EACH)]
            for key in keys
        ]  # fmt: skip
    return Server(name, address, pid, requests)


def page_far_behind(address: tuple[str, int], data: Data) -> str:
    """Return the path of the page, which is reached from the first one, page by page."""
    url = f"http://{address[0]}:{address[1]}/v1/{data.number}/properties/"
    with httpx.Client(trust_env=False, timeout=60) as http:
        for page in range(pages_behind(len(data.listings))):
            headers = {"Authorization": f"Bearer {data.walkers[page // EACH]}"}
            url = http.get(url, headers=headers).raise_for_status().json()["next"]
    return url.partition("/")[2].partition("/")[2].partition("/")[2]


async def measure(server: Server, operation: str) -> tuple[float, LoadResult]:
    """Return the CPU per request in µs, over one connection, and the result of the load."""
    total = LoadResult()
    before = cpu_seconds(server.pid) or 0.0
    for each in server.requests[operation]:
        result = await load(server.address, [iter(each)], 600)
        total.latencies.extend(result.latencies)
        total.failures += result.failures
    spent = (cpu_seconds(server.pid) or 0.0) - before
    return spent / max(1, len(total.latencies)) * 1e6, total


def main() -> int:
    made = parser("benchmarks.listings", __doc__, mongodb=False)
    made.add_argument("--listings", type=int, default=5_000, help="listings of the user (default 5 000)")
    made.add_argument("--keys", type=int, default=12, help="keys of 100 requests each, for all operations (default 12)")
    made.add_argument("--alone", action="store_true", help="measure the hub without the framework")
    given = made.parse_args()
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, running_hub("", cores) as hub:
        file = Path(name) / "framework.db"
        data = fill_hub(hub, given.listings, given.keys)
        servers = [server_of(HUB, (hub.host, hub.port), hub.pid, data)]
        if given.alone:
            rows, faults = measure_all(servers)
        else:
            fill_framework(data, file)
            with running_framework(file, cores) as (address, pid):
                servers.append(server_of(FRAMEWORK, address, pid, data))
                rows, faults = measure_all(servers)
    return conclude(lines_of(rows), faults + missed_by(rows), {"rows": rows}, given.json, "all targets are met")


def measure_all(servers: Sequence[Server]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each operation, with the CPU per request of each server, and the errors."""
    rows, faults = list[dict[str, Any]](), list[str]()
    for operation in OPERATIONS:
        row: dict[str, Any] = {"operation": operation}
        for server in servers:
            row[server.name], result = asyncio.run(measure(server, operation))
            faults += [f"{server.name}, {operation}: {text}" for text in dict.fromkeys(result.failures)]
        if FRAMEWORK in row:
            row["ratio"] = row[FRAMEWORK] / row[HUB]
        say(f"{operation}: {number(row[HUB])} µs, {number(row.get('ratio'))}")
        rows.append(row)
    return rows, faults


def missed_by(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each target that is missed."""
    faults = [
        f"{row['operation']}: {row['ratio']:.1f} is below {LEAST[row['operation']]}"
        for row in rows
        if "ratio" in row and row["ratio"] < LEAST[row["operation"]]
    ]
    micros = {row["operation"]: row[HUB] for row in rows}
    if micros[FAR_PAGE] > MOST_BEHIND * micros[PAGE]:
        faults.append(f"{FAR_PAGE}: {micros[FAR_PAGE] / micros[PAGE]:.2f} times the CPU of the first page")
    return faults


def lines_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"| operation | {HUB} µs | {FRAMEWORK} µs | ratio | target |", "| --- " * 5 + "|"]
    for row in rows:
        figures = (row[HUB], row.get(FRAMEWORK), row.get("ratio"), LEAST[row["operation"]])
        cells = map(number, figures)
        lines.append(f"| {row['operation']} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
