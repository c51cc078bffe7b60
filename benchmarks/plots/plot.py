"""Draw curves as SVG: python plot.py FIGURES.json FOLDER. Needs matplotlib, which the hub does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
# The same figures give the same file: no random ids, no date.
matplotlib.rcParams.update(
    {"svg.hashsalt": "hub", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib import pyplot  # noqa: E402 (after the choice of backend)


def draw(curve: dict[str, Any], folder: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 3.2))
    points = curve["points"]
    for name in dict.fromkeys(name for _, values in points for name in values):
        known = [(x, values[name]) for x, values in points if values.get(name) is not None]
        axes.plot([x for x, _ in known], [y for _, y in known], marker="o", markersize=3, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(title=curve["title"], xlabel=curve["x"], ylabel=curve["unit"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / f"{curve['name']}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    figures, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for curve in json.loads(figures.read_text())["curves"]:
        draw(curve, folder)


main()
