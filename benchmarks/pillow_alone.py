"""Pillow alone: a program that converts images with its functions and nothing else, as a script would.

`python -m benchmarks.pillow_alone` reads pairs of files from its standard input, and writes the CPU seconds that each
image took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.processes import ROOT

SIDE: Final = 3_000
TEXT: Final = "© hub.example"


def convert(source: str, target: str) -> None:
    """Make an image upright, at most 3 000 pixels a side, and marked, as WebP."""
    image = Image.open(source)
    ImageOps.exif_transpose(image, in_place=True)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    height = min(image.size) // 24
    font = ImageFont.load_default(height)
    mark = Image.new("RGBA", (round(font.getlength(TEXT)) + height, 2 * height), (0, 0, 0, 0))
    ImageDraw.Draw(mark).text((0, 0), TEXT, (255, 255, 255, 190), font, stroke_width=max(1, height // 16))
    image.paste(mark, (image.width - mark.width, image.height - mark.height), mark)
    image.save(target, "WEBP", quality=82, method=4)


class PillowAlone:
    """The program, running."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "benchmarks.pillow_alone"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def convert(self, source: Path, target: Path) -> float:
        """Return the CPU seconds for an image."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(source, target, sep="\t", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def main() -> None:
    os.nice(10)  # as the workers
    for line in sys.stdin:
        before = time.process_time()
        convert(*line.rstrip("\n").split("\t"))
        print(time.process_time() - before, flush=True)


if __name__ == "__main__":
    main()
