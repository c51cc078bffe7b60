"""Documents by which MongoDB transactions lock keys."""

from __future__ import annotations

import asyncio

import pytest

from stores.mongo import locks
from stores.mongo.locks import MANY_KEYS, SLOTS, STRIPES, Precedence, locks_of
from stores.protocol import Lock


def keys(count: int) -> tuple[str, ...]:
    return tuple(f"customers._id:{number}" for number in range(count))


def test_a_key_has_one_slot() -> None:
    for key in keys(50):
        [shared] = locks_of(Lock((key,)), 5)
        assert shared in locks_of(Lock((key,), exclusive=True), 6)
        assert len(locks_of(Lock((key,), exclusive=True), 6)) == STRIPES


def test_many_keys_take_all_slots_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {f"lock:{slot}:{stripe}" for slot in range(SLOTS) for stripe in range(STRIPES)}
    assert set(locks_of(Lock(keys(MANY_KEYS), exclusive=True), 1)) <= every
    monkeypatch.setattr(locks, "_slot", None)
    assert set(locks_of(Lock(keys(MANY_KEYS + 1), exclusive=True), 1)) == every
    assert locks_of(Lock(keys(MANY_KEYS + 1)), STRIPES + 3) == [f"lock:{slot}:3" for slot in range(SLOTS)]


async def test_others_wait_for_the_one_that_goes_first() -> None:
    precedence, done = Precedence(), list[str]()

    async def other() -> None:
        await precedence.passed()
        done.append("other")

    await precedence.passed()
    async with precedence.taken():
        waiting = [asyncio.create_task(other()) for _ in range(3)]
        await asyncio.sleep(0.01)
        done.append("first")
    await asyncio.gather(*waiting)
    assert done == ["first", "other", "other", "other"]
    await precedence.passed()
