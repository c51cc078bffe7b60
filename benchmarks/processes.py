"""The processes that are measured, a hub and its MongoDB: the cores that they run on, and their CPU time and memory."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pymongo

ROOT: Final = Path(__file__).resolve().parent.parent
PASSWORD: Final = secrets.token_urlsafe(16)
START_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores for the hub, the load generator and the database; None where the system cannot pin processes."""

    hub: set[int] | None = None
    load: set[int] | None = None
    database: set[int] | None = None

    @classmethod
    def choose(cls) -> Cores:
        """Choose one core for the hub, one for the load, and the rest (or the load's) for the database."""
        if not hasattr(os, "sched_getaffinity"):
            return cls()
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls()
        return cls({usable[0]}, {usable[1]}, set(usable[2:]) or {usable[1]})


@contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """Pin this thread, and every process that is started in the block, to these cores."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int | None) -> float | None:
    """Return the CPU time that a process has used so far, user and system, in all threads; None where there is no
    /proc. Linux knows it to the nanosecond, whereas /proc counts hundredths of a second."""
    if pid is None:
        return None
    with suppress(OSError):
        return time.clock_gettime(_cpu_clock_of(pid))
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_clock_of(pid: int) -> int:
    """Return the id of the clock that counts the CPU time of a process, as clock_getcpuclockid(3) of glibc does."""
    return ~pid << 3 | 2


def resident_kib(pid: int) -> float | None:
    """Return the resident memory of a process in KiB; None where there is no /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass(frozen=True, slots=True)
class Program:
    """The source folder of a hub, an interpreter with its packages, and the module that is its command line."""

    root: Path
    python: str
    module: str = "hub.cli"

    @classmethod
    def here(cls) -> Program:
        return cls(ROOT, sys.executable)


@dataclass(frozen=True, slots=True)
class Hub:
    """A running hub. `database` is the URL of its MongoDB, or the path of its SQLite file. `database_pid` is the id of
    the process of its MongoDB, None without one or if it runs elsewhere."""

    engine: str
    host: str
    port: int
    pid: int
    log: Path
    database: str
    database_pid: int | None = None

    def complaints(self) -> list[str]:
        """Return the errors in the hub's log."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if " ERROR " in line]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@contextmanager
def running_hub(
    database_url: str,
    cores: Cores,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
    program: Program | None = None,
) -> Iterator[Hub]:
    """Run a hub with its own data folder, in `folder` or in a new one.

    `folder` may be that of another run. On SQLite (`database_url` empty) the data folder holds the database. `settings`
    are further ``HUB_`` variables. `program` is a hub other than this tree's.
    """
    program = program or Program.here()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as fresh:
        folder = folder or Path(fresh)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        environment |= {"HUB_DATA_DIR": f"{folder}/data", "HUB_PORT": "0", "HUB_ADMIN_PASSWORD": PASSWORD}
        environment |= {"HUB_SECRET_KEY": "5e" * 32}  # hubs over one database share it
        environment |= {"HUB_DATABASE_URL": database_url} if database_url else {}
        environment |= {"PYTHONPATH": str(program.root), **(settings or {})}
        command = [program.python, "-m", program.module, "serve"]
        with running_server(command, folder, environment, cores) as (pid, host, port, log):
            engine = "mongodb" if database_url else "sqlite"
            database_pid = mongod_pid(database_url) if database_url else None
            yield Hub(engine, host, port, pid, log, database_url or f"{folder}/data/hub.db", database_pid)


@contextmanager
def running_server(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: Cores
) -> Iterator[tuple[int, str, int, Path]]:
    """Run a server on the hub's core. Yield its process id, host and port, and its log in `folder`.

    The server must announce its URL in the first line that it prints.
    """
    log = folder / "server.log"
    with log.open("wb") as errors, on_cores(cores.hub):
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        url = urlsplit(_announced(process, log))
        yield process.pid, url.hostname or "", url.port or 0, log
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        if process.stdout:
            process.stdout.close()


def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL that a server announces."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if "http://" not in line:
        raise RuntimeError(f"the server did not start: {log.read_text()[-2_000:]}")
    return line[line.index("http://") :].split()[0]


@contextmanager
def mongodb(given: str | None, cores: Cores) -> Iterator[str]:
    """Yield the URL of a new database, which is dropped afterwards.

    It is on the replica set at URL `given`, or else on one that `scripts/mongod` starts.
    """
    with replica_set(given, cores) as server:
        url = urlsplit(server)._replace(path=f"/hub_bench_{secrets.token_hex(6)}").geturl()
        try:
            yield url
        finally:
            with pymongo.MongoClient[dict[str, object]](url) as client:
                client.drop_database(client.get_default_database())


@contextmanager
def replica_set(given: str | None, cores: Cores) -> Iterator[str]:
    """Yield the URL `given`, or that of a replica set that `scripts/mongod` starts."""
    if given:
        yield given
        return
    with on_cores(cores.database):
        command = [sys.executable, str(ROOT / "scripts" / "mongod"), "--with-parent"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().decode().strip()
        if not url:
            raise RuntimeError("no MongoDB: give one with --mongodb URL")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        process.stdout.close()


def mongod_pid(url: str) -> int | None:
    """Return the process id of the server; None if it is not on this machine."""
    with pymongo.MongoClient[dict[str, object]](url) as client:
        status = client.admin.command("serverStatus")
        pid = int(status["pid"])
        name = Path(f"/proc/{pid}/comm")
        return pid if name.exists() and name.read_text().strip() == "mongod" else None


def wait_until_idle(pid: int | None, quiet: float = 0.2, most: float = 30.0) -> None:
    """Wait until a process is idle, so that the rest of its work does not count for the next load."""
    deadline = time.monotonic() + most
    before = cpu_seconds(pid)
    while before is not None and time.monotonic() < deadline:
        time.sleep(quiet)
        now = cpu_seconds(pid)
        if now is None or now - before <= 0.05 * quiet:
            return
        before = now
