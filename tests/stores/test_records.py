"""The records that engines and their callers exchange."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from stores.records import Change, IdSource, difference, is_id, new_id, same


def test_ids_are_of_one_spelling() -> None:
    """Ids have 24 lower-case hexadecimal characters, and increase within a process."""
    ids = [new_id() for _ in range(1_000)]
    assert all(map(is_id, ids))
    assert sorted(set(ids)) == ids


def test_ids_grow_beyond_the_counter_of_one_second() -> None:
    """The counter has 24 bits. When it is full, ids go on with the next second, and still grow when the clock goes
    back or arrives there."""
    now = 1_700_000_000.0
    source = IdSource(lambda: now)
    first = [source.new() for _ in range(3)]
    source._count = 0xFFFFFD  # as after 16 million ids
    ids = [*first, *(source.new() for _ in range(5))]
    for now in (1_700_000_001.5, 1_600_000_000.0, 1_700_000_002.0):  # noqa: B007
        ids += [source.new() for _ in range(3)]
    assert all(map(is_id, ids))
    assert sorted(set(ids)) == ids


def test_ids_made_in_several_threads_differ_and_grow() -> None:
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    assert all(ids == sorted(ids) for ids in lists)
    assert len({id for ids in lists for id in ids}) == 16_000


def test_a_forked_process_makes_other_ids() -> None:
    # Each process writes once; the writes of two `print` may mingle.
    steps = ("new_id()", "os.fork()", "os.write(1, f'{new_id()} '.encode())")
    program = "; ".join(("import os", "from stores.records import new_id", *steps))
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = answer.stdout.split()
    assert is_id(first)
    assert is_id(second)
    assert first[8:18] != second[8:18]


@pytest.mark.parametrize("value", ["", "5F0000000000000000000ABC", "5f0000000000000000000abc\n", "x" * 24, None, 5])
def test_anything_else_is_no_id(value: object) -> None:
    """Upper case, a trailing newline and other types are not ids."""
    assert not is_id(value)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (None, {"_id": "1", "a": 1}, {"a": (None, 1)}),
        ({"_id": "1", "a": 1}, None, {"a": (1, None)}),
        ({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"b": (1, 2)}),
        ({"a": 1}, {"a": True}, {"a": (1, True)}),
        ({"a": 1}, {"a": 1.0}, {}),
        ({"a": None}, {}, {}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}, {"a": ([1, 2], [2, 1])}),
        (None, {"_id": "1", "a": None, "b": False, "c": 0}, {"b": (None, False), "c": (None, 0)}),
        ({"a": True, "b": 1, "c": "1"}, {"a": 1, "b": 1.0, "c": 1}, {"a": (True, 1), "c": ("1", 1)}),
    ],
)
def test_a_difference_names_the_fields_that_changed(before: Any, after: Any, changed: Any) -> None:
    """It has the old and new value per top-level field; a missing value counts as null."""
    assert difference(before, after) == changed


def test_truth_is_not_one() -> None:
    """JSON equality distinguishes booleans from numbers at any depth."""
    assert not same({"a": [1]}, {"a": [True]})
    assert same({"a": [1]}, {"a": [1.0]})


def test_a_change_parses_its_images_when_asked() -> None:
    """Images given as JSON text are parsed when they are read."""
    change = Change("p", "update", "s", "1", '{"a":1}', {"a": 2}, None, 0)
    assert change.before == {"a": 1}
    assert change.before is change.before
    assert change.after == {"a": 2}
    assert Change("p", "insert", "s", "1", None, None, None, 0).before is None


def test_a_change_takes_the_memory_that_is_counted() -> None:
    """The counted size is that of the text, for any characters, and parsed images are not kept as objects."""
    text = orjson.dumps({"a": [{"x": n} for n in range(3_000)], "text": "\u00e9\u4e2d\U0001f600" * 1_000}).decode()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        changes = [Change("1.1", "update", "s", "i", text + " ", text + "  ", None, 0) for _ in range(40)]
        for change in changes:
            assert change.before == change.after
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = sum(change.size for change in changes)
    assert counted <= held < 2 * counted + 30 * 2_097_152 // 2
