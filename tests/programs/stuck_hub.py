"""A hub whose engine never closes."""

from __future__ import annotations

import asyncio
import sys

from hub import serve
from hub.settings import read_settings
from stores.sqlite import SQLiteEngine


async def wait_for_ever(_: SQLiteEngine) -> None:
    await asyncio.Event().wait()


if __name__ == "__main__":
    SQLiteEngine.close = wait_for_ever  # type: ignore[method-assign]
    serve.LONGEST_END = 0.1
    sys.exit(serve.serve(read_settings()))
