"""The states of an entity at each entry of its history."""

from __future__ import annotations

from collections.abc import Iterator

from stores.records import HistoryEntry
from stores.trail import images
from tests.support.steps import counted_steps


def entry(op: str, **changed: tuple[object, object]) -> HistoryEntry:
    return HistoryEntry(0, None, op, 1, changed)  # type: ignore[arg-type]


def test_states_are_computed_back_from_the_last_one() -> None:
    """Newest first; a deletion has the state before it."""
    made, changed, deleted = entry("insert", a=(None, 1)), entry("update", a=(1, 2)), entry("delete", a=(2, None))
    found = list(images([made, changed, deleted], {"_id": "x", "a": 2}, {"a"}))
    assert found == [(deleted, {"_id": "x", "a": 2}), (changed, {"_id": "x", "a": 2}), (made, {"_id": "x", "a": 1})]


def test_a_state_holds_no_more_than_what_is_asked_for() -> None:
    """The fields of an entity do not multiply with the entries of its history: states are made one by one."""
    wide: dict[str, object] = {f"f{n}": n for n in range(10_000)} | {"_id": "x", "a": 1}
    entries = [entry("update", a=(n, n + 1), b=(n, n)) for n in range(10)]
    with counted_steps() as steps:
        found = images(entries, wide, {"a", "_id"})
        assert isinstance(found, Iterator)
        assert [image for _, image in found][-1] == {"_id": "x", "a": 1}
    assert steps.count < 5_000
