"""A fresh copy of the project, in which the commands of a page run as printed; only the port differs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT, project_files
from tests.support.ports import free_port

PRINTED: Final = "127.0.0.1:8000"
PATIENCE: Final = 90.0
"""Seconds for a start of the hub, which compiles its modules first, and for the commands of a page."""


class Fresh:
    """A copy of the project below `folder`, for a new user: with no settings but the port and those given. Its hub can
    be ended and started again on the same data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.project = folder / "hub"
        self.project.mkdir()
        copy_project(self.project)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        # The copy's modules come before those of this tree. If the copy's mark is out of date, pip must fail, so that
        # it does not install the copy over this environment.
        ours = {"HUB_PORT": str(free_port()), "PYTHONPATH": str(self.project), "PIP_NO_INDEX": "1"}
        self.environment = clean | ours | settings
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return PRINTED.replace("8000", self.environment["HUB_PORT"])

    def start(self) -> str:
        """Run `scripts/serve`; return its output when it is ready."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                ["scripts/serve"], cwd=self.project, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        give_up = time.monotonic() + PATIENCE
        while "Stop: Ctrl-C" not in self._log.read_text():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up, self._log.read_text()
            time.sleep(0.05)
        return self._log.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        """Signal the hub, if it has been started, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)

    def run(self, blocks: Sequence[str], options: str = "-euo pipefail") -> list[str]:
        """Run blocks of commands one after the other in one shell, as in one terminal; return the output of each."""
        assert shutil.which("curl"), "the commands of the pages need curl"
        printed = "printf '\\0'\n".join(block.replace(PRINTED, self.address) for block in blocks)
        done = self._done("bash", "-c", f"set {options}\n{printed}")
        return done.split("\0")

    def hub(self, *arguments: str) -> str:
        """Run a command of the copy's `hub`; return its output."""
        return self._done(".venv/bin/hub", *arguments).strip()

    def _done(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.project, env=self.environment, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout.decode()[-2_000:] + done.stderr.decode()
        return done.stdout.decode()


def copy_project(target: Path) -> None:
    """Copy the files of a clone, with the packages of this environment, so that nothing is downloaded again."""
    for path in project_files():
        to = target / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    venv = target / ".venv"
    venv.mkdir()
    for item in Path(sys.prefix).iterdir():
        if not item.name.startswith(".installed"):
            (venv / item.name).symlink_to(item)
    # Mark the installation as up to date, as scripts/environment does.
    stamp = ". scripts/environment; fingerprint > .venv/.installed"
    subprocess.run(["bash", "-c", stamp], cwd=target, check=True)
