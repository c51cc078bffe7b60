"""Starts hubs as copies of a process that has imported the hub already: the imports are most of a start's CPU time.

`python -m tests.support.forkserver FD` is that process. It takes requests from the socket FD until that is closed: the
arguments, the environment and the folder of a `hub` command, with its standard streams and a pipe. It writes the pid of
the copy to the pipe, and its wait status once it has ended.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Final

from hub.cli.main import main
from tests.support.program import ROOT

LARGEST_REQUEST: Final = 131_072
"""Bytes: an environment is part of a request."""

PYTHONPATH: Final = os.environ.get("PYTHONPATH")

IMPORTED: Final = (
    "hub.app",
    "hub.serve",
    "stores.mongo.engine",
    "stores.sqlite.engine",
    "precis_i18n",
    "zxcvbn.frequency_lists",
)
"""Modules that a hub imports while it starts."""


class ForkedProcess:
    """A copy that runs a `hub` command, with the methods of `subprocess.Popen` that tests need. Its standard output is
    a pipe."""

    def __init__(self, pid: int, stdout: BinaryIO, status: BinaryIO) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("hub", timeout or 0)
        return code

    def communicate(self) -> tuple[bytes, None]:
        """Wait until the output ends and the process has ended; return the output."""
        with self.stdout:
            output = self.stdout.read()
        self.wait()
        return output, None

    def _ended_within(self, seconds: float | None) -> int | None:
        with self._waiting:
            if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
                line = self._status.readline()
                # Without a line the server has been killed.
                self.returncode = os.waitstatus_to_exitcode(int(line)) if line else -signal.SIGKILL
                self._status.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: BinaryIO
    ) -> ForkedProcess:
        """Start `hub` with these arguments in the folder. Its standard error goes to `log`."""
        request = json.dumps([list(arguments), dict(environment), str(folder)]).encode()
        stdout, write_stdout = os.pipe()
        status, write_status = os.pipe()
        with open(os.devnull, "rb") as stdin:
            socket.send_fds(self._control, [request], [stdin.fileno(), write_stdout, log.fileno(), write_status])
        os.close(write_stdout)
        os.close(write_status)
        pipe = os.fdopen(status, "rb", buffering=0)
        return ForkedProcess(int(pipe.readline()), os.fdopen(stdout, "rb"), pipe)


def is_forkable(environment: Mapping[str, str]) -> bool:
    """Return whether a copy of the server can run with this environment: modules that are looked for in another
    PYTHONPATH have to be imported by a fresh interpreter."""
    return environment.get("PYTHONPATH") == PYTHONPATH


@cache
def fork_server() -> ForkServer:
    """Return the server of this process, which ends with it."""
    return ForkServer()


@dataclass
class Job:
    """What a copy runs."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    streams: list[int]

    def prepare(self) -> None:
        """Turn this copy into a fresh process."""
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        sys.argv = ["hub", *self.arguments]
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


@dataclass
class Forking:
    """The loop of the server."""

    control: socket.socket
    statuses: dict[int, int] = field(default_factory=dict)

    def next_job(self) -> Job | None:
        """Return the job in each copy; return None in the server when the socket is closed."""
        ended, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            readable, _, _ = select.select([self.control.fileno(), ended], [], [])
            if ended in readable:
                os.read(ended, 4_096)
                self._report_ended()
            if self.control.fileno() in readable:
                request, streams, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, 4)
                if not request:
                    return None
                if self._fork(streams.pop()):
                    for stream in streams:
                        os.close(stream)
                    continue
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (ended, woken, *self.statuses.values()):
                    os.close(each)
                self.control.close()
                arguments, environment, folder = json.loads(request)
                return Job(arguments, environment, folder, streams)

    def _fork(self, status: int) -> int:
        pid = os.fork()
        if pid:
            os.write(status, b"%d\n" % pid)
            self.statuses[pid] = status
        else:
            os.close(status)
        return pid

    def _report_ended(self) -> None:
        while self.statuses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            pipe = self.statuses.pop(pid)
            try:
                os.write(pipe, b"%d\n" % status)
            except BrokenPipeError:
                pass  # nobody waits for it
            os.close(pipe)


def serve(control: int) -> None:
    for module in IMPORTED:
        import_module(module)
    gc.collect()
    gc.freeze()
    job = Forking(socket.socket(fileno=control)).next_job()
    if job is not None:
        job.prepare()
        main()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
