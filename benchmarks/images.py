"""Images of 12 million pixels to WebP, beside Pillow alone: `python -m benchmarks.images [--rounds N]`.

A worker of the hub (`hub.media`) and a program of Pillow's functions alone do the same: decode, turn upright, make
smaller, set a mark, encode with the same options. Both are processes of the same priority that are running already; in
each round each of them converts each image, in turns the one and the other first. CPU is that of the process. The ratio
is that within a round, the median over the rounds.

Then a burst: many images of all formats at once, as many as wait in a hub's queue. Memory is that of all workers
together, at its highest, and a turn is the CPU time of the loop of the process that sends them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops

from benchmarks.pillow_alone import PillowAlone
from benchmarks.processes import cpu_seconds, resident_kib
from benchmarks.report import conclude, number, parser, say
from hub.loop_watch import LoopWatch
from hub.media.jobs import ImageJob, Watermark
from hub.media.workers import ImageWorkers

MARK: Final = Watermark(text="© hub.example")
SIZE: Final = (4_000, 3_000)
MOST: Final = 1.1
"""The target: CPU of a worker per that of Pillow alone."""
LONGEST_TURN: Final = 0.02
"""Seconds of CPU."""
MOST_MEMORY: Final = 400
"""MiB of two workers: with a hub they stay below 500."""
SAMPLING: Final = 0.005


def photo(size: tuple[int, int]) -> Image.Image:
    """Return an image with shades, edges and a little noise, which compresses like a photograph."""
    width, height = size
    edges = Image.effect_noise((width // 16, height // 16), 90).resize(size, Image.Resampling.BICUBIC)
    shades = Image.radial_gradient("L").resize(size)
    waves = Image.effect_noise((width // 64, height // 64), 120).resize(size, Image.Resampling.BICUBIC)
    return Image.merge("RGB", (ImageChops.add(edges, Image.effect_noise(size, 8), 2), waves, shades))


def make_images(folder: Path, size: tuple[int, int]) -> dict[str, Path]:
    """Write one photo in several formats, and return the files by their names in the table."""
    image = photo(size)
    smooth = image.resize((size[0] // 8, size[1] // 8)).resize(size)  # as a PNG the photo would be too large
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG": (image, "JPEG", {"quality": 90}),
        "JPEG, progressive": (image, "JPEG", {"quality": 90, "progressive": True}),
        "PNG": (smooth, "PNG", {"compress_level": 1}),
        "WebP": (image, "WEBP", {"quality": 85, "method": 0}),
    }
    files = {}
    for position, (name, (source, form, options)) in enumerate(made.items()):
        files[name] = folder / f"image-{position}"
        source.save(files[name], form, **options)
    return files


@dataclass(slots=True)
class Compared:
    """CPU seconds for one image in each round."""

    hub: list[float] = field(default_factory=list)
    pillow: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(hub / pillow for hub, pillow in zip(self.hub, self.pillow, strict=True))


async def compare(files: dict[str, Path], folder: Path, rounds: int) -> dict[str, Compared]:
    """Convert each image in each round, by a worker and by Pillow alone."""
    found = {name: Compared() for name in files}
    workers = ImageWorkers(most=1, seconds=600)
    with PillowAlone() as pillow:
        await by_hub(workers, files["JPEG"], folder)  # it starts the worker
        for number_of_round in range(rounds):
            say(f"round {number_of_round + 1} ...")
            for name, file in files.items():
                if number_of_round % 2:
                    found[name].hub.append(await by_hub(workers, file, folder))
                found[name].pillow.append(await asyncio.to_thread(pillow.convert, file, folder / "pillow.webp"))
                if not number_of_round % 2:
                    found[name].hub.append(await by_hub(workers, file, folder))
    await workers.close()
    return found


async def by_hub(workers: ImageWorkers, file: Path, folder: Path) -> float:
    """Return the CPU seconds that a worker takes for an image."""
    before = cpu_seconds(workers.pids[0]) if workers.pids else 0.0
    target = folder / "hub.webp"
    await workers.convert(file, target, ImageJob(watermark=MARK))
    await asyncio.to_thread(target.unlink)
    return (cpu_seconds(workers.pids[0]) or 0.0) - (before or 0.0)


async def burst(files: Sequence[Path], folder: Path, images: int) -> dict[str, float]:
    """Convert many images at once. Return the seconds, the most memory of the workers in MiB, and the longest turn of
    the loop in seconds of CPU."""
    say(f"{images} at once ...")
    workers = ImageWorkers(seconds=600)
    turns: list[float] = []
    watch = LoopWatch(turns.append)
    loop = asyncio.get_running_loop()
    begun, most = loop.time(), 0.0
    works = [
        asyncio.create_task(workers.convert(files[n % len(files)], folder / f"{n}.webp", ImageJob(watermark=MARK)))
        for n in range(images)
    ]
    watch.start()
    while not all(work.done() for work in works):
        most = max(most, sum(resident_kib(pid) or 0.0 for pid in workers.pids))
        await asyncio.sleep(SAMPLING)
    watch.stop()
    await asyncio.gather(*works)
    seconds = loop.time() - begun
    await workers.close()
    return {"images": images, "seconds": seconds, "memory_mib": most / 1024, "turn": max(turns)}


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Return the lines of the page: a table of formats, and a line on the burst."""
    lines = ["| image | Pillow alone, CPU s | a worker, CPU s | worker / Pillow | target |", "| --- " * 5 + "|"]
    for row in figures["rows"]:
        cells = (number(row["pillow"]), number(row["hub"]), f"{row['ratio']:.3f}", number(MOST))
        lines.append(f"| {row['image']} | " + " | ".join(cells) + " |")
    found = figures["burst"]
    text = f"{found['images']:.0f} images at once took {found['seconds']:.1f} s; both workers together had at most"
    text += f" {found['memory_mib']:.0f} MiB (target {MOST_MEMORY}); the longest turn of the loop took"
    return [*lines, "", f"{text} {found['turn'] * 1e3:.1f} ms of CPU (target {LONGEST_TURN * 1e3:.0f})."]


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        folder = Path(name)
        size = (given.width, given.width * 3 // 4)
        files = await asyncio.to_thread(make_images, folder, size)
        found = await compare(files, folder, given.rounds)
        rows = [
            {
                "image": name,
                "pillow": statistics.median(each.pillow),
                "hub": statistics.median(each.hub),
                "ratio": each.ratio,
            }
            for name, each in found.items()
        ]
        return {"rows": rows, "burst": await burst(list(files.values()), folder, given.images)}


def faults_of(figures: dict[str, Any]) -> list[str]:
    """Return a line for each target that is missed."""
    burst = figures["burst"]
    slow = [row for row in figures["rows"] if row["ratio"] > MOST]
    faults = [f"{row['image']}: {row['ratio']:.3f} times the CPU of Pillow alone" for row in slow]
    if burst["turn"] > LONGEST_TURN:
        faults.append(f"a turn of the loop took {burst['turn'] * 1e3:.1f} ms of CPU")
    if burst["memory_mib"] > MOST_MEMORY:
        faults.append(f"the workers had {burst['memory_mib']:.0f} MiB")
    return faults


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.images", __doc__, mongodb=False)
    options.add_argument("--rounds", type=int, default=10, help="rounds; medians count (default 10)")
    options.add_argument("--images", type=int, default=50, help="images at once (default 50)")
    options.add_argument("--width", type=int, default=SIZE[0], help="pixels in width, 4 to 3 (default 4000)")
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if a target is missed."""
    given = arguments()
    figures = asyncio.run(measure(given))
    return conclude(lines_of(figures), faults_of(figures), figures, given.json, "all targets are met")


if __name__ == "__main__":
    sys.exit(main())
