"""Operations are found by path: literal segments come before parameters, and other ways are tried where one ends."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from hub.dialects.base import Operation
from hub.dialects.path_tree import PathNode

PATHS = (
    "/batch",
    "/{store}",
    "/{store}/{id}",
    "/{store}/{id}/history",
    "/auth/token",
    "/auth/token/{id}/history",
    "/{store}/token/{name}",
    "/stores/{name}/data/{part}",
)
WORDS = ("", "batch", "auth", "token", "history", "data", "stores", "readings")


async def handler(*_: Any) -> Any: ...


@pytest.fixture(scope="module")
def tree() -> PathNode[None]:
    made: PathNode[None] = PathNode()
    for path in PATHS:
        made.add(Operation(path, "GET", path, "", handler), path.split("/"))
    return made


def matched(path: str, segments: list[str]) -> dict[str, str] | None:
    """Return the parameters of a path that the segments match; None if they do not. No parameter is empty."""
    parts = path.split("/")
    values = {part.strip("{}"): segment for part, segment in zip(parts, segments, strict=False) if part != segment}
    is_match = len(parts) == len(segments) and all(
        part == segment or (part.startswith("{") and segment) for part, segment in zip(parts, segments, strict=True)
    )
    return values if is_match else None


def expected(segments: list[str]) -> tuple[str, dict[str, str]] | None:
    """Return the path whose first differing segment is a literal, with its parameters, by trying all paths."""
    found = [(path, values) for path in PATHS if (values := matched(path, segments)) is not None]
    return min(found, key=lambda each: [part.startswith("{") for part in each[0].split("/")], default=None)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_first_literal_path_that_matches_is_found(tree: PathNode[None], length: int) -> None:
    for words in product(WORDS, repeat=length):
        segments, values = ["", *words], dict[str, str]()
        operations = tree.find(segments, values)
        wanted = expected(segments)
        found = (operations["GET"].path, values) if operations else None
        assert found == wanted, segments


def test_a_path_that_is_not_found_leaves_no_values(tree: PathNode[None]) -> None:
    values: dict[str, str] = {}
    assert tree.find(["", "readings", "a", "data"], values) == {}
    assert values == {}
