"""Node for the wire tests: the packages of `js/`, installed once into a cache folder, and its scripts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.packages import npm_packages

SOURCES: Final = Path(__file__).parent / "js"
ROOT: Final = Path(__file__).parents[2]
RUN_SECONDS: Final = 60


def installed() -> Path:
    """Return a folder with the packages of `js/`."""
    return npm_packages(SOURCES)


def run(folder: Path, script: str, *arguments: str) -> str:
    """Run a script; return its output, even if it fails."""
    # Node looks for packages beside the script, so each run copies the scripts beside the packages.
    with scripts(folder) as place:
        command = ["node", str(place / script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False).stdout


@contextlib.contextmanager
def scripts(folder: Path) -> Iterator[Path]:
    place = folder / f"run-{os.getpid()}"
    shutil.copytree(SOURCES, place, dirs_exist_ok=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def echo_server(kind: str, *settings: str) -> Iterator[str]:
    """Run an echo server as a separate process; yield its URL."""
    command = [sys.executable, "-m", "tests.wire.echo", kind, "0", *settings]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()
