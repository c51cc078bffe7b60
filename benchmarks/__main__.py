"""All benchmarks: `python -m benchmarks [--quick]` measures and writes the figures into docs/performance.md.

The page's prose is written by hand. This program writes the text between `<!-- begin NAME -->` and `<!-- end NAME -->`,
and the plots in docs/plots. It takes about an hour. `--only` renews some parts. `--quick` shows in a few minutes
that everything runs; its figures mean nothing. `python -m benchmarks against COMMIT` compares this tree with another
commit instead.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.against import main as against
from benchmarks.beside import lines_of as ratio_lines
from benchmarks.compare import lines_of as compared_lines
from benchmarks.curves import Curve
from benchmarks.images import lines_of as image_lines
from benchmarks.layers import lines_of as layer_lines
from benchmarks.listings import lines_of as listing_rows
from benchmarks.packages import python_packages
from benchmarks.processes import ROOT
from benchmarks.report import number
from benchmarks.uploads import lines_of as upload_lines

PAGE: Final = ROOT / "docs" / "performance.md"
PLOTS: Final = ROOT / "docs" / "plots"
PLOTTER: Final = Path(__file__).parent / "plots"

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark: its name, its arguments for a quick run, and the function from its figures to lines of the page."""

    name: str
    quick: Sequence[str]
    lines: Callable[[Figures], list[str]]


def rest_lines(figures: Figures) -> list[str]:
    lines = ["| engine | operation | per s | target | hub µs | db µs | p50 ms | p99 ms |", "| --- " * 8 + "|"]
    for row in figures["rows"]:
        keys = ("per_second", "target", "hub_cpu_us", "database_cpu_us", "p50_ms", "p99_ms")
        cells = (number(row[key]) for key in keys)
        lines.append(f"| {row['engine']} | {row['operation']} | " + " | ".join(cells) + " |")
    return lines


def fanout_lines(figures: Figures) -> list[str]:
    lines = ["| figure | unit | hub | target | node | hub / node |", "| --- " * 6 + "|"]
    for figure in figures["figures"]:
        hub, node = figure["median"].get("hub"), figure["median"].get("node")
        ratio = f"{hub / node:.2f}" if hub is not None and node else ""
        cells = (figure["unit"], number(hub), number(figure["target"]), number(node), ratio)
        lines.append(f"| {figure['figure']} | " + " | ".join(cells) + " |")
    return lines


def curve_lines(figures: Figures) -> list[str]:
    lines: list[str] = []
    for each in figures["curves"]:
        points = [(x, values) for x, values in each["points"]]
        curve = Curve(each["name"], each["title"], each["x"], each["unit"], points)
        lines += [f"**{curve.title}**", "", f"![{curve.title}](plots/{curve.name}.svg)", "", *curve.lines(), ""]
    return lines[:-1]


def listing_lines(figures: Figures) -> list[str]:
    return listing_rows(figures["rows"])


def soak_lines(figures: Figures) -> list[str]:
    return [f"- {line}" for line in [*figures["verdict"], *(figures["faults"] or ["nothing grew, no errors"])]]


PARTS: Final = (
    Part("rest", ("--seconds", "0.1", "--entities", "2000"), rest_lines),
    Part("ratios", ("--seconds", "0.1", "--rounds", "1", "--entities", "2000", "--writes", "5"), ratio_lines),
    Part("layers", ("--seconds", "0.05", "--rounds", "1", "--entities", "500"), layer_lines),
    Part("compare", ("--seconds", "0.2", "--rounds", "1", "--entities", "1000"), compared_lines),
    Part("fanout", ("--seconds", "0.3", "--rounds", "1", "--clients", "50", "--connections", "100", "--subscriptions",
                    "1000"), fanout_lines),
    Part("curves", ("--seconds", "0.1", "--entities", "2000", "--subscriptions", "1000", "--connections", "100"),
         curve_lines),
    Part("listings", ("--listings", "400", "--keys", "4"), listing_lines),
    Part("images", ("--rounds", "1", "--images", "4", "--width", "800"), image_lines),
    Part("uploads", ("--uploads", "4", "--width", "800"), upload_lines),
    Part("soak", ("--minutes", "0.25", "--clients", "60"), soak_lines),
)  # fmt: skip


def measure(part: Part, quick: bool, folder: Path) -> Figures:
    """Run one benchmark in a process of its own and return its figures. Its output goes to this program's stderr."""
    file = folder / f"{part.name}.json"
    command = [sys.executable, "-m", f"benchmarks.{part.name}", "--json", str(file), *(part.quick if quick else ())]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    if not file.exists():
        raise SystemExit(f"benchmarks.{part.name} ended with {done.returncode} and without figures")
    figures: Figures = orjson.loads(file.read_bytes())
    return figures


def draw(folder: Path, plots: Path) -> None:
    python = python_packages(PLOTTER / "constraints.txt")
    subprocess.run([str(python), str(PLOTTER / "plot.py"), str(folder / "curves.json"), str(plots)], check=True)


def taken_on(figures: Figures) -> str:
    about = "; ".join(f"{name} {value}" for name, value in figures["machine"].items())
    return f"*Taken on {datetime.date.today():%-d %B %Y}: {about}.*"


def renewed(page: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with other lines between the marks of this name."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE.name} has no marks {begin} and {end}")
    text = "\n".join([begin, "", *lines, "", end])
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: text, page, flags=re.DOTALL)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs")
    parser.add_argument("--only", default="", help="parts by name, separated by commas")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to renew (default docs/performance.md)")
    return parser.parse_args()


def main() -> int:
    if sys.argv[1:2] == ["against"]:
        return against(sys.argv[2:])
    given = arguments()
    wanted = [part for part in PARTS if not given.only or part.name in given.only.split(",")]
    plots = PLOTS if given.page == PAGE else given.page.parent / "plots"
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        folder = Path(name)
        for part in wanted:
            figures = measure(part, given.quick, folder)
            if part.name == "curves":
                draw(folder, plots)
            # Written at once, so that these figures are kept if the next part fails.
            page = given.page.read_text(encoding="utf-8")
            given.page.write_text(renewed(page, part.name, [taken_on(figures), "", *part.lines(figures)]), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
