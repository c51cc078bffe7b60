"""Gives memory that the process no longer uses back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from pathlib import Path
from typing import Any, Final

STATM: Final = Path("/proc/self/statm")
"""Of Linux: the second number is the pages of the process that are in memory."""
LOOK_EVERY: Final = 5.0
"""Seconds; longer where a look has taken long."""
SHARE: Final = 200
"""A look is followed by a pause of this many times its length: other threads cannot allocate while glibc goes through a
fragmented heap. What giving back takes is not counted: it happens only when `WORTH_IT` bytes are unused, and a
pause after it would keep what becomes free next, at the end of a burst, for minutes."""
WORTH_IT: Final = 8 * 1_048_576
"""Bytes in memory, beyond what is in use, by which the process must have grown since the last time."""


class _Mallinfo2(ctypes.Structure):
    """glibc's statistics of its memory: `uordblks` are the bytes in use in its heaps, `hblkhd` those of large blocks.
    `fordblks` are all free blocks, given back or not, so they do not tell how much there is to give back."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


async def give_back_memory() -> None:
    """Ask glibc now and then to return what is free: it keeps what lies between blocks in use, which after many large
    requests is most of their memory. Does nothing with another C library."""
    glibc = find_glibc()
    if glibc is None:
        return
    known, took = unused_bytes(glibc), 0.0
    while True:
        await asyncio.sleep(max(LOOK_EVERY, SHARE * took))
        begun = time.monotonic()
        unused = unused_bytes(glibc)
        took = time.monotonic() - begun
        if unused > known + WORTH_IT:
            await asyncio.to_thread(glibc.malloc_trim, 0)
            known = unused_bytes(glibc)
        else:
            known = min(known, unused)


def find_glibc() -> Any:
    """The C library; None if it is not glibc 2.33 or later on Linux."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo2
        library.malloc_trim.argtypes = (ctypes.c_size_t,)
        resident_bytes()
    except (OSError, AttributeError, TypeError):
        return None
    return library


def unused_bytes(glibc: Any) -> int:
    """Bytes in memory that glibc has not handed out. Some can never be given back, such as the program itself: only
    growth counts."""
    in_use = glibc.mallinfo2()
    return resident_bytes() - int(in_use.uordblks + in_use.hblkhd)


def resident_bytes() -> int:
    return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
