"""Calls that share a request to the server, and each get an answer of their own."""

from __future__ import annotations

import asyncio
from traceback import extract_tb

from stores.mongo.coalescer import Coalescer


async def test_calls_that_fail_together_have_an_error_each() -> None:
    """The errors are equal, with the same cause. The lines that one caller adds to its traceback are not in the
    others."""

    async def send(kind: str, items: list[int]) -> list[int | BaseException]:
        raise ConnectionError(kind, "broken") from ValueError("why")

    coalescer: Coalescer[str, int, int] = Coalescer(send, 10)
    outcomes = await asyncio.gather(*(coalescer.call("a", n) for n in range(5)), return_exceptions=True)
    assert [(type(e), e.args, repr(e.__cause__)) for e in outcomes if isinstance(e, ConnectionError)] == [
        (ConnectionError, ("a", "broken"), "ValueError('why')")
    ] * 5
    assert len({id(error) for error in outcomes}) == 5
    lines = [[line.name for line in extract_tb(e.__traceback__)] for e in outcomes if isinstance(e, BaseException)]
    assert all("send" in line and line.count("call") == 1 for line in lines), lines
