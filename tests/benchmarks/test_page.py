"""`python -m benchmarks` writes the figures of its parts into a page, and changes nothing else in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "performance.md"


def begin_and_end(page: str, name: str) -> tuple[str, str]:
    before, _, rest = page.partition(f"<!-- begin {name} -->")
    return before, rest.partition(f"<!-- end {name} -->")[2]


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("part", ["ratios", "layers", "compare", "curves", "listings", "images", "uploads", "soak"])
def test_a_part_is_renewed(tmp_path: Path, part: str) -> None:
    """Runs are small and short: the figures mean nothing, but all of them exist, and no client missed an event."""
    page = tmp_path / "performance.md"
    shutil.copy(PAGE, page)
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", part, "--page", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "missed" not in done.stderr
    old, new = PAGE.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    assert begin_and_end(old, part) == begin_and_end(new, part)
    assert old != new
    if part == "curves":
        assert "<svg" in (tmp_path / "plots" / "channels.svg").read_text(encoding="utf-8")
