"""The workers that convert images: how many there are, who waits for them, and what happens when one fails.

A worker starts with the first image that needs it and ends when it has had none for a while. It serves one image at a
time. One that takes too long, or that something else has ended, is replaced, and only its own image is refused.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from hub.media.errors import BadImage, MediaBusy, WorkerFailed
from hub.media.jobs import ImageInfo, ImageJob, Order
from hub.media.worker_process import WorkerEnded, WorkerProcess
from stores.bounds import Limit
from stores.errors import StorageFull, Unavailable
from stores.read_turns import READER
from stores.turns import FairSemaphore

log = logging.getLogger(__name__)

LONGEST_IMAGE_WAIT: Annotated[int, Limit("image", "seconds", "503")] = 120
"""Seconds that an image waits for a worker."""
LARGE_MB: Final = 160
"""MiB: of images whose decoding takes more, only one is decoded at a time."""
LONGEST_CONVERSION: Annotated[float, Limit("image", "seconds", "503")] = 120.0
"""Seconds of the clock for one image. A worker gets the processor time that others leave, so that this says nothing of
the image; that is what `HUB_IMAGE_SECONDS` is for."""
IDLE_SECONDS: Final = 60.0
"""Seconds after its last image in which a worker ends."""
LONGEST_RETRY: Final = 60

_CRASHES: Final = tuple(
    -number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
)
"""Exit codes after which the image is to blame: it leads a decoder astray, and always will."""


class ImageWorkers:
    """Converts images in processes of their own.

    Args:
        most: images at once.
        seconds: processor time of one image.
        memory_mb: MiB of memory of one worker.
        queue: images that wait; half of them for one user.
        idle: seconds after its last image in which a worker ends.
        longest: seconds of the clock for one image.
    """

    def __init__(
        self,
        most: int = 2,
        seconds: int = 20,
        memory_mb: int = 1_024,
        queue: int = 100,
        idle: float = IDLE_SECONDS,
        longest: float = LONGEST_CONVERSION,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._queue = queue
        self._idle_seconds = idle
        self._longest = longest
        self._slots = FairSemaphore(most, most)
        self.one_large = asyncio.Semaphore(1)
        """Held while a large image is decoded."""
        self._inside: Counter[str] = Counter()
        """Images of each user that wait or are being converted."""
        self._idle: dict[WorkerProcess, asyncio.TimerHandle] = {}
        """Workers without an image, and when they end. The one that was used last is the last."""
        self._busy: set[WorkerProcess] = set()
        self._running: set[asyncio.Task[ImageInfo]] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._usual = 1.0
        """Seconds that an image has taken recently."""
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """The ids of the processes of all workers."""
        return [worker.pid for worker in (*self._busy, *self._idle)]

    async def convert(self, source: Path, target: Path, job: ImageJob) -> ImageInfo:
        """Convert the image in the file `source` into the new file `target`, which exists only after success.

        Raises:
            BadImage: the file is no image that the hub accepts.
            MediaBusy: too many images wait, or this one exceeds the limits of a worker.
            StorageFull: there is no room for the result.
            Unavailable: a file of the hub's own cannot be used.
            WorkerFailed: a defect.
        """
        async with self._slot():
            task = asyncio.create_task(self._carry_out(self._order(source, target, job)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            try:
                return await task
            except (
                asyncio.CancelledError
            ):  # the task was cancelled too and has ended its worker, or it was done already
                remove(target)
                raise

    async def close(self) -> None:
        """End all workers. Images that are being converted fail with MediaBusy."""
        self._is_closed = True
        for worker, timer in self._idle.items():
            timer.cancel()
            self._end(worker)
        self._idle.clear()
        for worker in self._busy:
            worker.kill()
        while tasks := {*self._running, *self._ending}:
            await asyncio.wait(tasks)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Hold one of the slots of workers while the block runs. Users take turns."""
        owner = READER.get()
        if self._inside.total() >= self._most + self._queue or self._inside[owner] >= self._most + self._queue // 2:
            raise self._busy_error("Too many images wait", "image_queue")
        self._inside[owner] += 1
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(LONGEST_IMAGE_WAIT):
                        await stack.enter_async_context(self._slots.slot(owner))
                except TimeoutError:
                    raise self._busy_error("Too many images wait", "LONGEST_IMAGE_WAIT") from None
                yield
        finally:
            self._inside[owner] -= 1
            if not self._inside[owner]:
                del self._inside[owner]

    def _order(self, source: Path, target: Path, job: ImageJob) -> Order:
        """Return the order for a worker, which runs in another folder."""
        return Order(source.absolute(), target.absolute(), job, self._seconds, self._memory_mb, LARGE_MB)

    async def _carry_out(self, order: Order) -> ImageInfo:
        worker = self._take()
        begun = asyncio.get_running_loop().time()
        try:
            answer = await self._ask(worker, order)
        except TimeoutError:
            await self._end_and_clean(worker, order)
            log.warning("an image took more than %g s: its worker was ended", self._longest)
            raise self._exceeded("time", "LONGEST_CONVERSION") from None
        except WorkerEnded:
            raise self._explained(await self._end_and_clean(worker, order)) from None
        except BaseException:
            await self._end_and_clean(worker, order)
            raise
        self._usual += (asyncio.get_running_loop().time() - begun - self._usual) / 8
        return await self._concluded(worker, order, answer)

    async def _ask(self, worker: WorkerProcess, order: Order) -> dict[str, Any]:
        """Return the answer of a worker. Raises WorkerEnded, TimeoutError."""
        async with asyncio.timeout(self._longest):
            answer = await worker.ask(order.line())
        if "large" not in answer:
            return answer
        async with self.one_large, asyncio.timeout(self._longest):
            return await worker.ask(b"\n")

    async def _concluded(self, worker: WorkerProcess, order: Order, answer: dict[str, Any]) -> ImageInfo:
        """Return the result in an answer, or raise the error in it."""
        if "done" in answer or "bad" in answer:
            self._keep(worker)
        else:
            await self._end_and_clean(worker, order)
        match answer:
            case {"done": {"width": int(width), "height": int(height), "size": int(size)}}:
                return ImageInfo(width, height, size)
            case {"bad": str(text), "limit": str(limit)}:
                raise BadImage(text).at(limit)
            case {"memory": True}:
                raise self._exceeded("memory", "image_memory_mb")
            case {"full": True}:
                raise StorageFull("no room for a converted image")
            case {"unavailable": str(text)}:
                log.error("a file that is needed to convert images cannot be used: %s", text)
                raise Unavailable(f"images cannot be converted: {text}")
        log.error("an image could not be converted: %s", answer.get("failed", answer))
        raise WorkerFailed("an image could not be converted")

    def _take(self) -> WorkerProcess:
        """Return a worker that is idle, or a new one."""
        while self._idle and not self._is_closed:
            worker, timer = self._idle.popitem()
            timer.cancel()
            if not worker.has_ended:
                self._busy.add(worker)
                return worker
            self._end(worker)
        try:
            if self._is_closed:
                raise self._busy_error("The hub is ending", "")
            worker = WorkerProcess()
        except OSError as error:
            log.error("no process for images can be started: %s", error)
            raise self._busy_error("The image could not be converted", "") from error
        self._busy.add(worker)
        return worker

    def _keep(self, worker: WorkerProcess) -> None:
        """Let a worker wait for the next image."""
        self._busy.discard(worker)
        if self._is_closed:
            self._end(worker)
            return
        self._idle[worker] = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, worker)

    def _expire(self, worker: WorkerProcess) -> None:
        del self._idle[worker]
        self._end(worker)

    def _end(self, worker: WorkerProcess) -> asyncio.Task[int]:
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _end_and_clean(self, worker: WorkerProcess, order: Order) -> int:
        """End a worker in the middle of an order, and return its exit code. The slot is held until it has ended."""
        self._busy.discard(worker)
        code = await asyncio.shield(self._end(worker))
        remove(order.target)
        return code

    def _explained(self, code: int) -> BadImage | MediaBusy:
        """Return the error for an image whose worker ended by itself with an exit code."""
        if code == -signal.SIGXCPU:
            return self._exceeded("time", "image_seconds")
        log.warning("a worker for images ended with %d", code)
        if code in _CRASHES:
            return BadImage("The image is damaged: it cannot be decoded.")
        return self._busy_error("The image could not be converted", "")

    def _exceeded(self, what: str, limit: str) -> MediaBusy:
        return self._busy_error(f"This image takes more {what} than it may", limit)

    def _busy_error(self, text: str, limit: str) -> MediaBusy:
        """Return the error, with the time after which those that wait now are likely done."""
        waiting = math.ceil(self._usual * (self._inside.total() + 1) / self._most)
        retry_after = max(1, min(LONGEST_RETRY, waiting))
        name = f" ({limit if limit.isupper() else f'HUB_{limit.upper()}'})" if limit else ""
        return MediaBusy(f"{text}{name}: try again in {retry_after} s.", retry_after).at(limit)


def remove(target: Path) -> None:
    """Remove what a worker may have written."""
    target.unlink(missing_ok=True)
