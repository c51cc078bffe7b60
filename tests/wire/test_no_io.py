"""The core of the Engine.IO server does no I/O: its modules import neither asyncio nor any module that does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from realtime import engineio

CORE = ("frames", "http", "options", "packets", "session")


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_imports_neither_asyncio_nor_the_shell(module: str) -> None:
    tree = ast.parse((Path(engineio.__path__[0]) / f"{module}.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not {name for name in imported if name.partition(".")[0] in ("asyncio", "socket", "uvicorn", "websockets")}
    assert {name for name in imported if name.startswith("realtime.")} <= {f"realtime.engineio.{name}" for name in CORE}
