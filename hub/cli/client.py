"""The one way to a hub: HTTP requests against /api/v1, to a server that runs or to the application in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
"""How long one request may take: a batch of an import, on a busy disk."""


class Refused(Failure):
    """The hub's answer is an error. `errors` is {field: [text]}, `retry_after` seconds (0 when it names none)."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        answer = error_body(response)
        self.errors: dict[str, list[str]] = answer.get("errors") or {}
        retry_after = response.headers.get("retry-after", "")
        self.retry_after = int(retry_after) if retry_after.isdigit() else 0
        super().__init__(describe(answer.get("message") or response.reason_phrase, self.errors))


def error_body(response: httpx.Response) -> dict[str, Any]:
    """The hub's error envelope; empty when something else has answered, a proxy perhaps."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def describe(message: str, errors: Mapping[str, list[str]]) -> str:
    """``Bad Request: name: This field is required.``"""
    details = [f"{field}: {' '.join(texts)}" for field, texts in errors.items()]
    return ": ".join([message, "; ".join(details)]) if details else message


class Unreachable(Failure):
    """No answer came. The request may have been carried out all the same."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which hub: a server (`url` and `token`), or whatever belongs to a data directory (None: that of the settings)."""

    url: str | None = None
    token: str | None = None
    data_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A hub that runs; without `trust_env` it is reached past any proxy of the environment."""

    url: str
    token: str
    trust_env: bool


class Client:
    """Calls of the REST API. Each raises Refused for an error answer and Unreachable when there is none."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def request(
        self, method: str, path: str, params: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        """One call; `path` begins after /api/v1."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            response = await self.http.request(method, API + path, params=params, content=content, headers=headers)
        except httpx.TransportError as error:
            raise Unreachable(f"no answer from {self.http.base_url}: {error or type(error).__name__}") from error
        if not response.is_success:
            raise Refused(response)
        return response

    async def call(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """One call, JSON in and out."""
        content = None if body is None else json.dumps(body).encode()
        return (await self.request(method, path, params, content)).json()

    async def pages(self, store: str, params: Mapping[str, str]) -> AsyncIterator[list[Entity]]:
        """A list page by page, as the answers' `Link: rel="next"` lead."""
        asked: httpx.QueryParams | None = httpx.QueryParams(dict(params))
        while asked is not None:
            response = await self.request("GET", path_of(store), asked)
            yield response.json()
            # Only the query counts: a hub behind a proxy may not know the address that it is reached at.
            url = response.links.get("next", {}).get("url")
            asked = httpx.URL(url).params if url else None

    async def all(self, store: str, **params: str) -> list[Entity]:
        """A whole list, for stores that are small by nature."""
        return [entity async for page in self.pages(store, params) for entity in page]

    async def find(self, store: str, field: str, value: str) -> Entity | None:
        """The first entity with this value of a field."""
        found = await self.call("GET", path_of(store), params={"filter": json.dumps({field: value}), "limit": "1"})
        return found[0] if found else None

    async def require(self, store: str, field: str, value: str) -> Entity:
        """Like `find`. Raises Failure when there is none."""
        found = await self.find(store, field, value)
        if found is None:
            raise Failure(f"no {store.removesuffix('s')} with the {field} {value!r}")
        return found


@asynccontextmanager
async def open_client(where: Where) -> AsyncIterator[Client]:
    """A client of the hub that `where` names. On a data directory: of the server that runs on it, otherwise of the
    application, started in this process and stopped at the end. Raises Failure when there is no hub yet."""
    server = await find_server(where)
    if server:
        async with connect(server.url, server.token, trust_env=server.trust_env) as client:
            yield client
    else:
        settings = load_settings(where.data_dir)
        await require_database(settings)
        async with start_in_process(settings) as client:
            yield client


async def find_server(where: Where) -> Server | None:
    """The server that `where` names. Without a name: the one on the settings' data directory, or, where no hub has
    ever been there, the only one that this user runs. None when there is none."""
    if where.url:
        return Server(where.url, where.token or "", trust_env=True)
    settings = load_settings(where.data_dir)
    running = await find_running(settings.data_dir) or await find_elsewhere(settings)
    return Server(running.url, running.token, trust_env=False) if running else None


async def find_elsewhere(settings: Settings) -> Control | None:
    """The only hub that this user runs, when nothing says which one is meant and there is none in this folder."""
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
    """The hub that runs on a data directory. One that crashed has left its note, and another process, in a container
    even this one, may have its number now: only an answer to its token counts."""
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
    """A client of a server; without `trust_env`, past any proxy of the environment."""
    async with httpx.AsyncClient(base_url=url, headers=bearer(token), timeout=SECONDS, trust_env=trust_env) as http:
        yield Client(http)


@asynccontextmanager
async def start_in_process(settings: Settings) -> AsyncIterator[Client]:
    # Imported here: half a second that a command on a running hub need not wait.
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
    """The settings in force, with those given on the command line before all others."""
    from hub.settings import BadSettings, read_settings

    chosen = {name: value for name, value in {"data_dir": data_dir, **given}.items() if value is not None}
    try:
        return read_settings(**chosen)
    except BadSettings as error:
        raise Failure(str(error)) from error


def path_of(store: str) -> str:
    """The path of a store, whatever was typed as its name."""
    return f"/{quote(store, safe='')}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
