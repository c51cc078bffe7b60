"""Uploads of photographs beside reads: `python -m benchmarks.uploads [--uploads N]`.

Users upload photographs of 12 million pixels, all at once, while others read entities by id at a steady pace. Memory is
the resident memory of the hub and its workers together, at its highest; what they share is counted for each of them.
The latency of the reads is compared with that of the same reads before. The hub and its workers may use all cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.data import client, made, sign_in
from benchmarks.images import SIZE, photo
from benchmarks.load import LoadResult, load
from benchmarks.peers import plain_request
from benchmarks.processes import PASSWORD, Cores, Hub, resident_kib, running_hub
from benchmarks.report import conclude, parser, say

USERS: Final = 10
READERS: Final = 4
PAUSE: Final = 0.005
"""Seconds between two reads of a reader."""
QUIET_SECONDS: Final = 20.0
MOST_RATIO: Final = 3.0
"""The target: the 99th percentile of the reads beside uploads, per that without."""
MOST_MEMORY: Final = 500
"""MiB."""
SAMPLING: Final = 0.02
_TURNS: Final = re.compile(r'^hub_loop_turn_cpu_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


def prepare(hub: Hub, uploads: int) -> tuple[list[tuple[str, str]], bytes]:
    """Make users and entities without files. Return a token and an entity for each upload, and a request that reads."""
    admin_token = sign_in(hub, "admin", PASSWORD)
    targets: list[tuple[str, str]] = []
    with client(hub, admin_token) as admin:
        made(admin, "stores", {"name": "photos", "fields": [{"id": "image", "type": "Image"}]})
        role = made(admin, "roles", {"name": "photographers", "scopes": ["* /photos/*"]})["_id"]
        for n in range(USERS):
            user = made(admin, "users", {"login": f"user-{n}", "roles": [role]})["_id"]
            token = made(admin, "tokens", {"name": "benchmark", "user": user})["token"]
            with client(hub, token) as http:
                targets += [(token, made(http, "photos", {})["_id"]) for _ in range(n, uploads, USERS)]
    address = (hub.host, hub.port)
    token, entity = targets[0]
    read = plain_request(address, {"authorization": f"Bearer {token}"}, "GET", f"api/v1/photos/{entity}", b"")
    return targets, read


async def read_steadily(hub: Hub, request: bytes, uploads: asyncio.Future[Any] | None = None) -> LoadResult:
    """Read until the uploads are done, or for some seconds without any."""
    requests = [itertools.repeat(request) for _ in range(READERS)]
    return await load((hub.host, hub.port), requests, QUIET_SECONDS, pause=PAUSE, until=uploads)


def upload_apart(url: str, targets: Sequence[tuple[str, str]], image: bytes) -> int:
    """Run `upload_all` in a process of its own, which takes what the hub and the reads leave: clients are elsewhere."""
    os.nice(19)
    return asyncio.run(upload_all(url, targets, image))


async def upload_all(url: str, targets: Sequence[tuple[str, str]], image: bytes) -> int:
    """Upload an image to each entity, all at once. Return how many uploads the hub refused at first."""
    refusals = 0

    async def upload(http: httpx.AsyncClient, token: str, entity: str) -> None:
        nonlocal refusals
        while True:
            answer = await http.post(
                f"/api/v1/photos/{entity}/files/image",
                files={"file": ("photo.jpg", image, "image/jpeg")},
                headers={"Authorization": f"Bearer {token}"},
            )
            if answer.status_code != 503:
                answer.raise_for_status()
                return
            refusals += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))

    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as http:
        await asyncio.gather(*(upload(http, *target) for target in targets))
    return refusals


async def most_memory(pid: int, works: asyncio.Future[Any]) -> float:
    """Return the highest memory of a process and its children in MiB, until the works are done."""
    most = 0.0
    while not works.done():
        most = max(most, sum(resident_kib(each) or 0.0 for each in (pid, *children_of(pid))))
        await asyncio.sleep(SAMPLING)
    return most / 1024


def children_of(pid: int) -> list[int]:
    """Return the child processes that a process has now."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in file.read_text().split()]
        except OSError:  # the thread has just ended
            continue
    return found


def longest_turn(hub: Hub) -> str:
    """Return the bound of the bucket with the longest turn of the loop since the start, in seconds of CPU."""
    with client(hub, sign_in(hub, "admin", PASSWORD)) as http:
        text = http.get(f"{hub.url}/metrics").raise_for_status().text
    counts = {bound: float(count) for bound, count in _TURNS.findall(text)}
    reached = [bound for bound, count in counts.items() if count == counts["+Inf"]]
    return str(min(reached, key=float))


async def measure(hub: Hub, image: bytes, uploads: int) -> dict[str, Any]:
    """Return the figures."""
    targets, request = await asyncio.to_thread(prepare, hub, uploads)
    say("reads alone ...")
    alone = await read_steadily(hub, request)
    say(f"{uploads} uploads at once ...")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        works = asyncio.get_running_loop().run_in_executor(apart, upload_apart, hub.url, targets, image)
        beside, memory, refusals = await asyncio.gather(
            read_steadily(hub, request, works), most_memory(hub.pid, works), works
        )
    return {
        "uploads": uploads,
        "bytes": len(image),
        "seconds": beside.seconds,
        "refusals": refusals,
        "memory_mib": memory,
        "alone_ms": alone.percentile(0.99) * 1e3,
        "beside_ms": beside.percentile(0.99) * 1e3,
        "ratio": beside.percentile(0.99) / alone.percentile(0.99),
        "turn": await asyncio.to_thread(longest_turn, hub),
        "failures": list(dict.fromkeys([*alone.failures, *beside.failures])),
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['uploads']} uploads of {found['bytes'] / 1e6:.1f} MB at once took {found['seconds']:.0f} s"
        f" ({found['refusals']} were refused with 503 at first).",
        f"The hub and its workers had at most {found['memory_mib']:.0f} MiB (target {MOST_MEMORY}).",
        f"99 of 100 reads took at most {found['alone_ms']:.1f} ms alone, and {found['beside_ms']:.1f} ms beside them:"
        f" {found['ratio']:.2f} times (target {MOST_RATIO:.0f}).",
        f"The longest turn of the loop took at most {found['turn']} s of CPU, with what came up to 20 ms before it.",
    ]


def faults_of(found: dict[str, Any]) -> list[str]:
    faults: list[str] = list(found["failures"])
    if found["memory_mib"] > MOST_MEMORY:
        faults.append(f"memory: {found['memory_mib']:.0f} MiB")
    if found["ratio"] > MOST_RATIO:
        faults.append(f"reads: {found['ratio']:.2f} times the latency")
    return faults


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.uploads", __doc__, mongodb=False)
    options.add_argument("--uploads", type=int, default=100, help="uploads at once, up to 100 (default 100)")
    options.add_argument("--width", type=int, default=SIZE[0], help="pixels in width, 4 to 3 (default 4000)")
    return options.parse_args()


def main() -> int:
    """Print the figures; return 1 if a target is missed."""
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        file = Path(folder) / "photo.jpg"
        photo((given.width, given.width * 3 // 4)).save(file, "JPEG", quality=90)
        image = file.read_bytes()
    with running_hub("", Cores()) as hub:
        found = asyncio.run(measure(hub, image, given.uploads))
        found["failures"] += hub.complaints()
    return conclude(lines_of(found), faults_of(found), found, given.json, "all targets are met")


if __name__ == "__main__":
    sys.exit(main())
