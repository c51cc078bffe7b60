"""A hub with further ports: behind each, a part of the layers that a read by id passes through.

`python -m benchmarks.layered_hub serve` is `hub serve`. It writes the ports into `ports.json` in its folder, in the
order of `STEPS`. Behind its port, a step has the layers of the step before and its own. What is below them is called
once, for the first request, and gives the result of this again for all others.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast
from unittest.mock import patch

import orjson
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import hub.serve
from auth.principal import Principal
from hub.app import HubApplication, make_platform
from hub.cli.main import main
from hub.dialects.base import Dialects, Operation
from hub.dialects.endpoint import PrefixDispatch, endpoints_of
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.routes import PlatformDialect
from hub.http.call import Call
from hub.http.origins import Origins
from hub.http.proxies import ForwardedHeaders

PORTS: Final = "ports.json"

STEPS: Final = (
    "kernel, uvicorn and its parser",
    "the hub's server class: limits of connections and heads, an answer in one message",
    "middleware: request id, origins, limits, metrics, access log",
    "routing, and the head of the answer",
    "authentication and rights",
    "dialect: parameters, preconditions, the text of the answer",
    "service: the caller's View",
    "engine and database",
)
"""The layers, from the outermost one, as they are added step by step."""


class Remembered:
    """Calls a function once, and returns the same result for every further call."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call
        self._result: Any = None

    async def __call__(self, *args: Any) -> Any:
        if self._result is None:
            self._result = await self._call(*args)
        return self._result


def remembered_answer(app: ASGIApp) -> ASGIApp:
    """Return an application that answers every request like the first one, which `app` answers."""
    known: list[Message] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if known:
            for message in known:
                await send(_copied(message))
            return
        first: list[Message] = []

        async def record(message: Message) -> None:
            first.append(_copied(message))
            await send(message)

        await app(scope, receive, record)
        known[:] = first

    return answer


def _copied(message: Message) -> Message:
    """Return the message with headers of its own, because the middleware adds some to them."""
    return {**message, "headers": [*message["headers"]]} if "headers" in message else message


class UncheckedDialect(PlatformDialect):
    """The platform API that takes every caller for the first one."""

    def __init__(self, context: PlatformContext) -> None:
        super().__init__(context)
        self._known = Remembered(super().authenticate)

    def authenticate(self, call: Call) -> Awaitable[Principal]:
        return self._known(call)

    def admit(self, operation: Operation[PlatformContext], call: Call, principal: Principal) -> None:
        pass


class RememberedService:
    """The entities of a service, or of an engine, each of which is the first one that was read."""

    def __init__(self, service: Any) -> None:
        self.get = Remembered(service.get)


@dataclass(slots=True)
class Layers:
    """The layers of a hub, put together anew."""

    app: Starlette
    context: PlatformContext

    @classmethod
    def of(cls, app: Starlette) -> Layers:
        settings, running = app.state.hub.settings, app.state.hub
        origins = Origins(settings.trusted_origins, settings.allowed_hosts)
        return cls(app, make_platform(settings, running, origins).context)

    def steps(self) -> list[ASGIApp]:
        """Return the application of each of `STEPS`."""
        whole = self._below_middleware(PlatformDialect(self.context))
        unchecked = UncheckedDialect(self.context)
        unchecked.operations = answered_once(unchecked.operations)
        checked = PlatformDialect(self.context)
        checked.operations = answered_once(checked.operations)
        parsed = PlatformDialect(replace(self.context, entities=cast(Any, RememberedService(self.context.entities))))
        entities = copy.copy(self.context.entities)
        entities._engine = cast(Any, RememberedService(entities._engine))
        authorized = PlatformDialect(replace(self.context, entities=entities))
        return [
            remembered_answer(self._with_middleware(whole)),
            remembered_answer(self._with_middleware(whole)),
            self._with_middleware(remembered_answer(whole)),
            *(
                self._with_middleware(self._below_middleware(dialect))
                for dialect in (unchecked, checked, parsed, authorized)
            ),
            self._with_middleware(whole),
        ]

    def _below_middleware(self, dialect: PlatformDialect) -> ASGIApp:
        return PrefixDispatch(self.app.router, endpoints_of(Dialects(dialect)))

    def _with_middleware(self, inner: ASGIApp) -> ASGIApp:
        app = inner
        for each in reversed(self.app.user_middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        return cast(ASGIApp, ForwardedHeaders(cast(Any, app), self.context.settings.trusted_proxies))


def answered_once(operations: Any) -> list[Any]:
    """Return the operations with handlers that are called once."""
    return [replace(operation, handler=Remembered(operation.handler)) for operation in operations]


class LayeredServer(hub.serve.HubServer):
    """Listens on a further port for each step."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        app = cast(Any, self.config.app).app
        assert isinstance(app, HubApplication)
        ports = [await self._listen(number, step) for number, step in enumerate(Layers.of(app).steps())]
        write_ports(ports)

    async def _listen(self, number: int, app: ASGIApp) -> int:
        """Serve an application on a port, the first one under uvicorn's own protocol class. Return the port."""
        config = copy.copy(self.config)
        config.loaded_app = cast(Any, app)
        protocol = cast(Any, HttpToolsProtocol if number == 0 else config.http_protocol_class)
        state = self.lifespan.state

        def connected() -> asyncio.Protocol:
            return protocol(config=config, server_state=self.server_state, app_state=state)  # type: ignore[no-any-return]

        server = await asyncio.get_running_loop().create_server(connected, self.hub.settings.host, 0)
        self.servers.append(server)
        return int(server.sockets[0].getsockname()[1])


def write_ports(ports: list[int]) -> None:
    Path(PORTS).write_bytes(orjson.dumps(ports))


if __name__ == "__main__":
    with patch.object(hub.serve, "HubServer", LayeredServer):
        main()
