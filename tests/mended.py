"""Runs the tests of fixed faults (the last table of docs/faults.md) on the hub of an earlier commit:

    python -m tests.mended 06e37b2 [--engine sqlite] [--row S1 --row H4]

A test that passes there does not show the fault, nor does one whose fixtures fail there. The program prints the names
of both. It exits with 1 if a row has no test that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.against import installed
from tests.docs.pages import TABLE

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 60
"""Seconds that one test may take: on the old hub some never end."""

NAMED = re.compile(r"`(tests/[\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?")


def tests_of(cells: Sequence[str]) -> Iterator[str]:
    """Yield the tests of a row as arguments for pytest."""
    for path, names in NAMED.findall(cells[3]):
        if names:
            yield from (f"{path}::{name}" for name in re.findall(r"\w+", names))
        else:
            yield path


def run(commit: str, tests: Sequence[str], options: Sequence[str]) -> dict[str, list[str]]:
    """Run tests on the hub of a commit; return their outcomes by the name given to pytest."""
    _, program = installed(commit)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"),
                *(f"--timeout={LONGEST}", f"--junitxml={report}", *options, *tests),
            ],
            cwd=ROOT,
            env=os.environ | {"HUB_TEST_PYTHON": program.python, "HUB_TEST_TREE": str(program.root)},
        )
        cases = list(ElementTree.parse(report).iter("testcase"))
    outcomes: dict[str, list[str]] = {test: [] for test in tests}
    for case in cases:
        path = case.attrib["classname"].replace(".", "/") + ".py"
        name = case.attrib["name"].partition("[")[0]
        bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        for test in {path, f"{path}::{name}"} & outcomes.keys():
            outcomes[test].append(bad[0] if bad else "passed")
    return outcomes


def main(argv: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.mended", description=__doc__)
    options.add_argument("commit")
    options.add_argument("--row", action="append", help="a row of the table, such as S1; without it all")
    options.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    given = options.parse_args(argv)
    chosen = [cells for cells in TABLE if not given.row or set(cells[0].split(", ")) & set(given.row)]
    tests = sorted({test for cells in chosen for test in tests_of(cells)})
    outcomes = run(given.commit, tests, ["--engine", given.engine])
    unshown = []
    for cells in chosen:
        found = {test: outcomes[test] for test in tests_of(cells)}
        failing = sum(o == "failure" for all in found.values() for o in all)
        print(f"{cells[0]:12} {failing} of {sum(map(len, found.values()))} fail at {given.commit}")
        for test, all in found.items():
            if all and set(all) == {"passed"}:
                print(f"{'':12}   passes: {test}")
            elif "error" in all:
                print(f"{'':12}   cannot be run: {test}")
        if not failing:
            unshown.append(cells[0])
    print(f"rows of which no test fails there: {', '.join(unshown) or 'none'}")
    return 1 if unshown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
