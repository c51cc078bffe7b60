"""Imports point one way, stores ← auth ← realtime ← hub, and importing a module has no side effects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.imports import imported

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("stores", "auth", "realtime", "hub")
WEB = ("starlette", "uvicorn")
TESTS = ("tests", "benchmarks")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


DIALECTS = [path.parent for path in (ROOT / "hub" / "dialects").glob("*/__init__.py")]
MODULES = [path for package in LAYERS for path in modules(package)]


def name_of(path: Path) -> str:
    """Return the module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """A layer imports only itself and the layers below it, and nothing from the tests."""
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    assert packages(path).isdisjoint((*LAYERS[layer + 1 :], *TESTS))


@pytest.mark.parametrize("path", [*modules("stores"), *modules("auth")], ids=name_of)
def test_what_lies_below_knows_nothing_of_the_web(path: Path) -> None:
    """Stores and authentication handle values, not requests and responses."""
    assert packages(path).isdisjoint(WEB)


@pytest.mark.parametrize("path", modules("realtime"), ids=name_of)
def test_realtime_is_plain_asgi(path: Path) -> None:
    """The package implements ASGI itself, without Starlette."""
    assert "starlette" not in packages(path)


@pytest.mark.parametrize("path", modules("hub/services"), ids=name_of)
def test_services_know_no_requests(path: Path) -> None:
    """Dialects call services, never the other way round, and services import nothing of the web."""
    assert packages(path).isdisjoint(WEB)
    assert not [name for name in imported(path) if name.startswith(("hub.dialects", "hub.app", "hub.asgi"))]


@pytest.mark.parametrize("path", [p for p in modules("hub") if p.name != "app.py"], ids=name_of)
def test_a_dialect_is_known_to_itself_and_the_composition_root(path: Path) -> None:
    """The kit, the server and the middleware work for any dialect; code for two dialects belongs to the kit."""
    others = [f"{name_of(p)}." for p in DIALECTS if p != path.parent]
    assert not [name for name in imported(path) if name.startswith(tuple(others))]


@pytest.mark.parametrize("path", [p for p in modules("stores") if p.parent.name in ("sqlite", "mongo")], ids=name_of)
def test_engines_do_not_know_each_other(path: Path) -> None:
    """Code that both engines need belongs beside them."""
    other = "stores.mongo" if path.parent.name == "sqlite" else "stores.sqlite"
    assert not [name for name in imported(path) if name.startswith(other)]


@pytest.mark.parametrize("path", [path for package in TESTS for path in modules(package)], ids=name_of)
def test_no_test_module_is_imported(path: Path) -> None:
    """Shared helpers are in `tests/support`, or beside the tests in a module without any."""
    assert not [name for name in imported(path) if name.startswith("tests.") and ".test_" in name]


def needs(path: Path, names: dict[str, Path]) -> set[str]:
    """Return the modules of this project that a module imports."""
    found = {name if name in names else name.rpartition(".")[0] for name in imported(path)}
    return (found & names.keys()) - {name_of(path)}


def test_modules_form_no_circle() -> None:
    """Imports within functions and imports for type checkers count too: modules in a circle cannot be read one by one.
    A package's name stands for its `__init__`, not for its submodules."""
    names = {name_of(path): path for path in MODULES}
    below = {name: needs(path, names) for name, path in names.items()}
    while leaves := {name for name, needed in below.items() if not needed}:
        below = {name: needed - leaves for name, needed in below.items() if name not in leaves}
    assert not below


IMPORT = """
import importlib, sys, threading, warnings
warnings.simplefilter("error")
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert threading.active_count() == 1, f"{name} starts a thread"
"""


def test_importing_does_nothing(tmp_path: Path) -> None:
    """An import makes no output, no file, no thread and no warning."""
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    command = [sys.executable, "-B", "-c", IMPORT, *names]
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
