"""Workers convert images beside the hub: how many, who waits, what happens when one fails, and when they end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.loop_watch import LoopWatch
from hub.media.errors import BadImage, MediaBusy, MediaError, WorkerFailed
from hub.media.jobs import ImageInfo, ImageJob, Watermark, thumbnail
from hub.media.worker import NICENESS
from hub.media.workers import ImageWorkers
from stores.errors import Unavailable
from stores.read_turns import READER
from tests.media import corpus, making
from tests.media.corpus import ACCEPTED, REFUSED
from tests.media.held import WAIT, HeldSource, exists, gone
from tests.media.making import PNG_HEAD, SIZE, chunk, header, saved

ROOT = Path(__file__).resolve().parents[2]
RED_IMAGE = saved(making.plain(), "PNG")
INFO = (*SIZE, "image/webp")

StartWorkers = Callable[..., ImageWorkers]


@pytest.fixture
async def start() -> AsyncIterator[StartWorkers]:
    """A function that makes workers, which are closed after the test. None of their processes is left."""
    made: list[ImageWorkers] = []

    def begin(**options: Any) -> ImageWorkers:
        made.append(ImageWorkers(**options))
        return made[-1]

    yield begin
    for workers in made:
        pids = workers.pids
        await workers.close()
        assert not workers.pids
        assert not [pid for pid in pids if exists(pid)]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[], HeldSource]]:
    made: list[HeldSource] = []

    def make() -> HeldSource:
        made.append(HeldSource(tmp_path / f"held-{len(made)}"))
        return made[-1]

    yield make
    for source in made:
        source.close()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    source = tmp_path / "red.png"
    source.write_bytes(RED_IMAGE)
    return source


class Targets:
    """New files for results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[Path] = []

    def new(self) -> Path:
        self.made.append(self._folder / f"result-{len(self.made)}.webp")
        return self.made[-1]

    @property
    def written(self) -> list[bool]:
        return [target.exists() for target in self.made]


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    return Targets(tmp_path)


def begin(workers: ImageWorkers, source: Path, targets: Targets, user: str = "") -> asyncio.Task[ImageInfo]:
    """Let a user convert an image with a worker of the default options."""

    async def convert() -> ImageInfo:
        READER.set(user)
        return await workers.convert(source, targets.new(), ImageJob())

    return asyncio.create_task(convert())


def of(info: ImageInfo) -> tuple[int, int, str]:
    return info.width, info.height, info.type


async def outcome(work: Coroutine[Any, Any, ImageInfo]) -> ImageInfo | MediaError:
    try:
        return await work
    except MediaError as error:
        return error


# Processes.


async def test_a_worker_starts_with_the_first_image_and_serves_the_next(
    start: StartWorkers, red: Path, targets: Targets
) -> None:
    workers = start()
    assert not workers.pids
    info = await workers.convert(red, targets.new(), ImageJob())
    assert of(info) == INFO
    assert info.size == targets.made[0].stat().st_size
    pids = workers.pids
    assert of(await workers.convert(red, targets.new(), thumbnail(160))) == INFO
    assert (workers.pids, len(pids)) == (pids, 1)


async def test_an_idle_worker_ends(start: StartWorkers, red: Path, targets: Targets) -> None:
    workers = start(idle=0.05)
    await workers.convert(red, targets.new(), ImageJob())
    [pid] = workers.pids
    await gone(pid)
    while workers.pids:  # noqa: ASYNC110
        await asyncio.sleep(WAIT)
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO


async def test_paths_are_relative_to_the_hub(
    start: StartWorkers, red: Path, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(red.parent)
    await start().convert(Path(red.name), Path(targets.new().name), ImageJob())
    assert targets.written == [True]


async def test_a_worker_has_no_secrets_and_goes_last(
    start: StartWorkers, red: Path, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_SECRET_KEY", "5e" * 32)
    monkeypatch.setenv("SOME_PASSWORD", "secret")
    workers = start()
    await workers.convert(red, targets.new(), ImageJob())
    [pid] = workers.pids
    environment = told(pid, "environ")
    assert b"HUB_" not in environment
    assert b"secret" not in environment
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    assert int(told(pid, "oom_score_adj")) >= 800
    assert os.getpgid(pid) != os.getpgid(0)


def told(pid: int, name: str) -> bytes:
    """Return what the system tells of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def test_a_worker_ignores_the_signals_that_end_the_hub(
    start: StartWorkers, hold: Callable[[], HeldSource], targets: Targets
) -> None:
    workers, source = start(), hold()
    work = begin(workers, source.path, targets)
    await source.begun()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(workers.pids[0], number)
    await source.release(RED_IMAGE)
    assert of(await work) == INFO


async def test_a_killed_hub_leaves_no_worker(hold: Callable[[], HeldSource], tmp_path: Path) -> None:
    """The worker is in the middle of an image."""
    source = hold()
    arguments = ("-m", "tests.media.hub_with_worker", str(source.path), str(tmp_path / "result.webp"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    hub = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert hub.stdout is not None
    pid = int(await hub.stdout.readline())
    await source.begun()
    hub.kill()
    await hub.communicate()
    await gone(pid)


async def test_closing_ends_busy_and_idle_workers(
    start: StartWorkers, hold: Callable[[], HeldSource], red: Path, targets: Targets
) -> None:
    workers, source = start(), hold()
    work = begin(workers, source.path, targets)
    await source.begun()
    await workers.convert(red, targets.new(), ImageJob())
    pids = workers.pids
    assert len(pids) == 2
    await workers.close()
    assert not [pid for pid in pids if exists(pid)]
    with pytest.raises(MediaBusy):
        await work
    with pytest.raises(MediaBusy):
        await workers.convert(red, targets.new(), ImageJob())


# Who waits.


async def test_two_images_are_converted_at_once(
    start: StartWorkers, hold: Callable[[], HeldSource], targets: Targets
) -> None:
    workers, sources = start(), [hold() for _ in range(3)]
    works = [begin(workers, source.path, targets) for source in sources]
    await sources[0].begun()
    await sources[1].begun()
    assert len(workers.pids) == 2
    assert not sources[2].has_begun
    await sources[0].release(RED_IMAGE)
    await sources[2].begun()
    assert works[0].done()
    assert not works[1].done()
    await sources[2].release(RED_IMAGE)
    await sources[1].release(RED_IMAGE)
    assert [of(info) for info in await asyncio.gather(*works)] == [INFO] * 3
    assert len(workers.pids) == 2


async def test_users_take_turns(start: StartWorkers, hold: Callable[[], HeldSource], targets: Targets) -> None:
    workers = start(most=1)
    sources = [hold() for _ in range(4)]
    works = [begin(workers, source.path, targets, user) for source, user in zip(sources, "aaab", strict=True)]
    for place in (0, 1, 3, 2):
        await sources[place].release(RED_IMAGE)
        await works[place]


async def test_beyond_the_queue_images_are_refused(
    start: StartWorkers, hold: Callable[[], HeldSource], red: Path, targets: Targets
) -> None:
    """A user has half of the queue."""
    workers, source = start(most=1, queue=4), hold()
    works = [begin(workers, source.path, targets, "a")]
    await source.begun()
    works += [begin(workers, red, targets, "a") for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(MediaBusy, match="HUB_IMAGE_QUEUE") as refused:
        await begin(workers, red, targets, "a")
    assert (refused.value.limit_name, refused.value.retry_after) == ("image_queue", 4)
    works += [begin(workers, red, targets, "b") for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(MediaBusy):
        await begin(workers, red, targets, "c")
    await source.release(RED_IMAGE)
    assert [of(info) for info in await asyncio.gather(*works)] == [INFO] * 5
    assert of(await begin(workers, red, targets, "c")) == INFO


async def test_one_that_gives_up_leaves_its_place(
    start: StartWorkers, hold: Callable[[], HeldSource], red: Path, targets: Targets
) -> None:
    workers, source = start(most=1, queue=2), hold()
    work = begin(workers, source.path, targets)
    await source.begun()
    waiting = begin(workers, red, targets)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    following = begin(workers, red, targets)
    await source.release(RED_IMAGE)
    assert [of(await each) for each in (work, following)] == [INFO] * 2


async def test_a_large_image_waits_for_another_large_one(
    start: StartWorkers, tmp_path: Path, red: Path, targets: Targets
) -> None:
    """Small ones do not."""
    workers = start()
    large = tmp_path / "large.png"
    large.write_bytes(PNG_HEAD + header(7_000, 7_000) + chunk(b"IDAT", b"nothing") + chunk(b"IEND"))
    async with workers.one_large:
        work = begin(workers, large, targets)
        assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO
        assert not work.done()
    with pytest.raises(BadImage):
        await work


# Failures.


def pixels_without_end(width: int, height: int, colour: int, samples: int) -> bytes:
    """Return a PNG that is small as a file: all its rows are the same."""
    packing = zlib.compressobj(1)
    row = b"\0" + bytes(range(256)) * (width * samples // 256 + 1)
    row = row[: width * samples + 1]
    data = b"".join(packing.compress(row) for _ in range(height)) + packing.flush()
    before = [chunk(b"PLTE", bytes(768))] if colour == 3 else []
    return b"".join((PNG_HEAD, header(width, height, 8, colour), *before, chunk(b"IDAT", data), chunk(b"IEND")))


async def test_an_image_that_takes_too_much_processor_time_ends_its_worker_only(
    start: StartWorkers, hold: Callable[[], HeldSource], tmp_path: Path, red: Path, targets: Targets
) -> None:
    """50 million transparent pixels take more than a second; with 0, a worker gets what is left of one."""
    large = tmp_path / "large.png"
    large.write_bytes(await asyncio.to_thread(pixels_without_end, 7_000, 7_000, 6, 4))
    workers, source = start(seconds=0), hold()
    other = begin(workers, source.path, targets)
    await source.begun()
    [pid] = workers.pids
    with pytest.raises(MediaBusy, match="HUB_IMAGE_SECONDS") as refused:
        await workers.convert(large, targets.new(), ImageJob())
    assert refused.value.limit_name == "image_seconds"
    assert workers.pids == [pid]
    await source.release(RED_IMAGE)
    assert of(await other) == INFO
    assert targets.written == [True, False]


async def test_an_image_that_takes_too_long_ends_its_worker(
    start: StartWorkers, hold: Callable[[], HeldSource], red: Path, targets: Targets
) -> None:
    workers, source = start(longest=0.5), hold()
    with pytest.raises(MediaBusy) as refused:
        await workers.convert(source.path, targets.new(), ImageJob())
    assert refused.value.limit_name == "LONGEST_CONVERSION"
    assert not workers.pids
    assert targets.written == [False]


@pytest.mark.parametrize(
    ("memory", "colour", "samples"),
    [pytest.param(100, 2, 3, id="told before"), pytest.param(150, 3, 1, id="met on the way")],
)
async def test_an_image_that_takes_too_much_memory_is_refused(
    start: StartWorkers, tmp_path: Path, red: Path, targets: Targets, memory: int, colour: int, samples: int
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(await asyncio.to_thread(pixels_without_end, 6_000, 6_000, colour, samples))
    workers = start(memory_mb=memory)
    with pytest.raises(MediaBusy, match="HUB_IMAGE_MEMORY_MB") as refused:
        await workers.convert(large, targets.new(), ImageJob())
    assert refused.value.limit_name == "image_memory_mb"
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO
    assert targets.written == [False, True]


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGKILL, MediaBusy), (signal.SIGSEGV, BadImage)],
    ids=["killed by somebody", "crashed"],
)
async def test_a_worker_that_ends_harms_its_own_image_only(
    start: StartWorkers,
    hold: Callable[[], HeldSource],
    red: Path,
    targets: Targets,
    number: signal.Signals,
    error: type[MediaError],
) -> None:
    workers, first, second = start(), hold(), hold()
    one, other = begin(workers, first.path, targets), begin(workers, second.path, targets)
    await first.begun()
    await second.begun()
    victim = await reader_of(first, workers)
    os.kill(victim, number)
    with pytest.raises(error):
        await one
    await second.release(RED_IMAGE)
    assert of(await other) == INFO
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO
    assert victim not in workers.pids
    assert targets.written == [False, True, True]


async def reader_of(source: HeldSource, workers: ImageWorkers) -> int:
    """Return the id of the worker that reads a source."""
    while True:
        for pid in workers.pids:
            if str(source.path) in open_files(pid):
                return pid
        await asyncio.sleep(WAIT)


def open_files(pid: int) -> str:
    """Return the names of the files that a process has open."""
    found = Path(f"/proc/{pid}/fd")
    return " ".join(os.readlink(each) for each in found.iterdir())


async def test_an_idle_worker_that_was_killed_is_replaced(start: StartWorkers, red: Path, targets: Targets) -> None:
    workers = start()
    await workers.convert(red, targets.new(), ImageJob())
    [worker] = workers._idle
    os.kill(worker.pid, signal.SIGKILL)
    while not worker.has_ended:  # noqa: ASYNC110
        await asyncio.sleep(WAIT)
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO
    assert worker.pid not in workers.pids


async def test_a_caller_that_gives_up_ends_its_worker(
    start: StartWorkers, hold: Callable[[], HeldSource], targets: Targets
) -> None:
    """When the cancellation is done, nobody writes the target any more."""
    workers, source = start(), hold()
    work = begin(workers, source.path, targets)
    await source.begun()
    [pid] = workers.pids
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not exists(pid)
    assert not workers.pids
    assert targets.written == [False]


async def test_a_defect_is_logged_with_its_traceback(
    start: StartWorkers, red: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, targets: Targets
) -> None:
    workers = start()
    with pytest.raises(WorkerFailed):
        await workers.convert(red, targets.new(), ImageJob(quality="high"))  # type: ignore[arg-type]
    assert "ValueError" in caplog.text
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO


async def test_a_file_of_the_hub_that_is_missing_is_no_defect(
    start: StartWorkers, red: Path, caplog: pytest.LogCaptureFixture, targets: Targets
) -> None:
    """Somebody has moved the file of the watermark: the log says so, and images without a mark are converted."""
    workers = start()
    with pytest.raises(Unavailable, match="No such file"):
        await workers.convert(red, targets.new(), ImageJob(watermark=Watermark(file="/nowhere/mark.png")))
    assert "No such file" in caplog.text
    assert of(await workers.convert(red, targets.new(), ImageJob())) == INFO


async def test_no_file_of_the_corpus_ends_a_worker(start: StartWorkers, tmp_path: Path, targets: Targets) -> None:
    """Each has the same outcome as in the process itself."""
    workers = start(most=1)
    pids: set[int] = set()
    source = tmp_path / "source"
    for case in (*ACCEPTED, *REFUSED):
        source.write_bytes(case.make())
        found = await outcome(workers.convert(source, targets.new(), ImageJob()))
        pids.update(workers.pids)
        if isinstance(case, corpus.Accepted):
            assert isinstance(found, ImageInfo), f"{case.name}: {found!r}"
            assert (found.width, found.height) == case.size
        else:
            assert isinstance(found, BadImage), f"{case.name}: {found!r}"
            assert (case.words in found.text, found.limit_name) == (True, case.limit), f"{case.name}: {found!r}"
        assert targets.written[-1] == isinstance(found, ImageInfo)
    assert len(pids) == 1


def samples() -> list[bytes]:
    image = making.noise().resize((24, 24))
    return [
        *(saved(image, form) for form in ("JPEG", "PNG", "WEBP", "GIF")),
        saved(image, "JPEG", progressive=True, exif=making.exif(6)),
        saved(image.convert("CMYK"), "JPEG"),
        saved(image, "WEBP", lossless=True),
        corpus.rgba((255, 0, 0, 128), "WEBP", quality=80),
        corpus.apng(),
        corpus.animated_webp(),
        corpus.png_with_icc(making.swapped_profile()),
        corpus.with_icc(making.white_ink_profile(), "CMYK", (0, 0, 0, 255)),
    ]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with a few other bytes, or without some of them."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(found) if chance.random() < 0.5 else min(len(found), 64))
        match chance.randrange(4):
            case 0:
                found[place] = chance.randrange(256)
            case 1:
                found[place] ^= 1 << chance.randrange(8)
            case 2:
                found[place : place + 4] = struct.pack(">I", chance.choice((0, 1, 2**31 - 1, 2**32 - 1)))
            case _:
                del found[place : place + chance.choice((1, 2, 40))]
        if not found:
            break
    return bytes(found)


@pytest.mark.generated(0.5)
async def test_damaged_files_are_converted_or_refused(
    start: StartWorkers, tmp_path: Path, targets: Targets, request: pytest.FixtureRequest
) -> None:
    """Whatever is changed in a file, no worker crashes and nothing is taken for a defect."""
    chance = random.Random(15)
    workers = start(most=1, memory_mb=1_024)
    source = tmp_path / "source"
    originals = samples()
    pids: set[int] = set()
    refused = 0
    for _ in range(request.config.getoption("--cases") or 300):
        source.write_bytes(damaged(chance.choice(originals), chance))
        found = await outcome(workers.convert(source, targets.new(), thumbnail(160)))
        assert isinstance(found, ImageInfo | BadImage), repr(found)
        refused += isinstance(found, BadImage)
        pids.update(workers.pids)
    assert len(pids) == 1
    assert refused > 50


async def test_turns_of_the_loop_stay_short(start: StartWorkers, red: Path, targets: Targets) -> None:
    """In CPU time, with workers that start and end."""
    turns: list[float] = []
    watch = LoopWatch(turns.append)
    workers = start()
    watch.start()
    await asyncio.gather(*(begin(workers, red, targets) for _ in range(30)))
    await workers.close()
    watch.stop()
    assert max(turns) < 0.02
