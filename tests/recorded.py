"""Compares the answers of this tree's hub with those of another commit, call by call:

    python -m tests.recorded COMMIT [--engine sqlite|mongodb] [--tests tests/platform ...]

The scenario tests run against both hubs. All REST answers (status, headers, body) and all live packets are recorded.
Ids, times, positions, cursors, channel names and secrets are masked; everything else must be equal byte for byte.
Tests whose answers differ run once more on both hubs, since a race may end differently. If the answers never agree,
the program prints the tests and exits with 1. Tests of many requests at once may differ from run to run on one hub:
their names are printed, and they do not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Final

import orjson

from benchmarks.against import installed
from benchmarks.processes import Program

ROOT: Final = Path(__file__).resolve().parents[1]
LEAST: Final = 2_000
"""Minimum number of exchanges to compare when no tests are named."""
SHOWN: Final = 5
"""Exchanges printed per differing test."""

TESTS: Final = (
    "tests/platform",
    "tests/openapi",
    *(f"tests/live/test_{name}.py" for name in ("subscribing", "writing", "permissions", "resuming", "endings")),
)

Recording = dict[str, Counter[str]]
"""Test → its exchanges, unordered because many happen at once."""


def record(program: Program, tests: Iterable[str], engine: str) -> Recording:
    """Run tests against a hub and return its answers."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exchanges"
        others = {
            "HUB_TEST_PYTHON": program.python,
            "HUB_TEST_TREE": str(program.root),
            "HUB_TEST_EXCHANGES": str(file),
        }
        command = (sys.executable, "-m", "pytest", "-q", "-p", "tests.support.exchanges", "-p", "no:cacheprovider")
        subprocess.run([*command, "--tb=line", "--engine", engine, *tests], cwd=ROOT, env=os.environ | others)
        lines = file.read_bytes().splitlines() if file.exists() else []
    kept = map(orjson.loads, lines)
    return {line["test"]: Counter(line["exchanges"]) for line in kept}


def differing(one: Recording, other: Recording) -> list[str]:
    """Return the tests whose exchanges differ. A test that only one of the recordings has differs, too."""
    return sorted(test for test in one.keys() | other.keys() if said(one, test).keys() != said(other, test).keys())


def said(recording: Recording, test: str) -> Counter[str]:
    return recording.get(test, Counter())


def show(test: str, there: Counter[str], here: Counter[str]) -> None:
    gone, come = sorted(there.keys() - here.keys()), sorted(here.keys() - there.keys())
    print(f"\n{test}")
    for old, new in zip(gone[:SHOWN] or [""], come[:SHOWN] or [""], strict=False):
        print("\n".join(unified_diff(old.splitlines(), new.splitlines(), "there", "here", lineterm="", n=2)))


def main(argv: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.recorded", description=__doc__)
    options.add_argument("commit")
    options.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    options.add_argument("--tests", nargs="+", default=TESTS, help="files and folders of tests")
    given = options.parse_args(argv)
    sides = (installed(given.commit)[1], Program.here())
    there, here = (record(side, given.tests, given.engine) for side in sides)
    compared = sum(here[test].total() for test in there.keys() & here.keys())
    suspects, unsteady = set(differing(there, here)), set[str]()
    if suspects:
        there_again, here_again = (record(side, sorted(suspects), given.engine) for side in sides)
        for pair in ((there_again, here_again), (there, here_again), (there_again, here)):
            suspects &= set(differing(*pair))
        unsteady = suspects & {*differing(there, there_again), *differing(here, here_again)}
        suspects -= unsteady
        for test in sorted(suspects):
            show(test, said(there_again, test), said(here_again, test))
        for test in sorted(unsteady):
            print(f"{test}: other answers in every run")
    print(f"{compared} exchanges of {len(there.keys() & here.keys())} tests compared; {len(suspects)} tests differ")
    enough = compared >= LEAST or given.tests is not TESTS
    return 0 if enough and not suspects else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
