"""The control file in the data folder, by which the command line finds a running hub. Only its owner can read it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "hub.json"
STATE = "hub/running"
"""Folder below the user's state folder. Each running hub of this user keeps a note of its data folder there."""


@dataclass(frozen=True, slots=True)
class Control:
    """The content of the control file. `token` is a Bearer token of the process; it authenticates as the first
    administrator. `database` is `Settings.database_address`, empty for a hub of an older version."""

    pid: int
    url: str
    token: str
    database: str = ""


def read_control(data_dir: Path) -> Control | None:
    """Return the hub that runs on `data_dir`, or None if none runs."""
    try:
        control = Control(**json.loads((data_dir / FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return control if is_alive(control.pid) else None


def is_alive(pid: int) -> bool:
    """Return whether a process with this id exists and this user may signal it."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def write_control(data_dir: Path, control: Control) -> None:
    path = data_dir / FILE_NAME
    scratch = path.with_suffix(f".{control.pid}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(control), file)
    scratch.replace(path)


def remove_control(data_dir: Path, pid: int) -> None:
    """Remove the control file if it belongs to this process."""
    control = read_control(data_dir)
    if control and control.pid == pid:
        (data_dir / FILE_NAME).unlink(missing_ok=True)


def running_folder() -> Path:
    """Return the folder of the notes (XDG Base Directory)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / STATE


def register(data_dir: Path, pid: int) -> None:
    """Note that a hub runs on `data_dir`. The note is a convenience: failures are ignored."""
    with suppress(OSError, RuntimeError):
        folder = running_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / str(pid)).write_text(str(data_dir.absolute()))


def unregister(pid: int) -> None:
    with suppress(OSError, RuntimeError):
        (running_folder() / str(pid)).unlink(missing_ok=True)


def running_data_dirs() -> list[Path]:
    """Return the data folders of this user's running hubs, and remove the notes of hubs that have ended."""
    found: list[Path] = []
    with suppress(OSError, RuntimeError, ValueError):
        for note in sorted(running_folder().iterdir()):
            data_dir = Path(note.read_text())
            control = read_control(data_dir)
            if control and str(control.pid) == note.name:
                found.append(data_dir)
            elif not is_alive(int(note.name)):
                note.unlink(missing_ok=True)
    return found
