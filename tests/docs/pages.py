"""The project's pages and files, and their contents."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"


def page(name: str) -> str:
    """Return the text of a page in docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def pages() -> list[Path]:
    """Return all documentation pages."""
    return sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])


def project_files() -> list[Path]:
    """Return the committed files, and the new files that are not ignored. In an archive without a repository these are
    all files outside of hidden folders."""
    if not (ROOT / ".git").exists():
        return sorted(path for path in ROOT.rglob("*") if path.is_file() and not is_hidden(path.relative_to(ROOT)))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()})


def is_hidden(path: Path) -> bool:
    """Return whether one of its folders is hidden or made by a program."""
    return any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in path.parts[:-1])


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Return the text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of its tables, as lists of cells."""
    for line in prose(text).splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def first_cells(text: str) -> set[str]:
    """Return all inline code in the first cells of its tables."""
    return {code for cells in rows(text) for code in re.findall(r"`([^`]+)`", cells[0])}


def section(text: str, title: str) -> str:
    """Return the text under a heading, up to the next heading of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", prose(text), re.DOTALL | re.MULTILINE)
    assert found, f"no section {title!r}"
    return found[2]


TABLE: Final = [cells for cells in rows(section(page("faults.md"), "Faults that were mended")) if len(cells) == 5][2:]
"""The cells of each row in the table of faults."""
