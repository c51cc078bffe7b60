"""The processes that are measured: a hub, and a MongoDB for it; which core each runs on and what it takes of it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """The cores for the hub, the load generator and the database; None where the system has no say in it."""

    hub: set[int] | None = None
    load: set[int] | None = None
    database: set[int] | None = None

    @classmethod
    def choose(cls) -> Cores:
        """One for the hub, one for the load, the rest (or the load's) for the database."""
        if not hasattr(os, "sched_getaffinity"):
            return cls()
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls()
        return cls({usable[0]}, {usable[1]}, set(usable[2:]) or {usable[1]})


@contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """This thread on these cores, and with it every process that is started in the block."""
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
    """CPU time that a process has taken so far, user and system, of all its threads; None where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> float | None:
    """Memory of a process that is in RAM, KiB; None where there is no /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass(frozen=True, slots=True)
class Program:
    """A hub's source folder and the interpreter that has its packages."""

    root: Path
    python: str

    @classmethod
    def here(cls) -> Program:
        return cls(ROOT, sys.executable)


@dataclass(frozen=True, slots=True)
class Hub:
    """A running hub. `database_pid` is its MongoDB's, None without one or when it runs elsewhere."""

    engine: str
    host: str
    port: int
    pid: int
    log: Path
    database_pid: int | None = None

    def complaints(self) -> list[str]:
        """What the hub has logged of errors."""
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
    """A hub with a data folder of its own (in `folder`, which may be another run's, or a new one); on SQLite
    (`database_url` empty) that holds the database. `settings` are further ``HUB_`` variables, `program` is another hub
    than this tree's."""
    program = program or Program.here()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as fresh:
        folder = folder or Path(fresh)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        environment |= {"HUB_DATA_DIR": f"{folder}/data", "HUB_PORT": "0", "HUB_ADMIN_PASSWORD": PASSWORD}
        environment |= {"HUB_SECRET_KEY": "5e" * 32}  # hubs over one database share it
        environment |= {"HUB_DATABASE_URL": database_url} if database_url else {}
        environment |= {"PYTHONPATH": str(program.root), **(settings or {})}
        command = [program.python, "-m", "hub.cli", "serve"]
        with running_server(command, folder, environment, cores) as (pid, host, port, log):
            engine = "mongodb" if database_url else "sqlite"
            database_pid = mongod_pid(database_url) if database_url else None
            yield Hub(engine, host, port, pid, log, database_pid)


@contextmanager
def running_server(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: Cores
) -> Iterator[tuple[int, str, int, Path]]:
    """A server on the hub's core that announces its URL in the first line it prints: its process id, host and port,
    and its log in `folder`."""
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
    """The URL that a server says it is live at."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if "http://" not in line:
        raise RuntimeError(f"the server did not start: {log.read_text()[-2_000:]}")
    return line[line.index("http://") :].split()[0]


@contextmanager
def mongodb(given: str | None, cores: Cores) -> Iterator[str]:
    """The URL of a new database, dropped afterwards: on the replica set of URL `given`, else on one that
    `scripts/mongod` starts."""
    with replica_set(given, cores) as server:
        url = urlsplit(server)._replace(path=f"/hub_bench_{secrets.token_hex(6)}").geturl()
        try:
            yield url
        finally:
            with pymongo.MongoClient[dict[str, object]](url) as client:
                client.drop_database(client.get_default_database())


@contextmanager
def replica_set(given: str | None, cores: Cores) -> Iterator[str]:
    """The URL of one that is there, or of one that `scripts/mongod` starts."""
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
    """The process id of a server on this machine."""
    with pymongo.MongoClient[dict[str, object]](url) as client:
        status = client.admin.command("serverStatus")
        pid = int(status["pid"])
        name = Path(f"/proc/{pid}/comm")
        return pid if name.exists() and name.read_text().strip() == "mongod" else None


def wait_until_idle(pid: int | None, quiet: float = 0.2, most: float = 30.0) -> None:
    """Wait until a process has come to rest: what it still does after a load is not the next one's."""
    deadline = time.monotonic() + most
    before = cpu_seconds(pid)
    while before is not None and time.monotonic() < deadline:
        time.sleep(quiet)
        now = cpu_seconds(pid)
        if now is None or now - before <= 0.05 * quiet:
            return
        before = now
