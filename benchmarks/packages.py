"""npm and PyPI packages that benchmarks and tests run, installed once into a cache folder.

PyPI packages are in virtual environments of their own. They are installed again when their requirements change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

INSTALL_SECONDS: Final = 300
NPM_FILES: Final = ("package.json", "package-lock.json", ".npmrc")


def cache() -> Path:
    """Return the cache folder, which `scripts/mongod` uses too."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HUB_TEST_CACHE") or caches / "hub-tests")


def npm_packages(source: Path) -> Path:
    """Return a folder with the `node_modules` of the lock file in `source`.

    Raises OSError if npm is missing or fails.
    """

    def install(folder: Path) -> None:
        for name in NPM_FILES:
            shutil.copy(source / name, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    return install_once(source.name, (source / "package-lock.json").read_bytes(), install)


def python_packages(constraints: Path) -> Path:
    """Return the interpreter of a virtual environment with the packages in the file `constraints`."""

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "venv"], folder)
        _run(["venv/bin/python", "-m", "pip", "install", "--quiet", "--requirement", str(constraints)], folder)

    recipe = constraints.read_bytes() + sys.version.encode()
    return install_once(constraints.parent.name, recipe, install) / "venv" / "bin" / "python"


def install_once(name: str, recipe: bytes, install: Callable[[Path], None]) -> Path:
    """Return a folder of the cache that `install` has filled, a new one for another `recipe`. One process at a time."""
    folder = cache() / f"{name}-{hashlib.sha256(recipe).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            install(folder)
            (folder / ".complete").touch()
    return folder


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr[-2_000:] or done.stdout[-2_000:]}")
