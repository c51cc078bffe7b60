"""The project is self-contained: no file names a path of one machine, and imports point one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, project_files

# The parts are joined, so that this file does not contain the text that it searches for.
PLACES = re.compile(r"(?<![\w.:-])/(?:" + "|".join(("wor" + "k", "roo" + "t", "home/" + r"\w+")) + r")(?![\w-])")

LAYERS = ("stores", "auth", "realtime", "hub")
"""Each may import from those before it."""


def test_no_file_names_a_place_of_one_machine() -> None:
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in PLACES.finditer(text)]
    assert not found


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    wrong = {
        f"{path.relative_to(ROOT)} imports {', '.join(sorted(found))}"
        for path in (ROOT / layer).rglob("*.py")
        if (found := imported(path) & above)
    }
    assert not wrong


def test_services_and_engines_know_nothing_of_http_frameworks() -> None:
    folders = [ROOT / "stores", ROOT / "auth", ROOT / "hub" / "services"]
    wrong = [
        path.relative_to(ROOT)
        for folder in folders
        for path in folder.rglob("*.py")
        if imported(path) & {"starlette", "uvicorn"}
    ]
    assert not wrong
