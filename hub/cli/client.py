"""REST client of the commands: requests to /api/v1 of a running server, or of the application in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from hub.cli.databases import database_file, require_database
from hub.cli.output import Failure, note
from stores.records import Entity

if TYPE_CHECKING:
    from hub.control import Control
    from hub.settings import Settings

API: Final = "/api/v1"
IN_PROCESS: Final = "http://127.0.0.1"
SECONDS: Final = 120.0
"""Timeout of one request: an import batch on a busy disk may take long."""


class Refused(Failure):
    """The hub answered with an error. `errors` is {field: [text]}; `retry_after` is in seconds, 0 if missing."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        answer = error_body(response)
        self.errors: dict[str, list[str]] = answer.get("errors") or {}
        retry_after = response.headers.get("retry-after", "")
        self.retry_after = int(retry_after) if retry_after.isdigit() else 0
        self.message: str = answer.get("message") or response.reason_phrase
        super().__init__(describe(self.message, self.errors))


def error_body(response: httpx.Response) -> dict[str, Any]:
    """Return the hub's error envelope; empty if the answer comes from something else, such as a proxy."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def describe(message: str, errors: Mapping[str, list[str]]) -> str:
    """Return an error's text: ``Bad Request: name: This field is required.``"""
    details = [f"{field}: {' '.join(texts)}" for field, texts in errors.items()]
    return ": ".join([message, "; ".join(details)]) if details else message


class Unreachable(Failure):
    """No answer arrived. The hub may have executed the request nevertheless."""


@dataclass(frozen=True, slots=True)
class Where:
    """The hub to use: a server (`url` and `token`), or the hub of a data directory (None: the one in the settings)."""

    url: str | None = None
    token: str | None = None
    data_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A running hub. Without `trust_env`, the environment's proxies are bypassed."""

    url: str
    token: str
    trust_env: bool

    def connect(self) -> AbstractAsyncContextManager[Client]:
        return connect(self.url, self.token, trust_env=self.trust_env)


class Client:
    """Calls the REST API. Each call raises Refused for an error answer, and Unreachable without an answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        *,
        rev: int | None = None,
        patiently: bool = False,
    ) -> httpx.Response:
        """Send one request. `path` begins after /api/v1. `rev` is the revision that the entity must have. `patiently`:
        the answer may take as long as it likes."""
        timeout = None if patiently else httpx.USE_CLIENT_DEFAULT
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if rev is not None:
            headers["If-Match"] = f'"{rev}"'
        try:
            response = await self.http.request(
                method, API + path, params=params, content=content, headers=headers, timeout=timeout
            )
        except httpx.TransportError as error:
            raise Unreachable(f"no answer from {self.http.base_url}: {error or type(error).__name__}") from error
        if not response.is_success:
            raise Refused(response)
        return response

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        rev: int | None = None,
        patiently: bool = False,
    ) -> Any:
        """Send one request with a JSON body, and return the JSON answer."""
        content = None if body is None else json.dumps(body).encode()
        return (await self.request(method, path, params, content, rev=rev, patiently=patiently)).json()

    async def pages(self, store: str, params: Mapping[str, str]) -> AsyncIterator[list[Entity]]:
        """Yield a list page by page, following the answers' `Link: rel="next"`."""
        asked: httpx.QueryParams | None = httpx.QueryParams(dict(params))
        while asked is not None:
            response = await self.request("GET", path_of(store), asked)
            yield response.json()
            # Use only the query: a hub behind a proxy may not know its public address.
            url = response.links.get("next", {}).get("url")
            asked = httpx.URL(url).params if url else None

    async def all(self, store: str, **params: str) -> list[Entity]:
        """Return a whole list. Use it only for small stores."""
        return [entity async for page in self.pages(store, params) for entity in page]

    async def find(self, store: str, field: str, value: str) -> Entity | None:
        """Return the first entity with this value of a field, or None."""
        found = await self.call("GET", path_of(store), params={"filter": json.dumps({field: value}), "limit": "1"})
        return found[0] if found else None

    async def require(self, store: str, field: str, value: str) -> Entity:
        """Return the first entity with this value of a field. Raises Failure if there is none."""
        found = await self.find(store, field, value)
        if found is None:
            raise Failure(f"no {store.removesuffix('s')} with the {field} {value!r}")
        return found


@asynccontextmanager
async def open_client(where: Where) -> AsyncIterator[Client]:
    """Open a client of the hub that `where` names.

    For a data directory, this is the server that runs on it. If none runs, the application is started in this process
    and stopped at the end. Raises Failure if no hub exists yet.
    """
    opened = named_server(where).connect() if where.url else await opened_by(load_settings(where.data_dir))
    async with opened as client:
        yield client


async def opened_by(settings: Settings) -> AbstractAsyncContextManager[Client]:
    """Return a client, not yet open, of the server that runs with these settings, or of the application."""
    if server := await running_server(settings):
        return server.connect()
    await require_database(settings)
    return start_in_process(settings)


async def find_server(where: Where) -> Server | None:
    """Return the server that `where` names, or None.

    Without a name, it is the server on the settings' data directory. If no hub was ever started there, it is the only
    server that this user runs.
    """
    return named_server(where) if where.url else await running_server(load_settings(where.data_dir))


def named_server(where: Where) -> Server:
    """Return the server at the URL of `where`."""
    # `hub serve` prints the address of the API too.
    return Server((where.url or "").rstrip("/").removesuffix(API), where.token or "", trust_env=True)


async def running_server(settings: Settings) -> Server | None:
    """Return the server on the settings' data directory, or the only one that this user runs; see `find_server`."""
    running = await find_running(settings.data_dir) or await find_elsewhere(settings)
    return Server(running.url, running.token, trust_env=False) if running else None


async def find_elsewhere(settings: Settings) -> Control | None:
    """Return the only hub that this user runs, if no setting selects a hub and this folder has none."""
    from hub.control import running_data_dirs

    if settings.model_fields_set & {"data_dir", "database_url"} or database_file(settings).exists():
        return None
    others = running_data_dirs()
    if len(others) > 1:
        named = ", ".join(map(str, others))
        raise Failure(
            f"no hub in {settings.data_dir.absolute()}; several run elsewhere: add --data-dir, one of {named}"
        )
    running = await find_running(others[0]) if others else None
    if running:
        note(f"no hub in {settings.data_dir.absolute()}: using the one that runs on {others[0]}")
    return running


async def find_running(data_dir: Path) -> Control | None:
    """Return the hub that runs on a data directory, or None.

    The control file is not enough: it remains after a crash, and its process id may belong to another process now (in a
    container, even to this one). The hub must accept the file's token.
    """
    from hub.control import read_control

    noted = read_control(data_dir)
    if noted is None:
        return None
    try:
        async with connect(noted.url, noted.token, trust_env=False) as client:
            await client.call("GET", "/auth")
    except (Unreachable, Refused):
        return None
    return noted


@asynccontextmanager
async def connect(url: str, token: str, *, trust_env: bool = True) -> AsyncIterator[Client]:
    """Open a client of a server. Without `trust_env`, the environment's proxies are bypassed."""
    # Without proxies plain HTTP needs no certificates, whose loading takes longer than a request.
    verify = trust_env or not url.startswith("http://")
    headers = bearer(token)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=SECONDS, trust_env=trust_env, verify=verify
    ) as http:
        yield Client(http)


@asynccontextmanager
async def start_in_process(settings: Settings) -> AsyncIterator[Client]:
    # Imported here: it takes half a second, which commands on a running hub do not need.
    from hub.app import create_app

    app = create_app(settings)
    hub = app.state.hub
    hub.makes_administrator = False
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = bearer(hub.control_token)
        async with httpx.AsyncClient(transport=transport, base_url=IN_PROCESS, headers=headers) as http:
            yield Client(http)


def load_settings(data_dir: Path | None = None, **given: Any) -> Settings:
    """Return the settings in force. Those given on the command line take precedence."""
    from hub.settings import BadSettings, read_settings

    chosen = {name: value for name, value in {"data_dir": data_dir, **given}.items() if value is not None}
    try:
        return read_settings(**chosen)
    except BadSettings as error:
        raise Failure(str(error)) from error


def path_of(store: str) -> str:
    """Return the path of a store. Any text is quoted safely."""
    return f"/{quote(store, safe='')}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
