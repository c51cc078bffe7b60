"""Runs `hub` commands as copies of a process that has imported the hub already: the imports take most of the CPU time.

`python -m tests.support.forkserver FD` is that process. It takes requests from the socket FD until that is closed: the
arguments, the environment and the folder of a `hub` command, with its standard streams and a pipe. It writes the pid of
the copy to the pipe, and its wait status once it has ended.
"""

from __future__ import annotations

import atexit
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
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, Final, cast

from hub.cli.main import built, main
from tests.support.program import ROOT

LARGEST_REQUEST: Final = 131_072
"""Bytes: an environment is part of a request."""

IMPORTED: Final = (
    "anyio._backends._asyncio",
    "httpcore",
    "hub.app",
    "hub.serve",
    "hub.services.renaming",
    "hub.services.rescue",
    "openpyxl",
    "precis_i18n",
    "rich._emoji_codes",
    "stores.mongo.engine",
    "stores.sqlite.engine",
    "typer._adapters",
    "typer._click.decorators",
    "typer.rich_utils",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "zxcvbn.frequency_lists",
)
"""Modules that commands import when they need them."""


Stream = int | IO[bytes]
"""A file, or `subprocess.PIPE`."""


class ForkedProcess:
    """A copy that runs a `hub` command, with what tests need of `subprocess.Popen`."""

    def __init__(self, pid: int, pipes: Sequence[BinaryIO | None], status: BinaryIO) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = pipes
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

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Send the input, wait until the output ends and the process has ended; return both parts of the output."""
        if self.stdin is not None and not self.stdin.closed:
            with self.stdin:
                self.stdin.write(input or b"")
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None and not stream.closed]
        output: dict[BinaryIO, bytes] = dict.fromkeys(streams, b"")
        end = None if timeout is None else time.monotonic() + timeout
        while streams:
            ready = _readable(streams, _seconds_until(end))
            if not ready:
                raise subprocess.TimeoutExpired("hub", timeout or 0)
            for stream in ready:
                piece = stream.read(65_536)
                output[stream] += piece
                if not piece:
                    stream.close()
                    streams.remove(stream)
        self.wait(_seconds_until(end))
        return tuple(output.get(stream, b"") if stream else b"" for stream in (self.stdout, self.stderr))  # type: ignore[return-value]

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            with suppress(ValueError):  # without the lock, so that another thread may kill the process and close this
                _readable([self._status], seconds)
        with self._waiting:
            if self.returncode is None and _readable([self._status], 0):
                line = self._status.readline()
                if not line:  # the server has been killed
                    with suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGKILL)
                self.returncode = os.waitstatus_to_exitcode(int(line)) if line else -signal.SIGKILL
                self._status.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its status is on the way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


StartedProcess = subprocess.Popen[bytes] | ForkedProcess


class ForkServer:
    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Sequence[Stream]
    ) -> ForkedProcess:
        """Start `hub` with these arguments and standard streams in the folder."""
        request = json.dumps([list(arguments), dict(environment), str(folder)]).encode()
        ours: list[BinaryIO | None] = []
        with ExitStack() as theirs:
            numbers = []
            for number, stream in enumerate(streams):
                our_end: BinaryIO | None = None
                if stream == subprocess.PIPE:
                    our_end, stream = _pipe(theirs, is_input=number == 0)
                ours.append(our_end)
                numbers.append(stream if isinstance(stream, int) else stream.fileno())
            status, write_status = _pipe(theirs, is_input=False)
            socket.send_fds(self._control, [request], [*numbers, write_status])
        return ForkedProcess(int(status.readline()), ours, status)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, input: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `hub` to its end, like `subprocess.run`."""
        with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
            stdin.write(input)
            stdin.seek(0)
            process = self.start(arguments, environment, folder, (stdin, stdout, stderr))
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())


def _pipe(theirs: ExitStack, *, is_input: bool) -> tuple[BinaryIO, int]:
    """Return our end of a new pipe, and the other one, which `theirs` closes."""
    reading, writing = os.pipe()
    our_end, their_end = (writing, reading) if is_input else (reading, writing)
    theirs.callback(os.close, their_end)
    # Output without a buffer, so that `poll` sees all that there is.
    ours = os.fdopen(our_end, "wb") if is_input else os.fdopen(our_end, "rb", buffering=0)
    return cast(BinaryIO, ours), their_end


def _readable(streams: Sequence[BinaryIO], seconds: float | None) -> list[BinaryIO]:
    """Return the streams that can be read, after so many seconds at most. Not `select.select`, which takes no file
    beyond 1 023."""
    poll = select.poll()
    for stream in streams:
        poll.register(stream, select.POLLIN)
    ready = {number for number, _ in poll.poll(None if seconds is None else seconds * 1_000)}
    return [stream for stream in streams if stream.fileno() in ready]


def _seconds_until(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


def is_forkable(environment: Mapping[str, str]) -> bool:
    """Return whether a copy of the server can run with this environment: what an interpreter reads when it starts must
    be the same."""
    return _interpreter(environment) == _INTERPRETER


def _interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    read = {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}
    if read.get("PYTHONPATH") == str(ROOT):
        del read["PYTHONPATH"]  # the server runs in this folder
    return read


_INTERPRETER: Final = _interpreter(os.environ)
"""That of this process and of the server, whatever a test has set since."""

_starting: Final = threading.Lock()
_servers: Final[list[ForkServer]] = []


def fork_server() -> ForkServer:
    """Return the server of this process, which ends with it."""
    with _starting:
        if not _servers:
            _servers.append(ForkServer())
        return _servers[0]


@dataclass
class Job:
    """A command that a copy runs."""

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
        sys.modules["__main__"].__package__ = None  # as in the script `hub`, whose name is then that of the program
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
                if not request:  # pytest has ended
                    for pid in self.statuses:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
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
            self.statuses[pid] = status
            with suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(status, b"%d\n" % pid)
        else:
            os.close(status)
        return pid

    def _report_ended(self) -> None:
        while self.statuses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            pipe = self.statuses.pop(pid)
            with suppress(BrokenPipeError):
                os.write(pipe, b"%d\n" % status)
            os.close(pipe)


def serve(control: int) -> None:
    for module in IMPORTED:
        import_module(module)
    built()
    gc.collect()
    gc.freeze()
    job = Forking(socket.socket(fileno=control)).next_job()
    if job is not None:
        job.prepare()
        run()


def run() -> None:
    """Run the command, and end without freeing what the interpreter holds: that would touch, and so copy, all memory
    that the copies share (measured: half of the processor time of a command)."""
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    else:
        code = 0
    gc.collect()  # what was never awaited or retrieved is logged now, as at the end of an interpreter
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
