"""`hub doctor`: checks the hub's requirements and gives advice. It changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import typer

from hub.cli.client import load_settings
from hub.cli.command import DataDir
from hub.cli.databases import faults_of_mongodb, look_at_mongodb
from hub.cli.interpreter import AS_OF, interpreter_advice
from hub.cli.key_traces import stored_traces
from hub.cli.logins import clashes, stored_logins
from hub.cli.output import grouped, print_table
from stores.errors import CannotOpen

if TYPE_CHECKING:
    from hub.control import Control
    from hub.settings import Settings

T = TypeVar("T")

LEAST_FREE_MB: Final = 512
MOST_FAULTS: Final = 10
"""Number of defects of the database's collections that are shown."""
MOST_CLASHES: Final = 20
MOST_SKEW: Final = 5.0
"""Largest difference between two clocks in seconds: tokens expire and `from`/`to` select by them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `advice` is empty if all is well. A `warning` does not keep the hub from running."""

    check: str
    found: str
    advice: str = ""
    warning: bool = False

    @property
    def verdict(self) -> str:
        if not self.advice:
            return "ok"
        return "warning" if self.warning else "WRONG"


Check = Callable[["Settings", "Control | None"], Awaitable[Finding]]


def doctor(data_dir: DataDir = None) -> None:
    """Check the hub's requirements, and explain how to fix problems.

    Example: hub doctor
    """
    settings = load_settings(data_dir)
    print_table(("SETTING", "VALUE", ""), in_force(settings))
    findings = asyncio.run(examine(settings))
    print_table(("CHECK", "", "FOUND"), ((f.check, f.verdict, f.found) for f in findings))
    for finding in findings:
        if finding.advice:
            print_table((f"{finding.check}: what to do",), [(finding.advice,)])
    if any(finding.advice and not finding.warning for finding in findings):
        raise typer.Exit(1)


def in_force(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield (name, value, "set" or "") for each setting, without secrets."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = settings.database_address if name == "database_url" else written(value)
        yield name, shown, "" if value == field.default else "set"


def written(value: object) -> str:
    """Return a value as one would write it in a variable."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


async def examine(settings: Settings) -> list[Finding]:
    from hub.control import read_control

    running = read_control(settings.data_dir)
    return [await check(settings, running) for check in CHECKS]


async def python(_settings: Settings, _running: Control | None) -> Finding:
    import apsw

    found = f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, {platform.platform()}"
    return Finding("programs", found, "" if sys.version_info >= (3, 11) else "Install Python 3.11 or newer.")


async def interpreter(_settings: Settings, _running: Control | None) -> Finding:
    advice = interpreter_advice(sys.version_info[:3], datetime.now(UTC).date())
    return Finding("interpreter", advice or f"no known holes (as of {AS_OF})", advice, warning=True)


async def variables(_settings: Settings, _running: Control | None) -> Finding:
    from hub.settings import unknown_variables

    unknown = [f"{name}{near}" for name, near in unknown_variables(os.environ).items()]
    if unknown:
        return Finding("variables", ", ".join(unknown), "These are no settings: see the list above for their names.")
    return Finding("variables", "every HUB_ variable is a setting")


async def data_folder(settings: Settings, _running: Control | None) -> Finding:
    folder = settings.data_dir.absolute()
    if not folder.exists():
        parent = nearest(folder)
        writable = os.access(parent, os.W_OK | os.X_OK)
        advice = "" if writable else f"Make {folder} writable for this user, or set HUB_DATA_DIR."
        return Finding("data folder", f"{folder}: made at the first start", advice)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("data folder", f"{folder}: writable")
    except OSError as error:
        advice = f"Make {folder} writable for this user, or set HUB_DATA_DIR."
        return Finding("data folder", f"{folder}: {error.strerror}", advice)


def nearest(folder: Path) -> Path:
    """Return the folder, or its closest existing parent."""
    return next(each for each in (folder, *folder.parents) if each.exists())


async def free_space(settings: Settings, _running: Control | None) -> Finding:
    megabytes = shutil.disk_usage(nearest(settings.data_dir.absolute())).free // 1_000_000
    advice = "" if megabytes >= LEAST_FREE_MB else f"Free at least {LEAST_FREE_MB} MB on the data folder's disk."
    return Finding("free space", f"{grouped(megabytes)} MB", advice)


async def listening(settings: Settings, running: Control | None) -> Finding:
    if running:
        answer = await ask(f"{running.url}/health/ready")
        if isinstance(answer, str):
            advice = f"Process {running.pid} holds the data folder and does not answer: look at its log, or restart it."
            return Finding("hub", f"{running.url}: {answer}", advice)
        return Finding("hub", f"process {running.pid} answers at {running.url}")
    address = f"{settings.host}:{settings.port}"
    try:
        with socket.create_server((settings.host, settings.port), family=family(settings.host)):
            return Finding("hub", f"not running; {address} is free")
    except OSError as error:
        advice = "Stop the program that listens there, or choose another HUB_HOST and HUB_PORT."
        return Finding("hub", f"not running; {address}: {error.strerror}", f"{advice}{hint_at_others()}")


def hint_at_others() -> str:
    """Return where hubs of this user run, with the command that checks them; empty if none runs."""
    from hub.control import running_data_dirs

    commands = [f"`hub doctor --data-dir {shlex.quote(str(folder))}`" for folder in running_data_dirs()]
    return f" To check the hub that runs on another data folder: {', '.join(commands)}." if commands else ""


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def ask(url: str) -> httpx.Response | str:
    """Return a successful answer, or the text of the failure."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            answer = await http.get(url)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return answer if answer.is_success else f"{answer.status_code} {answer.reason_phrase}"


async def database(settings: Settings, running: Control | None) -> Finding:
    address = settings.database_address
    if running and uses_other_database(settings, running):
        advice = f"Set HUB_DATABASE_URL as process {running.pid} has it, and check again."
        return Finding("database", f"{address}: process {running.pid} uses another one, {running.database}", advice)
    try:
        if settings.engine_url.startswith("mongodb"):
            found, advice = await examine_mongodb(settings.engine_url)
            return Finding("database", f"{address}: {found}", advice)
        if running:
            return Finding("database", f"{address}: open in process {running.pid}")
        return Finding("database", f"{address}: {look_at_sqlite(Path(settings.engine_url.removeprefix('sqlite:///')))}")
    except CannotOpen as error:
        return Finding("database", f"{address}: cannot be used", str(error))


def uses_other_database(settings: Settings, running: Control) -> bool:
    """Return whether the hub that runs on the data folder was started with another database URL than these
    settings."""
    return running.database not in ("", settings.database_address)


async def read_database(
    settings: Settings, running: Control | None, read: Callable[[Settings], Awaitable[T]]
) -> T | None:
    """Return the result of `read`; None if the database cannot be used, or is not that of the running hub."""
    import apsw

    if running and uses_other_database(settings, running):
        return None
    try:
        return await read(settings)
    except (CannotOpen, apsw.Error):
        return None


async def examine_mongodb(url: str) -> tuple[str, str]:
    """Return a description of the server and of the database's faults, and advice. Raises CannotOpen."""
    server = await look_at_mongodb(url)
    damaged, lacking = await faults_of_mongodb(url) if server.used else ([], [])
    found = f"MongoDB {server.version}, replica set {server.set_name}, members: {server.members}"
    advice = []
    if damaged:
        advice.append("Correct the damaged definitions in the collection `stores`.")
    if lacking:
        advice.append("Another program has changed what the hub made: a hub that starts puts it right.")
    return "; ".join([found, *[*damaged, *lacking][:MOST_FAULTS]]), " ".join(advice)


def look_at_sqlite(path: Path) -> str:
    """Check a SQLite file. Raises CannotOpen if another process holds it, or if it is damaged."""
    import apsw

    from stores.sqlite.connection import FileLock

    if not path.exists():
        return "made at the first start"
    lock = FileLock(path.resolve())
    lock.acquire()
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        damage = connection.execute("PRAGMA quick_check(1)").get
        connection.close()
    except apsw.Error as error:
        raise CannotOpen(f"Not a usable SQLite file ({error}): restore a backup, or move it away.") from error
    finally:
        lock.release()
    if damage != "ok":
        raise CannotOpen(f"The file is damaged ({damage}): restore a backup.")
    return f"{grouped(path.stat().st_size // 1_000_000)} MB, intact"


async def secret_key(settings: Settings, running: Control | None) -> Finding:
    """Check that the key exists and belongs to the database."""
    from hub.key_file import find_key, key_path, refusal

    path = key_path(settings)
    try:
        found = find_key(settings)
    except CannotOpen as error:
        return Finding("secret key", str(error), "Put the key of this hub there: the content of its secret.key.")
    address = "HUB_SECRET_KEY" if settings.secret_key.get_secret_value() else str(path)
    traces = await read_database(settings, running, stored_traces)
    if traces is None:
        return Finding("secret key", f"{address}: not compared, see the database")
    if found is None:
        if not traces.are_there:
            return Finding("secret key", f"{address}: made at the first start")
        return Finding("secret key", f"{address}: missing", refusal(path, missing=True))
    if not traces.are_of(found.key):
        return Finding("secret key", f"{address}: another one than the database's", refusal(path, missing=False))
    return Finding("secret key", f"{address}: the database's" if traces.are_there else f"{address}: not yet used")


async def users(settings: Settings, running: Control | None) -> Finding:
    """Find logins that differ only by case, which older versions allowed."""
    logins = await read_database(settings, running, stored_logins)
    if logins is None:
        return Finding("logins", "not looked at: see the database")
    twins = clashes(logins)
    if not twins:
        return Finding("logins", f"{grouped(len(logins))}, each its own without regard to case")
    found = "; ".join(" and ".join(map(repr, same)) for same in twins[:MOST_CLASHES])
    advice = "Give each but one of them another login: until then they sign in exactly as they are spelled."
    return Finding("logins", f"the same without regard to case: {found}", advice)


async def clock(settings: Settings, _running: Control | None) -> Finding:
    """Compare the clock with the database server's, if there is one, and with files dated in the future."""
    now = time.time()
    found = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    newest = max(times_of_files(settings.data_dir), default=now)
    if newest > now + MOST_SKEW:
        return Finding("clock", found, "Files in the data folder are from the future: set this machine's clock.")
    skew = await skew_of_server(settings.engine_url) if settings.engine_url.startswith("mongodb") else 0.0
    if abs(skew) > MOST_SKEW:
        advice = "Set both clocks, by NTP for instance."
        return Finding("clock", f"{found}, {skew:+.0f} s from the database server's", advice)
    return Finding("clock", found)


def times_of_files(folder: Path) -> Iterator[float]:
    """Yield when each file of the folder was last modified. A running hub may remove files meanwhile."""
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):
            yield file.stat().st_mtime


async def skew_of_server(url: str) -> float:
    """Return how many seconds this clock is ahead of the database server's; 0 if the server does not answer."""
    try:
        return time.time() - (await look_at_mongodb(url)).time
    except CannotOpen:
        return 0.0


CHECKS: Final[Sequence[Check]] = (
    python,
    interpreter,
    variables,
    data_folder,
    free_space,
    listening,
    database,
    secret_key,
    users,
    clock,
)
