"""The command line as its users run it, on a separate data folder, with or without a running hub."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from hub.app import create_app
from hub.settings import Settings
from stores.records import SYSTEM_FIELDS
from tests.support.engines import mongo_database
from tests.support.forkserver import StartedProcess, fork_server, is_forkable
from tests.support.hub import QUICK_HASHES
from tests.support.program import HUB, IS_OURS, TREE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30
LONGEST = 110
"""Seconds that a command may take."""


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of standard output."""
        return self.out.splitlines()[-1] if self.out else ""


@contextmanager
def in_folder(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Change this process's folder and environment while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def make_database(folder: Path, **settings: Any) -> None:
    """Prepare a data folder as the first `hub serve` does."""

    async def start_and_stop() -> None:
        app = create_app(Settings(data_dir=folder / "data", **settings))
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(start_and_stop())


@dataclass
class CommandLine:
    """Runs `hub` in `folder`. The environment has the settings in `variables`, and quick hashes of passwords."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    state: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        # Hubs record in the user's state folder where they run, so each test has a separate one.
        ours = {"PYTHONPATH": str(TREE), "XDG_STATE_HOME": str(self.state or self.folder / "state")}
        if IS_OURS:  # earlier commits do not know the setting
            ours["HUB_PASSWORD_MEMORY_KIB"] = str(QUICK_HASHES)
        return {**plain, **ours, **self.variables}

    def __call__(self, *arguments: str, input: str = "", code: int = 0) -> Result:
        """Run a command to its end; its exit code must be `code`."""
        result = self.run(arguments, input.encode())
        assert result.code == code, result
        return result

    def run(self, arguments: tuple[str, ...], input: bytes) -> Result:
        if self.is_forkable:
            done = fork_server().run(arguments, self.environment, self.folder, input, LONGEST)
        else:
            command, variables = [*HUB, *arguments], self.environment
            done = subprocess.run(
                command, cwd=self.folder, env=variables, input=input, capture_output=True, timeout=LONGEST, check=False
            )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments).out)

    @property
    def is_forkable(self) -> bool:
        return IS_OURS and is_forkable(self.environment)

    def start(self, *arguments: str) -> StartedProcess:
        """Start a command with pipes for its standard streams."""
        pipe = subprocess.PIPE
        if self.is_forkable:
            return fork_server().start(arguments, self.environment, self.folder, (pipe, pipe, pipe))
        return subprocess.Popen(
            [*HUB, *arguments], cwd=self.folder, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    def file(self, name: str, content: str | bytes) -> str:
        """Write a file in the folder; return its name."""
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def rows(self, store: str, *only: str) -> list[Any]:
        """Return the entities of a store, in the order of creation."""
        options = ("--only", ",".join(only)) if only else ()
        return [json.loads(line) for line in self("export", store, *options).out.splitlines()]

    def count(self, store: str) -> int:
        """Return the number of entities in a store of the running hub, by HTTP."""
        note = json.loads((self.folder / "data" / "hub.json").read_text())
        headers = {"Authorization": f"Bearer {note['token']}"}
        url = f"{note['url']}/api/v1/{store}?meta=true"
        answer = httpx.get(url, headers=headers, trust_env=False, verify=False)  # quick, to catch a moment
        return int(answer.raise_for_status().json()["count"])

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run a hub on the data folder while the block runs; yield its URL."""
        server = self.start("serve", "--port", "0")
        try:
            yield self.wait_for_url(server)
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE)

    def wait_for_url(self, server: StartedProcess) -> str:
        note = self.folder / "data" / "hub.json"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and server.poll() is None:
            if note.exists() and json.loads(note.read_text())["pid"] == server.pid:
                return str(json.loads(note.read_text())["url"])
            time.sleep(0.02)
        server.kill()
        raise AssertionError(f"the hub does not start: {server.communicate()}")


@pytest.fixture
def empty_hub(tmp_path: Path) -> CommandLine:
    """A folder in which no hub has ever run."""
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def first_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after the first start."""
    folder = tmp_path_factory.mktemp("first")
    with in_folder(folder, CommandLine(folder).environment):
        make_database(folder)
    return folder / "data"


@pytest.fixture
def hub(empty_hub: CommandLine, first_data: Path) -> CommandLine:
    """A data folder on which a hub has run before and none runs now."""
    shutil.copytree(first_data, empty_hub.folder / "data")
    return empty_hub


@pytest.fixture
def empty_hub_beside(tmp_path_factory: pytest.TempPathFactory, first_data: Path) -> CommandLine:
    """Another data folder on which a hub has run before and none runs now."""
    beside = CommandLine(tmp_path_factory.mktemp("beside"))
    shutil.copytree(first_data, beside.folder / "data")
    return beside


@pytest.fixture
def hub_of_each_engine(engine_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CommandLine]:
    """The same as `hub`, once with each engine."""
    if engine_kind == "sqlite":
        yield request.getfixturevalue("hub")
        return
    url = mongo_database(request.getfixturevalue("mongodb")).location
    command_line = CommandLine(tmp_path, {"HUB_DATABASE_URL": url})
    with in_folder(tmp_path, command_line.environment):
        make_database(tmp_path, database_url=url)
    yield command_line
    with MongoClient[dict[str, object]](url) as client:
        client.drop_database(client.get_default_database())


@pytest.fixture(scope="module")
def served_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A data folder with a running hub, shared by the tests of a module."""
    command_line = CommandLine(tmp_path_factory.mktemp("served"))
    with command_line.serving():
        yield command_line


@pytest.fixture(scope="session")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample data: some tens of thousands of cities, as NDJSON."""
    path = tmp_path_factory.mktemp("cities") / "cities.ndjson"
    with path.open("wb") as file:
        subprocess.run([sys.executable, str(ROOT / "examples" / "cities.py")], stdout=file, check=True)
    return path


@pytest.fixture(scope="session")
def some_cities(cities: Path) -> Path:
    """Enough of the cities to interrupt their import midway."""
    path = cities.with_name("some.ndjson")
    path.write_bytes(b"".join(cities.read_bytes().splitlines(keepends=True)[:4_000]))
    return path


def plain(rows: list[Any]) -> list[Any]:
    """Return entities without the fields that the hub assigns anew."""
    return [{name: value for name, value in row.items() if name not in (*SYSTEM_FIELDS, "stamp")} for row in rows]
