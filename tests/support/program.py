"""The hub that tests run as a process: from this source tree, or from another (`python -m tests.mended`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = os.environ.get("HUB_TEST_PYTHON", sys.executable)
TREE: Final = Path(os.environ.get("HUB_TEST_TREE", ROOT))
HUB: Final = (PYTHON, "-m", "hub.cli")
IS_OURS: Final = TREE == ROOT
SERVE: Final = (*HUB, "serve") if IS_OURS else (PYTHON, str(ROOT / "tests" / "support" / "measured.py"), "serve")
"""Another tree's hub may not measure its turns itself."""


def printed(name: str, *arguments: str) -> str:
    """What a program of `tests/programs` prints, with the modules of the tree whose hub is tested."""
    file = ROOT / "tests" / "programs" / f"{name}.py"
    environment = os.environ | {"PYTHONPATH": str(TREE)}
    command = (PYTHON, str(file), *arguments)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True, timeout=60)
    return done.stdout.strip()
