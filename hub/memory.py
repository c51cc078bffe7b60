"""Gives memory that the process no longer uses back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import Any, Final

LOOK_EVERY: Final = 5.0
"""Seconds; longer where a look has taken long."""
SHARE: Final = 200
"""A look is followed by a pause of this many times its length: other threads cannot allocate while glibc goes through a
fragmented heap."""
WORTH_IT: Final = 8 * 1_048_576
"""Bytes that must have become free since the last time."""


class _Mallinfo2(ctypes.Structure):
    """What glibc says of its memory; `fordblks` are the bytes of free blocks, given back or not."""

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
    known, took = free_bytes(glibc), 0.0
    while True:
        await asyncio.sleep(max(LOOK_EVERY, SHARE * took))
        begun = time.monotonic()
        free = free_bytes(glibc)
        if free > known + WORTH_IT:
            await asyncio.to_thread(glibc.malloc_trim, 0)
            known = free_bytes(glibc)
        else:
            known = min(known, free)
        took = time.monotonic() - begun


def find_glibc() -> Any:
    """The C library; None if it is not glibc 2.33 or later."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo2
        library.malloc_trim.argtypes = (ctypes.c_size_t,)
    except (OSError, AttributeError, TypeError):
        return None
    return library


def free_bytes(glibc: Any) -> int:
    return int(glibc.mallinfo2().fordblks)
