"""The folder of files that are on their way: uploads as they arrive, and images as they are converted."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from hub.media.storage import full_or_unavailable
from stores.threads import in_thread

INCOMING: Final = "incoming"
"""The name of the folder, in that of the data."""
ABANDONED: Final = 3_600
"""Seconds after which a file belongs to a process that was killed."""
_COPIED_AT_ONCE: Final = 1_048_576


class IncomingFolder:
    """Hands out paths in `folder`, which is made when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def path(self) -> AsyncIterator[Path]:
        """Return the path of a new file, which does not exist yet, and is removed at the end. Raises StorageFull and
        Unavailable for errors of files."""
        path = self._folder / secrets.token_hex(16)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield path
        except TimeoutError:  # it is an OSError, too, and not of files
            raise
        except OSError as error:
            raise full_or_unavailable(error) from error
        finally:
            await in_thread(_unlink, path)

    async def sweep(self) -> None:
        """Remove what killed processes have left."""
        await in_thread(self._sweep)

    def _sweep(self) -> None:
        oldest = time.time() - ABANDONED
        with suppress(FileNotFoundError), os.scandir(self._folder) as found:
            for each in found:
                with suppress(FileNotFoundError):
                    if each.stat().st_mtime < oldest:
                        os.unlink(each.path)


def _unlink(path: Path) -> None:
    """Remove a file, which may take long if it is large."""
    with suppress(OSError):
        path.unlink()


def copy(source: BinaryIO, path: Path) -> int:
    """Write what is in an open file to a new one; return its bytes."""
    source.seek(0)
    size = 0
    with path.open("xb") as target:
        while piece := source.read(_COPIED_AT_ONCE):
            target.write(piece)
            size += len(piece)
    return size


def head_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)
