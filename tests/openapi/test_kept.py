"""OpenAPI documents that are kept for callers with equal rights."""

from __future__ import annotations

import asyncio

from hub.openapi.kept import KeptDocuments


class Maker:
    """Makes documents when `go` is set, and counts how many at a time."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.made: list[str] = []
        self.at_once = self.most_at_once = 0
        self.generation = 1

    async def get(self, kept: KeptDocuments, user: str, rights: str, size: int = 1) -> bytes:
        return await kept.get(user, rights, lambda: self.generation, lambda: self._make(rights, size))

    async def _make(self, rights: str, size: int) -> bytes:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.go.wait()
        await asyncio.sleep(0)
        self.at_once -= 1
        self.made.append(rights)
        return rights.encode() * size


async def test_equal_rights_share_a_document() -> None:
    """Requests that come while it is made share it. A new generation of definitions has new documents."""
    kept, maker = KeptDocuments(), Maker()
    found = await asyncio.gather(*(maker.get(kept, str(n % 3), "a") for n in range(9)))
    assert (set(found), maker.made) == ({b"a"}, ["a"])
    await maker.get(kept, "x", "b")
    maker.generation += 1
    await maker.get(kept, "x", "a")
    assert maker.made == ["a", "b", "a"]


async def test_documents_are_made_one_at_a_time_and_users_take_turns() -> None:
    kept, maker = KeptDocuments(), Maker()
    maker.go.clear()
    many = [asyncio.create_task(maker.get(kept, "many", f"m{n}")) for n in range(50)]
    await asyncio.sleep(0)
    few = asyncio.create_task(maker.get(kept, "few", "f"))
    await asyncio.sleep(0)
    maker.go.set()
    await asyncio.gather(few, *many)
    assert maker.most_at_once == 1
    assert maker.made.index("f") <= 2


async def test_documents_of_many_rights_are_bounded_by_their_bytes() -> None:
    kept, maker = KeptDocuments(10), Maker()
    for rights in "abc":
        await maker.get(kept, "x", rights, 4)
    await maker.get(kept, "x", "d", 11)
    for rights in "bcad":
        await maker.get(kept, "x", rights, 4 if rights != "d" else 11)
    assert maker.made == [*"abcdad"]


async def test_a_document_of_definitions_that_changed_meanwhile_is_not_kept() -> None:
    kept, maker = KeptDocuments(), Maker()
    maker.go.clear()
    asked = asyncio.create_task(maker.get(kept, "x", "a"))
    await asyncio.sleep(0)
    maker.generation += 1
    maker.go.set()
    assert await asked == b"a"
    await maker.get(kept, "x", "a")
    assert maker.made == ["a", "a"]
