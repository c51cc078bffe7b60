"""Runs the hub under uvicorn: startup, the first-start messages, and graceful shutdown."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from hub.app import MakeDialect, create_app
from hub.control import Control, register, remove_control, unregister, write_control
from hub.http.connections import ConnectionLimits, Connections
from hub.http.proxies import ForwardedHeaders, TrustedProxies
from hub.key_file import KeyAppeared
from hub.live.gateway import PATH as LIVE_PATH
from hub.live.gateway import LiveGateway
from hub.logs import configure_logging
from hub.media.incoming import INCOMING
from hub.memory import reuse_memory
from hub.metrics import Metrics
from hub.running import Hub
from hub.server.heads import HeadLimits
from hub.server.protocol import HubHttpProtocol
from hub.settings import Settings, file_data_dir, unknown_variables
from realtime.engineio.uvicorn_protocol import HubProtocol
from stores.errors import CannotOpen
from stores.protocol import Engine

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

BACKLOG: Final = 2_048
"""Length of the accept queue."""
CLOSING: Final = 3
"""Seconds of the shutdown grace period reserved for a database server that does not answer while connections close."""
LONGEST_END: Final = 10.0
"""Seconds after the grace period in which the hub closes the database and ends; then the process is ended."""
OTHER_FILES: Final = 128
"""Open files besides those of clients and the database: logs, libraries, the command line."""
LEAST_OTHER_FILES: Final = 24
"""The smallest number of such files."""
FEW_CONNECTIONS: Final = 500
"""A system limit below this many connections is worth a warning."""

FIRST_START = """First start: sign in as {login!r} with the password {password}
It is shown this once; `hub user password` sets another."""


class HubServer(uvicorn.Server):
    """Announces its address once it listens, and keeps a control file for the command line while it runs."""

    def __init__(self, config: uvicorn.Config, app: Starlette, announce: Callable[[Hub, str], None]) -> None:
        super().__init__(config)
        self.hub: Hub = app.state.hub
        self.gateway: LiveGateway = app.state.gateway
        self.announce = announce
        self._last_resort: threading.Timer | None = None

    async def serve(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        # In the application's lifespan, uvicorn would turn CannotOpen into a traceback.
        try:
            async with self.hub.run():
                self.show_first_password()
                await super().serve(sockets)  # type: ignore[arg-type]
        finally:
            self.show_first_password()  # the start may fail after it was created

    def show_first_password(self) -> None:
        """Print the first administrator's password once, if there is a new one."""
        password, self.hub.first_password = self.hub.first_password, None
        if password:
            print(FIRST_START.format(login=self.hub.settings.admin_login, password=password), flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                # uvicorn would raise them again and end the process before its own cleanup.
                self._captured_signals.clear()

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        # A library may wait for ever for a lock that it has lost: PyMongo does so when it is cancelled at a bad moment.
        self._last_resort = threading.Timer(self.hub.settings.shutdown_grace + LONGEST_END, end_process)
        self._last_resort.daemon = True
        self._last_resort.start()
        await self.gateway.eio.shutdown()  # live clients get a notice; running requests may complete
        await super().shutdown(sockets)  # type: ignore[arg-type]

    def ended(self) -> None:
        """Call it when everything has ended in time."""
        if self._last_resort is not None:
            self._last_resort.cancel()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets=sockets)  # type: ignore[arg-type]
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{'127.0.0.1' if shown in ('0.0.0.0', '[::]') else shown}:{port}"
        settings = self.hub.settings
        data_dir = settings.data_dir
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        register(data_dir, os.getpid())
        write_control(data_dir, Control(os.getpid(), url, self.hub.control_token, settings.database_address))
        self.announce(self.hub, url)


def serve(settings: Settings, others: Iterable[MakeDialect] = ()) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code. Running requests get `shutdown_grace` seconds to complete.
    `others` create the dialects that are served beside the platform's."""
    configure_logging(settings)
    reuse_memory()
    allow_connections()
    for name, near in unknown_variables(os.environ).items():
        print(f"hub: {name} is no setting and has no effect{near}", file=sys.stderr, flush=True)
    listening: list[socket.socket] = []
    try:
        # Bind before anything is created: a taken port must not leave a new database and password behind.
        listening += listen(settings.host, settings.port)
        keep_uploads_in(settings.data_dir / INCOMING)
        try:
            return run(create_app(settings, others), settings, listening)
        except KeyAppeared:  # made by another process that started on this data folder at the same time
            return run(create_app(settings, others), settings, listening)
    except CannotOpen as error:
        print(f"hub: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        for each in listening:
            each.close()


def keep_uploads_in(folder: Path) -> None:
    """Let forms write their files to this folder, unless the environment names one: the system's may be in memory."""
    if not any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        with suppress(OSError):  # whoever needs the data folder says what is wrong with it
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.tempdir = str(folder)


def end_process() -> None:
    """End the process, although something does not end. What was answered is durable."""
    log.error("the hub does not end: the process is ended")
    logging.shutdown()
    os._exit(1)


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of `host`, all on one port. Raises CannotOpen."""
    sockets: list[socket.socket] = []
    shown = f"[{host}]" if ":" in host else host
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            taken = sockets[0].getsockname()[1] if sockets else port
            sockets.append(listen_at(family, (address[0], taken, *address[2:])))
    except OSError as error:
        for each in sockets:
            each.close()
        advice = "stop what listens there, or choose another HUB_PORT" if error.errno == errno.EADDRINUSE else ""
        raise CannotOpen(": ".join(filter(None, (f"{shown}:{port}", error.strerror, advice)))) from error
    return sockets


def listen_at(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # immediately: two processes can bind one port as long as neither listens
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def allow_connections() -> None:
    """Raise the soft limit of open files to the hard limit: each connection is a file, and 1 024 is the usual
    default."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS refuses its own hard limit: keep the old soft limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_connections(engine: Engine) -> int | None:
    """Return how many connections the limit of open files allows, or None if there is no limit.

    Connections get at least half of all files. If the database needs more than the rest, it is limited to that.
    """
    if resource is None:
        return None
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return None
    wanted = OTHER_FILES + engine.most_files
    if wanted <= files // 2:
        return files - wanted
    engine.limit_files(files // 2 - LEAST_OTHER_FILES)
    return max(1, files - files // 2)


def count_connections(settings: Settings, engine: Engine, metrics: Metrics) -> Connections:
    """Return the counter of all connections. Its limit never exceeds the system's limit of open files."""
    room = room_for_connections(engine)
    most = settings.max_connections if room is None else min(room, settings.max_connections)
    if most == room and room < FEW_CONNECTIONS:
        text = f"hub: the system allows so few open files that there is room for {room} connections: raise ulimit -n"
        print(text, file=sys.stderr, flush=True)
    limits = ConnectionLimits(most, settings.max_connections_per_address, settings.max_buffered_bytes)
    counted = Connections(limits, TrustedProxies(settings.trusted_proxies).trusts, metrics.limit_reached)
    metrics.connections.set_function(lambda: counted.count)
    return counted


def run(app: Starlette, settings: Settings, listening: list[socket.socket]) -> int:
    http = partial(
        HubHttpProtocol,
        limits=HeadLimits(settings.max_head_bytes, settings.head_timeout),
        connections=count_connections(settings, app.state.hub.engine, app.state.hub.metrics),
        write_timeout=settings.write_timeout,
        websocket_path=LIVE_PATH.encode(),
        error_answer=app.state.error_answer,
    )
    config = uvicorn.Config(
        ForwardedHeaders(app, settings.trusted_proxies),  # type: ignore[arg-type]
        http=http,  # type: ignore[arg-type]
        ws=HubProtocol,
        log_config=None,
        access_log=False,
        ws_max_size=settings.live_max_payload,
        timeout_keep_alive=settings.keep_alive_timeout,
        proxy_headers=False,  # see ForwardedHeaders
        server_header=False,
        timeout_graceful_shutdown=max(1, settings.shutdown_grace - (CLOSING if app.state.hub.engine.shared else 0)),
        lifespan="off",  # see HubServer.serve
        backlog=BACKLOG,
    )
    # A thread that needs the interpreter waits this long for a busy event loop, at every statement of a bulk write. A
    # tenth of Python's default halves the cost of such a write (measured: 109 to 61 µs of CPU per row).
    sys.setswitchinterval(0.0005)
    # Everything loaded so far stays, and most objects of a request need no collector: search for cycles less often
    # (measured: it saves 6% of the CPU of a load of creates, mostly for the changes that are kept in memory). A search
    # is a part of one turn of the loop. One through all objects takes 90 ms beside 40 000 conditions of compiled
    # filters. One through the young ones is bounded by the second number: it took 91 ms of an array of 10 000 upserts
    # with 20, and takes 26 ms with 4.
    gc.freeze()
    gc.set_threshold(10_000, 4, 1_000)
    server = HubServer(config, app, announce)
    try:
        server.run(listening)
    finally:
        server.ended()
        remove_control(settings.data_dir, os.getpid())
        unregister(os.getpid())
    return 0 if server.started else 1


def announce(hub: Hub, url: str) -> None:
    """Print the hub's address and the next steps."""
    lines = [f"hub is live at {url}  (API: {url}/api/v1, document: {url}/api/v1/openapi.json)"]
    here = options_of(hub.settings)
    lines += [
        f"Next, in another terminal: {command_name()} store create readings{here}",
        f"                           {command_name()} token create laptop{here}",
    ]
    lines += ["Stop: Ctrl-C"]
    print("\n".join(lines), flush=True)


def command_name() -> str:
    """Return the command that runs this program again from the same folder."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m hub.cli"
    return shlex.quote(os.path.relpath(sys.argv[0]))


def options_of(settings: Settings) -> str:
    """Return the options that a command in another terminal needs: a data folder that was set by option or variable."""
    data_dir = settings.data_dir
    return "" if data_dir == file_data_dir() else f" --data-dir {shlex.quote(str(data_dir))}"
