"""How the command line finds a hub that runs on the same data folder: a file that only its owner can read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "hub.json"


@dataclass(frozen=True, slots=True)
class Control:
    """`token` is a Bearer token of the running process, which stands for its first administrator."""

    pid: int
    url: str
    token: str


def read_control(data_dir: Path) -> Control | None:
    """The hub that runs on `data_dir`; None when there is none (any more)."""
    try:
        control = Control(**json.loads((data_dir / FILE_NAME).read_text()))
        os.kill(control.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return control


def write_control(data_dir: Path, control: Control) -> None:
    path = data_dir / FILE_NAME
    scratch = path.with_suffix(f".{control.pid}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(control), file)
    scratch.replace(path)


def remove_control(data_dir: Path, pid: int) -> None:
    """Take the file away, if it is still this process's."""
    control = read_control(data_dir)
    if control and control.pid == pid:
        (data_dir / FILE_NAME).unlink(missing_ok=True)
