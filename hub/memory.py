"""Keeps freed memory for a while, because pages from the system are costly, then returns it to the system."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from pathlib import Path
from typing import Any, Final

STATM: Final = Path("/proc/self/statm")
"""Linux: its second number is the resident memory of the process, in pages."""
LOOK_EVERY: Final = 5.0
"""Seconds between two checks; longer if a check takes long."""
SHARE: Final = 200
"""A check is followed by a pause of this many times its duration, since other threads cannot allocate while glibc
walks a fragmented heap. The duration of the trim itself is not counted: it happens only when `WORTH_IT` bytes are
unused, and a pause after it would keep the memory freed next, at the end of a burst, for minutes."""
WORTH_IT: Final = 8 * 1_048_576
"""Growth of the unused resident memory since the last trim, in bytes, that makes a trim worthwhile."""

REUSED: Final = 32 * 1_048_576
"""Bytes of the largest block that is kept when it is freed: the largest that glibc allows."""
REUSED_AT_ENDS: Final = 64 * 1_048_576
"""Bytes that the free end of each heap may have until `give_back_memory` returns them."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class _Mallinfo2(ctypes.Structure):
    """glibc's memory statistics. `uordblks` are the bytes in use in its heaps, `hblkhd` those of large blocks.
    `fordblks` includes free blocks that were already returned, so it does not show how much can be returned."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def reuse_memory() -> None:
    """Let glibc use freed blocks of up to `REUSED` bytes again. By default it returns large ones at once, so each large
    entity costs a page fault for every 4 KiB of each of its copies. Does nothing with another C library."""
    glibc = find_glibc()
    if glibc is not None:
        glibc.mallopt(_M_MMAP_THRESHOLD, REUSED)
        glibc.mallopt(_M_TRIM_THRESHOLD, REUSED_AT_ENDS)


async def give_back_memory() -> None:
    """Regularly make glibc return free memory to the system. glibc keeps free memory between blocks in use; after many
    large requests that is most of their memory. Does nothing with another C library."""
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
    """Return the C library, or None if it is not glibc 2.33 or later on Linux."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo2
        library.malloc_trim.argtypes = (ctypes.c_size_t,)
        resident_bytes()
    except (OSError, AttributeError, TypeError):
        return None
    return library


def unused_bytes(glibc: Any) -> int:
    """Return the resident bytes that glibc has not allocated. Some can never be returned, such as the program itself,
    so only growth counts."""
    in_use = glibc.mallinfo2()
    return resident_bytes() - int(in_use.uordblks + in_use.hblkhd)


def resident_bytes() -> int:
    return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
