"""Well-behaved clients of a hub under attack, as a separate process: `python -m tests.hostile.bystanders URL TOKEN
STORE PAIRS`.

Each pair is a REST client that writes and reads back, and a live client that watches those writes. The program prints
``ready`` when all pairs work, runs until its standard input ends, and prints a `Report` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from tests.platform.raw import Wire, request, wire
from tests.support.hub import Client
from tests.support.live import LiveClient, Watch, live

PAUSE: Final = 0.3
"""Seconds between the rounds of one pair."""
MOST_ERRORS: Final = 20


@dataclass
class Report:
    """Measured seconds: `rest` from a request to its complete answer, `delivery` from a write to its event."""

    rest: list[float] = field(default_factory=list)
    delivery: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(text)


@dataclass
class Pair:
    """One REST client and the live client that watches its slice of the store."""

    report: Report
    store: str
    number: int
    token: str
    raw: Wire
    listener: LiveClient
    watch: Watch
    written: int = 0

    async def round(self) -> None:
        """Create an entity, read it back, find it in a list, and wait for its event."""
        fields = {"slice": self.number, "number": self.written}
        began = time.perf_counter()
        made = await self._call("POST", f"/{self.store}", fields)
        self.written += 1
        async with asyncio.TaskGroup() as both:  # the event may arrive before what is read back
            both.create_task(self._heard(made["_id"], began))
            read = await self._call("GET", f"/{self.store}/{made['_id']}")
            found = await self._call("GET", f"/{self.store}?slice={self.number}&sort=-number&limit=1")
        if read != made or [e["_id"] for e in found] != [made["_id"]] or made["number"] != fields["number"]:
            self.report.fault(f"wrong answers: {made} {read} {found}")

    async def _heard(self, id: str, began: float) -> None:
        await self.listener.until(lambda: id in self.watch.view)
        self.report.delivery.append(time.perf_counter() - began)

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else orjson.dumps(body)
        headers = ("Content-Type: application/json", f"Content-Length: {len(content)}") if content else ()
        began = time.perf_counter()
        await self.raw.send(request(method, path, self.token, *headers) + content)
        answer = await self.raw.answer()
        self.report.rest.append(time.perf_counter() - began)
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer.json()

    def judge(self) -> None:
        """Check that each write arrived as one insert, in order."""
        inserts = [event["entity"]["number"] for event in self.watch.events if event["op"] == "insert"]
        if inserts != list(range(self.written)):
            self.report.fault(f"slice {self.number}: {self.written} writes, events {inserts[:50]}")


async def run(url: str, token: str, store: str, pairs: int) -> Report:
    report, stop = Report(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    # A daemon, so that the program ends with an error that comes before the end of its input.
    threading.Thread(target=wait_for_end, daemon=True).start()
    async with AsyncExitStack() as stack:
        made = [await _pair(stack, report, url, token, store, number) for number in range(pairs)]
        await asyncio.gather(*(pair.round() for pair in made))
        report.rest.clear()
        report.delivery.clear()
        print("ready", flush=True)
        await asyncio.gather(*(_work(pair, stop) for pair in made))
        for pair in made:
            pair.judge()
    return report


async def _pair(stack: AsyncExitStack, report: Report, url: str, token: str, store: str, number: int) -> Pair:
    raw = await stack.enter_async_context(wire(urlsplit(url).port or 0))
    client = Client(url, {"Authorization": f"Bearer {token}"})
    stack.push_async_callback(client.close)
    listener = await stack.enter_async_context(live(url, client))
    watch = await listener.watch(store, filter={"slice": number})
    return Pair(report, store, number, token, raw, listener, watch)


async def _work(pair: Pair, stop: asyncio.Event) -> None:
    await asyncio.sleep(PAUSE * pair.number / 25)
    while not stop.is_set():
        try:
            await pair.round()
        except Exception as error:
            pair.report.fault(f"slice {pair.number}: {error!r}")
            return
        await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    url, token, store, pairs = sys.argv[1:]
    print(orjson.dumps(asdict(asyncio.run(run(url, token, store, int(pairs))))).decode(), flush=True)
