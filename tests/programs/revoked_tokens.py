"""Prints the CPU seconds that a resolver takes for a hundred revoked tokens, for each number of principals that it
remembers, and how many are read again."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

from auth.resolver import Resolver
from auth.secrets import digest
from stores.records import Change, Entity, now_ms

REVOKED = 100


class Tokens:
    """An engine with so many tokens, each of a user of its own."""

    def __init__(self, count: int) -> None:
        self.feed = self
        self.numbers = {digest(f"secret{number}"): number for number in range(count)}
        self.reads = 0

    async def entities(self, store: str, query: Any) -> list[Entity]:
        value = query.where.value
        if store == "tokens":
            self.reads += 1
            number = self.numbers[value]
            return [{"_id": f"token{number}", "user": f"{number:024x}", "expires": None}]
        return [{"_id": value, "login": value}] if store == "users" else []


async def cost(count: int) -> tuple[float, int]:
    tokens: Any = Tokens(count)
    resolver = Resolver(tokens, count)
    for number in range(count):
        await resolver.resolve(f"secret{number}")
    assert tokens.reads == count
    changes = [
        Change("1", "delete", "tokens", f"token{number}", {"user": f"{number:024x}"}, None, None, now_ms())
        for number in range(REVOKED)
    ]
    gc.collect()
    gc.disable()
    began = time.thread_time()
    for change in changes:
        resolver.forget([change])
    taken = time.thread_time() - began
    gc.enable()
    for number in range(count):
        await resolver.resolve(f"secret{number}")
    return taken, tokens.reads - count


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        print(*asyncio.run(cost(count)))
