"""Programs that tests need from the system's package manager; scripts/test installs them if it is allowed to."""

from __future__ import annotations

import shutil

NEEDED = ("nginx",)
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/sbin"


def found(name: str) -> str | None:
    """Return the path of a program, looking in /usr/sbin and /sbin too; None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
