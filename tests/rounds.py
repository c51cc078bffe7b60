"""Runs the tests of hostile clients, live subscriptions, faults and the history several times beside busy processors:
`python -m tests.rounds [ROUNDS] [--busy LOOPS]`.

A test that passes only on a quiet machine fails here sooner or later. The output of each run is kept in a folder, whose
path is printed first. The program fails if any run failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.program import ROOT

PARALLEL: Final = ("-n", "3", "--dist", "loadscope", "--no-loadscope-reorder")
PARTS: Final = {
    "hostile": ("tests/hostile",),
    "live": ("tests/live", "tests/faults", "tests/conformance/test_history.py", *PARALLEL),
}
"""Arguments of pytest for each run of a round. tests/hostile measures how long other clients wait, so it runs alone."""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep `count` processors busy while the block runs."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(arguments: tuple[str, ...], output: Path) -> tuple[int, str]:
    """Run pytest; return its exit code and its last line."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.no_skips", *arguments]
    with output.open("wb") as file:
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    return code, output.read_text(errors="replace").rstrip().rpartition("\n")[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rounds", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2, help="busy loops (default 2)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hub-rounds-"))
    print(folder, flush=True)
    failed = 0
    with busy_loops(given.busy):
        for number in range(1, given.rounds + 1):
            for name, arguments in PARTS.items():
                code, result = run(arguments, folder / f"{name}-{number}.txt")
                failed += code != 0
                print(f"round {number}, {name}: {result}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
