"""What the process keeps of all connections: requests sent behind others take turns."""

from __future__ import annotations

import asyncio
from typing import Any

from hub.connections import TURNS, ConnectionLimits, Connections


def connections() -> Connections:
    return Connections(ConnectionLimits(), lambda _: False, lambda _: None)


async def test_a_turn_that_fails_holds_up_none_behind_it() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    taken: list[int] = []

    def fail() -> None:
        raise RuntimeError("a defect")

    turns = connections()
    turns.in_turn(None, fail)
    for number in range(2 * TURNS):
        turns.in_turn(None, lambda number=number: taken.append(number))  # type: ignore[misc]
    for _ in range(4):
        await asyncio.sleep(0)
    assert taken == list(range(2 * TURNS))
    assert [str(failure["exception"]) for failure in failures] == ["a defect"]


async def test_some_turns_are_taken_at_a_time() -> None:
    """Others of the loop come between."""
    taken: list[int] = []
    turns = connections()
    for number in range(TURNS + 1):
        turns.in_turn(None, lambda number=number: taken.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert len(taken) == TURNS
    await asyncio.sleep(0)
    assert len(taken) == TURNS + 1


async def test_addresses_take_turns_by_turns() -> None:
    """One that sends a thousand requests delays the next of another by one, not by a thousand."""
    taken: list[str] = []
    turns = connections()
    many, one = turns.open("192.0.2.1"), turns.open("192.0.2.2")
    for _ in range(1_000):
        turns.in_turn(many, lambda: taken.append("many"))
    turns.in_turn(one, lambda: taken.append("one"))
    await asyncio.sleep(0)
    assert taken[:2] == ["many", "one"]
