"""docs/faults.md names existing tests."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.docs.pages import ROOT, TABLE

KINDS: Final = {"S": 8, "H": 12, "Q": 13, "D": 26, "I": 5, "L": 12, "M": 10}
"""Kind of fault → number of rows."""


def functions(path: str) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("cells", TABLE, ids=lambda cells: cells[0])
def test_every_test_of_a_row_is_there(cells: list[str]) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", cells[3])
    assert named
    for path, names in named:
        there = functions(path)
        assert there
        assert not {name.strip("`") for name in names.split(", ") if name} - there


def test_no_row_is_missing() -> None:
    listed = {id for cells in TABLE for id in cells[0].split(", ")}
    numbered = {f"{kind}{number}" for kind, most in KINDS.items() for number in range(1, most + 1)}
    assert listed == {*numbered, "P"}
