"""docs/security.md lists ten risks, each with an existing test."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT, page, rows

TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")

CLIENTS = {
    "aiohttp",
    "aiosmtplib",
    "ftplib",
    "httpcore",
    "httpx",
    "requests",
    "smtplib",
    "urllib.request",
    "urllib3",
    "http.client",
}
"""Modules of network clients."""


def risks() -> list[list[str]]:
    return [cells for cells in rows(page("security.md")) if re.match(r"API\d+ ", cells[0])]


def test_there_are_ten_risks() -> None:
    assert [cells[0].split()[0] for cells in risks()] == [f"API{n}" for n in range(1, 11)]


@pytest.mark.parametrize("risk", risks(), ids=lambda cells: cells[0].split()[0])
def test_each_has_a_test_that_is_there(risk: list[str]) -> None:
    found = TEST.findall(risk[2])
    assert found
    for file, name in found:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def imports_of(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_one_module_connects_to_servers_that_users_name() -> None:
    """Apart from the command line and the database, one module sends mail, and one package makes guarded requests."""
    places = [path for layer in ("stores", "auth", "realtime", "hub") for path in (ROOT / layer).rglob("*.py")]
    serving = [path for path in places if not path.is_relative_to(ROOT / "hub" / "cli")]
    assert len(serving) > 50
    used = {str(path.relative_to(ROOT)): imports_of(path.read_text()) & CLIENTS for path in serving}
    assert {path: names for path, names in used.items() if names} == {
        "hub/mail.py": {"aiosmtplib"},
        "hub/fetch.py": {"httpcore"},
        "hub/fetching/connecting.py": {"httpcore"},
    }
