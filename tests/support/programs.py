"""Programs that tests need and that only the system's package manager has; scripts/test installs them when it may."""

from __future__ import annotations

import shutil

NEEDED = ("nginx",)
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/sbin"


def found(name: str) -> str | None:
    """The path of a program, also of one for administrators; None where it is not installed."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
