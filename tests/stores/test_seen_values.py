"""Values that must be unique, looked for in a temporary file."""

from __future__ import annotations

from typing import Any

import pytest

from stores.errors import StorageFull, Unavailable
from stores.seen_values import SeenValues


def test_each_entity_that_shares_values_is_told_once() -> None:
    seen = SeenValues()
    assert seen.note(("a",), [1], "x") == ()
    assert seen.note(("a",), [2], "y") == ()
    assert seen.note(("a",), [1], "x") == ()
    assert seen.note(("a",), [1.0], "z") == ("x", "z")
    assert seen.note(("a",), [1], "v") == ("v",)


def test_values_are_equal_as_elsewhere() -> None:
    """At the same paths, in their order, and by their kind."""
    seen = SeenValues()
    notes: list[tuple[tuple[str, ...], list[Any]]]
    notes = [(("a",), ["1"]), (("a",), [1]), (("b",), [1]), (("a", "b"), [1, 2]), (("a", "b"), [2, 1])]
    notes += [(("a",), [1.5]), (("a",), ["\ud800"]), (("a",), [2.0**70]), (("a",), ["x" * 100_000])]
    assert [seen.note(*note, str(number)) for number, note in enumerate(notes)] == [()] * len(notes)
    assert [len(seen.note(*note, "other")) for note in notes] == [2] * len(notes)


def test_a_full_disk_is_told_from_other_errors() -> None:
    seen = SeenValues()
    seen._file.execute("PRAGMA max_page_count=3")
    with pytest.raises(StorageFull):
        [seen.note(("a",), [number], f"{number}") for number in range(1_000)]
    seen = SeenValues()
    seen._file.execute("DROP TABLE seen")
    with pytest.raises(Unavailable) as refusal:
        seen.note(("a",), [1], "x")
    assert not isinstance(refusal.value, StorageFull)
