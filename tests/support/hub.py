"""A real hub for tests: `hub serve` as a separate process at a free port, and clients that call it over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from stores.records import Entity
from tests.support import exchanges
from tests.support import secrets as secrets_in_use
from tests.support.engines import Database
from tests.support.forkserver import StartedProcess, fork_server, is_forkable
from tests.support.program import IS_OURS, SERVE, TREE

# httpx tries to import sniffio on every request; without sniffio each attempt searches the whole import path.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

API: Final = "/api/v1"
ADMIN_LOGIN: Final = "admin"
ADMIN_PASSWORD: Final = "correct horse battery"
SECRET_KEY: Final = "5e" * 32
"""One key for all hubs, because hubs on one database share it."""
QUICK_HASHES: Final = 12_288
"""KiB for a password's hash, the fewest that the hub takes: a tenth of the CPU time, which users and hubs without
number would take otherwise."""
DEFAULT_HASHES: Final = 65_536
"""The hub's default, for tests of how it bears logins without number."""
PATIENCE: Final = 30.0
"""Seconds that a test waits for something that should happen immediately."""

LOG: Final = "hub.log"

T = TypeVar("T")
Parameters = dict[str, Any] | list[tuple[str, Any]] | None


running: list[HubProcess] = []
"""The running hubs. Their logs go into the report of a failing test."""


class HubProcess:
    """A running `hub serve`, or the command `program` instead. `folder` holds its data and its log."""

    def __init__(
        self, database: Database, folder: Path, settings: dict[str, object], program: Sequence[str] = SERVE
    ) -> None:
        secrets_in_use.note(settings.get("admin_password", ADMIN_PASSWORD))
        self.folder = folder
        self.log_path = folder / LOG
        self._log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.process = launch(database, folder, settings, program)
        assert self.process.stdout is not None
        first_line = self.process.stdout.readline().decode()
        if not first_line.startswith("hub is live at "):
            code = self.stop()
            raise RuntimeError(f"the hub did not start, exit code {code}: {first_line}{self.log[-2_000:]}")
        self.url = first_line.split()[4]
        running.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def records(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the records of the log from character `start` on: without a last line that is not complete yet, and
        without lines that others write to standard error, such as the interpreter."""
        lines = self.log[start:].splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the hub unless it has exited, and wait for its exit; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until the hub exits; return its exit code. Fail if it does not exit."""
        if self in running:
            running.remove(self)
        try:
            code = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the hub does not stop: {self.log[-2_000:]}") from None
        if self.process.stdout:
            self.process.stdout.close()
        self.check_log()
        return code

    def check_log(self) -> None:
        """Fail if this process has logged a secret that a test has used, such as a password, a cookie or a token. Those
        before it in the same folder have been checked at their end."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_begin)
            found = secrets_in_use.found_in(log.read().decode())
        assert not found, f"secrets in the log of the hub: {found[:5]}"


def launch(
    database: Database, folder: Path, settings: dict[str, object], program: Sequence[str] = SERVE
) -> StartedProcess:
    """Start `program` without waiting for it. Its standard output is a pipe for the caller to read."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(database, folder, settings)
    with (folder / LOG).open("ab") as log:
        if program == SERVE and IS_OURS and is_forkable(variables):
            with open(os.devnull, "rb") as nothing:
                return fork_server().start(["serve"], variables, folder, (nothing, subprocess.PIPE, log))
        return subprocess.Popen(
            program,
            env=variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def environment(database: Database, folder: Path, settings: dict[str, object]) -> dict[str, str]:
    """Return this process's environment, with the tests' own settings and the given ones in place of any HUB_ variable:
    `login_attempts=3` becomes HUB_LOGIN_ATTEMPTS."""
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    ours: dict[str, object] = {
        "port": 0,
        "data_dir": folder,
        "database_url": url,
        "secret_key": SECRET_KEY,
        "admin_login": ADMIN_LOGIN,
        "admin_password": ADMIN_PASSWORD,
        "login_attempts": 100_000,
        "log_format": "json",
        **settings,
    }
    if IS_OURS:  # earlier commits do not know the setting
        ours = {"password_memory_kib": QUICK_HASHES, **ours}
    others = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    others["XDG_STATE_HOME"] = str(folder / "state")
    if not IS_OURS:
        others["PYTHONPATH"] = str(TREE)
    return others | {f"HUB_{name.upper()}": str(value) for name, value in ours.items()}


class Client:
    """A caller of the platform API. Paths are relative to ``/api/v1``; answers of any status are returned."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        user: Entity | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.user = user or {}
        self.http = httpx.AsyncClient(
            base_url=url + API,
            headers=headers,
            timeout=PATIENCE,
            trust_env=False,
            verify=False,  # tests use plain HTTP, and loading the system's certificates takes longer than most of them
            limits=httpx.Limits(max_connections=100),
            transport=transport,
            event_hooks={
                "request": [secrets_in_use.note_request],
                "response": [secrets_in_use.note_response, exchanges.keep_answer],
            },
        )

    @property
    def id(self) -> str:
        """The caller's user id."""
        return str(self.user["_id"])

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, path, **more)

    async def get(self, path: str, params: Parameters = None, **headers: str) -> httpx.Response:
        return await self.http.get(path, params=params, headers=dashed(headers))

    async def post(self, path: str, body: Any, params: Parameters = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body, params=params, headers=dashed(headers))

    async def patch(self, path: str, body: Any, params: Parameters = None, **headers: str) -> httpx.Response:
        return await self.http.patch(path, json=body, params=params, headers=dashed(headers))

    async def put(self, path: str, body: Any, params: Parameters = None, **headers: str) -> httpx.Response:
        return await self.http.put(path, json=body, params=params, headers=dashed(headers))

    async def delete(self, path: str, params: Parameters = None, **headers: str) -> httpx.Response:
        return await self.http.delete(path, params=params, headers=dashed(headers))

    async def send(self, method: str, path: str, content: bytes, **headers: str) -> httpx.Response:
        """Send raw bytes as the body."""
        return await self.http.request(method, path, content=content, headers=dashed(headers))

    async def make(self, store: str, fields: Entity | None = None, **more: Any) -> Entity:
        """Create one entity, which must succeed; return it without the answer's ``success``."""
        return entity_of(await self.post(f"/{store}", (fields or {}) | more))

    async def make_all(self, store: str, bodies: list[Entity]) -> list[Entity]:
        """Create several entities in one request, which must succeed."""
        answer = await self.http.post(f"/{store}", json=bodies, timeout=3 * PATIENCE)  # there may be ten thousand
        assert answer.status_code == 200, answer.text
        entities: list[Entity] = answer.json()["entities"]
        return entities

    async def see(self, store: str, id: str) -> Entity:
        """Get one entity, which must succeed."""
        return entity_of(await self.get(f"/{store}/{id}"))

    async def list(self, store: str, params: Parameters = None) -> list[Entity]:
        """List a store, which must succeed."""
        answer = await self.get(f"/{store}", params)
        assert answer.status_code == 200, answer.text
        entities: list[Entity] = answer.json()
        return entities

    async def close(self) -> None:
        await self.http.aclose()


def dashed(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers with ``-`` for ``_``: ``if_match`` becomes ``if-match``."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def entity_of(answer: httpx.Response) -> Entity:
    """Return the entity of an answer, which must be a success."""
    assert answer.status_code == 200, answer.text
    entity: Entity = answer.json()
    assert entity.pop("success") is True
    return entity


class Hub:
    """A hub and its callers. All clients that it creates are closed with it. `transport`: that of the clients, if not
    httpx's own."""

    def __init__(
        self, process: HubProcess, database: Database, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.process = process
        self.database = database
        self._transport = transport
        self.admin: Client
        self._clients = AsyncExitStack()

    @property
    def url(self) -> str:
        return self.process.url

    async def open(self) -> None:
        self.admin = await self.as_admin()

    async def close(self) -> None:
        await self._clients.aclose()

    def client(self, token: str | None = None, user: Entity | None = None, **headers: str) -> Client:
        """Return a caller with a bearer token, or without credentials."""
        credentials = {"Authorization": f"Bearer {token}"} if token is not None else {}
        client = Client(self.url, credentials | dashed(headers), user, self._transport)
        self._clients.push_async_callback(client.close)
        return client

    async def as_admin(self) -> Client:
        """Return the administrator with a new access token."""
        token = await self.token_of(ADMIN_LOGIN, ADMIN_PASSWORD)
        client = self.client(token)
        client.user = entity_of(await client.get("/auth"))
        return client

    async def as_user(self, password: str | None = None, **fields: Any) -> Client:
        """Create a user with a random login, such as ``as_user(group=…, roles=[…])``, and return it with a long-lived
        token without a restriction of scopes. This is fast because it needs no sign-in."""
        body = {"login": unique("user"), "name": "Somebody", **fields}
        user = await self.admin.make("users", body | ({"password": password} if password else {}))
        return await self.with_token(user)

    async def with_token(self, user: Entity, **fields: Any) -> Client:
        """Return the user with a new long-lived token, such as ``with_token(user, scopes=["GET /units/*"])``."""
        token = await self.admin.make("tokens", {"name": "test", "user": user["_id"], **fields})
        return self.client(token["token"], user)

    async def as_session(self, login: str, password: str) -> Client:
        """Sign in with a cookie; return the caller."""
        client = self.client()
        answer = await client.post("/auth", {"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        client.user = entity_of(await client.get("/auth"))
        return client

    async def token_of(self, login: str, password: str) -> str:
        """Return a new access token."""
        answer = await self.client().post("/auth/token", {"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    async def define(self, **definition: Any) -> str:
        """Create a store with a random name; return the name."""
        name = unique("store")
        await self.admin.make("stores", {"name": name, **definition})
        return name

    async def group(self, parent: str | None = None) -> str:
        """Create a group; return its id."""
        made = await self.admin.make("groups", {"name": unique("group"), "parent": parent})
        return str(made["_id"])

    async def groups(self, levels: int, parent: str | None = None) -> list[str]:
        """New groups, each below the one before; their ids, the highest first."""
        made: list[str] = []
        for _ in range(levels):
            made.append(await self.group(made[-1] if made else parent))
        return made

    async def role(self, *scopes: str) -> str:
        """Create a role; return its id."""
        made = await self.admin.make("roles", {"name": unique("role"), "scopes": list(scopes)})
        return str(made["_id"])


async def fetch(url: str, **headers: str) -> httpx.Response:
    """GET an absolute URL, such as one outside the API."""
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as http:
        return await http.get(url, headers=dashed(headers))


def unique(word: str) -> str:
    """Return a name that no other test uses."""
    return f"{word}-{secrets.token_hex(6)}"


@asynccontextmanager
async def running_hub(
    database: Database, folder: Path, program: Sequence[str] = SERVE, **settings: object
) -> AsyncGenerator[Hub, None]:
    """Run a hub on `database` while the block runs, with settings such as ``login_attempts=3``. `program` replaces
    `hub serve`."""
    process = await asyncio.to_thread(HubProcess, database, folder, settings, program)
    hub = Hub(process, database)
    try:
        await hub.open()
        yield hub
    finally:
        await hub.close()
        was_running = process.process.poll() is None  # a test may have ended or killed it
        code = await asyncio.to_thread(process.stop)
        assert code == 0 or not was_running, f"the hub has stopped with code {code}: {process.log[-2_000:]}"


StartHub = Callable[..., Awaitable[Hub]]
"""Starts a hub; the keyword arguments are settings."""


async def eventually(condition: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
    """Call `condition` repeatedly until its result is true; return that result."""
    deadline = time.monotonic() + patience
    while True:
        result = await condition()
        if result:
            return result
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
