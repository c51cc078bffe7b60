"""The process that converts images: `python -m hub.media.worker`, with a socket of the hub as its standard input.

Each line that it reads is an `Order` in JSON. Each line that it writes is an answer, an object with one of the members

- `done`: the ImageInfo of the result;
- `large`: true; the image takes much memory, and the worker waits for an empty line before it decodes it;
- `bad`: what is wrong with the file, with `limit`, the name of the limit that it exceeds;
- `memory`, `full`: true; there was too little memory, or no room for the result;
- `unavailable`: what is wrong with a file of the hub's own, such as that of its watermark;
- `failed`: the traceback of a defect.

It ends as soon as the hub does.
"""

from __future__ import annotations

import errno
import json
import math
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from hub.media.errors import BadImage
from hub.media.imaging import memory_for, read_image, write_webp
from hub.media.jobs import Order

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

Answer = dict[str, Any]

NICENESS: Final = 10
"""Behind everything else that the machine does."""
FIRST_TO_GO: Final = 800
"""Of 1 000: without memory, the system ends a worker rather than the hub (proc(5), oom_score_adj)."""
RESULT_BYTES: Final = 64 * 1_048_576
"""A WebP of 9 million pixels has a quarter of this, at most."""
STACK_BYTES: Final = 262_144

HANGUP: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP


def main() -> None:
    """Carry out orders until the hub closes the socket."""
    hub = socket.socket(fileno=0)
    step_back()
    end_with(hub)
    with hub.makefile("rb") as lines:

        def may_go_on() -> bool:
            hub.sendall(_line({"large": True}))
            return bool(lines.readline())

        for line in lines:
            hub.sendall(_line(carry_out(Order.read(line), may_go_on)))


def carry_out(order: Order, may_go_on: Callable[[], bool]) -> Answer:
    """Convert one image and return the answer."""
    limit(order)
    try:
        still = read_image(order.source)
        needed = memory_for(still) // 1_048_576
        if needed > order.memory_mb:
            return {"memory": True}
        if needed >= order.large_mb and not may_go_on():
            return {}
        return {"done": asdict(write_webp(still, order.target, order.job))}
    except BadImage as error:
        return {"bad": error.text, "limit": error.limit_name}
    except MemoryError:
        return {"memory": True}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return {"full": True}
        return {"unavailable": error.strerror or type(error).__name__}
    except Exception:
        return {"failed": traceback.format_exc()}


def step_back() -> None:
    """Leave the processor and the memory to others, and let the hub decide when the work ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO), encoding="ascii")
    if resource is not None:
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_FSIZE, RESULT_BYTES)


def limit(order: Order) -> None:
    """Set the memory of this process, and the processor time of one order."""
    if resource is not None:
        _lower(resource.RLIMIT_DATA, order.memory_mb * 1_048_576)
        _lower(resource.RLIMIT_CPU, math.ceil(time.process_time()) + order.seconds)


def _lower(kind: int, value: int) -> None:
    """Set a limit of this process: the soft one, which can be raised for the next order."""
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        value = min(value, most)
    with suppress(ValueError, OSError):  # macOS refuses some
        resource.setrlimit(kind, (value, most))


def end_with(hub: socket.socket) -> None:
    """End this process when the other end of the socket closes, also in the middle of an order."""

    def wait() -> None:
        closing = select.poll()
        closing.register(hub, HANGUP)
        while not closing.poll():
            pass
        os._exit(0)

    threading.stack_size(STACK_BYTES)
    threading.Thread(target=wait, daemon=True).start()
    if resource is not None:
        _lower(resource.RLIMIT_NPROC, 0)  # no further thread, no program


def _line(answer: Answer) -> bytes:
    return json.dumps(answer).encode() + b"\n"


if __name__ == "__main__":
    main()
