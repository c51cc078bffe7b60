"""The least that an answer over HTTP costs: an ASGI function that answers a constant, under the server of the hub.

`python -m benchmarks.bare PROTOCOL FILE` serves the answer in FILE until it is terminated. PROTOCOL is `uvicorn`, its
own protocol class with httptools, or `hub`, the class that the hub gives to uvicorn. Both run on uvloop.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from benchmarks.data import Scene
from benchmarks.processes import ROOT, Cores, Hub, running_server
from hub.http.answer import Answer
from hub.http.connections import ConnectionLimits, Connections
from hub.http.scope import WHOLE_ANSWER
from hub.live.gateway import PATH as LIVE_PATH
from hub.serve import BACKLOG
from hub.server.heads import HeadLimits
from hub.server.protocol import HubHttpProtocol
from hub.settings import Settings

NAMES: Final = {"uvicorn": "under uvicorn", "hub": "under the hub's own server class"}
PROTOCOLS: Final = tuple(NAMES)
SERVER_ADDS: Final = (b"date",)
"""Headers that uvicorn adds to each answer."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The body of an answer, and its headers without those that the server adds."""

    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def like(cls, answer: httpx.Response) -> Constant:
        """Return what the hub has answered. The client must not have accepted a compressed answer."""
        raw = [(name.lower(), value) for name, value in answer.headers.raw]
        return cls([header for header in raw if header[0] not in SERVER_ADDS], answer.content)

    def save(self, file: Path) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
        file.write_bytes(orjson.dumps({"headers": headers, "body": self.body.decode()}))

    @classmethod
    def load(cls, file: Path) -> Constant:
        saved = orjson.loads(file.read_bytes())
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in saved["headers"]]
        return cls(headers, saved["body"].encode())

    def application(self) -> ASGIApp:
        """Return the shortest function of ASGI that answers this: a head and a body."""

        async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [*self.headers]})
            await send({"type": "http.response.body", "body": self.body})

        return answer

    def whole_application(self) -> ASGIApp:
        """Return the shortest function that answers this in one message, as the hub does."""

        async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": WHOLE_ANSWER, "status": 200, "headers": [*self.headers], "body": self.body})

        return answer


def of_read(scene: Scene, path: str) -> Constant:
    """Return what the hub answers to a GET of the ordinary user, as the load program sends it."""
    with scene.http() as http:
        return Constant.like(http.get(path, headers={"accept-encoding": "identity"}).raise_for_status())


@contextmanager
def running_bare(protocol: str, answer: Constant, cores: Cores, engine: str) -> Iterator[Hub]:
    """Run the bare function on the hub's core. It has the form of a hub, so that the same program loads both."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        folder = Path(name)
        answer.save(folder / "answer.json")
        command = [sys.executable, "-m", "benchmarks.bare", protocol, "answer.json"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with running_server(command, folder, environment, cores) as (pid, host, port, log):
            yield Hub(engine, host, port, pid, log, database="")


class AnnouncingServer(uvicorn.Server):
    """Prints its address once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print("live at http://{}:{}".format(*self.servers[0].sockets[0].getsockname()), flush=True)


def configuration(protocol: str, answer: Constant) -> uvicorn.Config:
    """Return the configuration that the hub has, as far as it costs anything, with the bare function."""
    application: Any = answer.application() if protocol == "uvicorn" else answer.whole_application()
    http: Any = HttpToolsProtocol if protocol == "uvicorn" else hub_protocol()
    return uvicorn.Config(
        application,
        port=0,
        loop="uvloop",
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
    )


def hub_protocol() -> partial[HubHttpProtocol]:
    """Return the hub's protocol with the default settings, as `hub.serve` makes it."""
    settings = Settings()
    return partial(
        HubHttpProtocol,
        limits=HeadLimits(settings.max_head_bytes, settings.head_timeout),
        connections=Connections(ConnectionLimits(), lambda _: False, lambda _: None),
        write_timeout=settings.write_timeout,
        websocket_path=LIVE_PATH.encode(),
        error_answer=lambda _error, _scope: Answer(b"{}", 500),
    )


if __name__ == "__main__":
    AnnouncingServer(configuration(sys.argv[1], Constant.load(Path(sys.argv[2])))).run()
