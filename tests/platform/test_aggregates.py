"""Sums and groups: `aggregate` and `by` over REST."""

from __future__ import annotations

import pytest

from tests.platform.answers import good
from tests.support.hub import Client, Hub


async def test_probe(user: Client, store: str) -> None:
    await user.make_all(
        store,
        [
            {"status": "open", "amount": 0.1},
            {"status": "open", "amount": 0.2},
            {"status": "paid", "amount": 7, "t": ["a", "b"]},
            {},
        ],
    )
    for q in (
        "aggregate=count",
        "aggregate=count,sum:amount,avg:amount&by=status&sort=-count",
        "aggregate=count&by=time:month@America/Toronto,t",
        "aggregate=count&by=%FF%F0",
        "aggregate=count&offset=1",
        "aggregate=sum:amount&by=a.0",
    ):
        a = await user.get(f"/{store}?{q}")
        print(q, a.status_code, a.text, a.headers.get("x-position"))
    h = await user.http.request("HEAD", f"/{store}?aggregate=count")
    print(h.status_code, dict(h.headers))
