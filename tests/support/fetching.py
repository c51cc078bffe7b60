"""`python -m tests.support.fetching`: install what tests would otherwise install while their time limit runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.packages import npm_packages

ROOT: Final = Path(__file__).resolve().parents[2]
NPM: Final = ("tests/wire/js", "tests/cli/js", "benchmarks/node", "benchmarks/peers/feathers")


def main() -> None:
    """Install everything; report a failure, which the tests concerned will report again."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / "mongod"), "--fetch"], check=False)
    for folder in NPM:
        try:
            npm_packages(ROOT / folder)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"the packages of {folder} could not be installed: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
