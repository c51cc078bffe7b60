"""`hub watch` on real hubs: every change once and in order, over restarts, dropped connections and slow readers."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from hub.cli.watch import LONGEST_PAUSE, pause_before
from tests.cli.conftest import PATIENCE, ROOT, CommandLine
from tests.cli.terminal import Terminal
from tests.support.engines import Database, mongo_database, sqlite_database
from tests.support.hub import Client, Hub, entity_of, eventually, running_hub
from tests.support.ports import free_port
from tests.support.program import HUB
from tests.support.standstill import read_metrics

Change = dict[str, Any]


class Watching:
    """A running `hub watch`; `told` is its standard error so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told = ""

    async def line(self) -> str:
        """Return the next line of its output; empty at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().removesuffix("\n")

    async def changes(self, number: int) -> list[Change]:
        return [json.loads(await self.line()) for _ in range(number)]

    async def until(self, text: str) -> None:
        """Wait for a message on standard error that contains this text, and skip all messages before it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self.process.stderr.readline()).decode()
                assert line, (text, self.told)
                self.told += line
                if text in line:
                    return

    async def end(self) -> int:
        """Wait until the command has ended; return its exit code."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.told += (await self.process.stderr.read()).decode()
            return await self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


Watch = Callable[..., Awaitable[Watching]]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    """A function that starts `hub watch`: ``await watch(hub, store, "--only", "a")``. It returns when the command
    watches, or immediately if not `ready`. `hub` is a running hub, a data folder, or None if the options name one."""
    async with AsyncExitStack() as stack:

        async def start(hub: Hub | Path | None, store: str, *options: str, ready: bool = True) -> Watching:
            folder = hub.process.folder if isinstance(hub, Hub) else hub
            named = ("--data-dir", str(folder)) if folder else ()
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *(*HUB, "watch", store, *named, *options),
                cwd=tmp_path,
                env=CommandLine(ROOT).environment,
                stdout=pipe,
                stderr=pipe,
                limit=2**20,
            )
            stack.push_async_callback(stop, process)
            watching = Watching(process)
            if ready:
                await watching.until(f"watching {store} at ")
            return watching

        yield start


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


@pytest.fixture(scope="module")
async def hub(
    engine_kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Hub]:
    """A hub of each engine that the tests share; it sends quiet clients their position every second."""
    folder = tmp_path_factory.mktemp("watched")
    if engine_kind == "sqlite":
        database = sqlite_database(folder)
    else:
        database = mongo_database(request.getfixturevalue("mongodb"))
    async with running_hub(database, folder / "hub", live_position_every=1) as hub:
        yield hub
    await database.drop()


def ops(changes: list[Change]) -> list[tuple[str, Any]]:
    """Return each change as operation and number, or operation and id for a removal."""
    return [(c["op"], c["_id"] if c["op"] == "remove" else c["entity"]["n"]) for c in changes]


# Output.


async def test_each_change_is_printed_once_and_in_order(hub: Hub, watch: Watch) -> None:
    store = await hub.define()
    await hub.admin.make(store, n=-1)
    watching = await watch(hub, store, "--json")
    made = await hub.admin.make(store, n=0, text="é😀\n")
    await hub.admin.patch(f"/{store}/{made['_id']}", {"n": 1})
    await hub.admin.make_all(store, [{"n": n} for n in range(2, 50)])
    await hub.admin.delete(f"/{store}/{made['_id']}")
    changes = await watching.changes(51)
    expected = [("insert", 0), ("update", 1), *(("insert", n) for n in range(2, 50)), ("remove", made["_id"])]
    assert ops(changes) == expected
    assert changes[0]["entity"] == made
    assert changes[1]["changed"] == ["n", "_at", "_rev"]
    assert changes[-1].keys() == {"channel", "op", "store", "_id", "position"}


async def test_a_filter_is_entered_and_left(hub: Hub, watch: Watch) -> None:
    store = await hub.define()
    watching = await watch(hub, store, "--json", "--filter", '{"stars": {"$gte": 3}}', "--only", "text,n")
    made = await hub.admin.make(store, n=1, text="a", stars=2)
    path = f"/{store}/{made['_id']}"
    for fields in ({"stars": 4}, {"stars": 5}, {"text": "b"}, {"stars": 1}, {"n": 2}):
        await hub.admin.patch(path, fields)
    await hub.admin.make(store, n=3, stars=3)
    entered, updated, left, last = await watching.changes(4)
    assert (entered["op"], entered["entity"]) == ("insert", {"_id": made["_id"], "n": 1, "text": "a"})
    assert (updated["op"], updated["changed"]) == ("update", ["text"])
    assert (left["op"], left["_id"]) == ("remove", made["_id"])
    assert ops([last]) == [("insert", 3)]


@pytest.mark.engine("sqlite")
async def test_lines_say_what_matters(hub: Hub, watch: Watch) -> None:
    """Lines omit fields that the hub assigns, unless they have changed, and contain no terminal control sequences."""
    store = await hub.define()
    watching = await watch(hub, store)
    made = await hub.admin.make(store, n=1, text="a\x1b[31m\x9b", old=True)
    path = f"/{store}/{made['_id']}"
    entity_of(await hub.admin.put(path, {"n": 2, "text": "b"}))
    entity_of(await hub.admin.put(f"{path}/access", {"access": [made["owner"]]}))
    await hub.admin.delete(path)
    lines = [
        re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\w+) *  (\w{24})(.*)", await watching.line()) for _ in "1234"
    ]
    assert [line and line[2] for line in lines] == [made["_id"]] * 4
    assert [(line[1], line[3]) for line in lines if line] == [
        ("insert", r'  {"n":1,"text":"a\u001b[31m\x9b","old":true}'),
        ("update", '  {"n":2,"text":"b"} without old'),
        ("update", f'  {{"access":["{made["owner"]}"]}}'),
        ("remove", ""),
    ]


@pytest.mark.engine("sqlite")
async def test_lines_have_all_that_was_asked_for(hub: Hub, watch: Watch) -> None:
    store = await hub.define()
    watching = await watch(hub, store, "--only", "n,_rev")
    await hub.admin.make(store, n=1, text="a")
    assert (await watching.line()).endswith('  {"n":1,"_rev":1}')


def test_a_terminal_shows_one_line_a_change_in_colour(served_hub: CommandLine) -> None:
    served_hub("store", "create", "shown")
    terminal = Terminal(served_hub, "watch", "shown")
    while "Ctrl-C ends it" not in terminal.shown:
        assert terminal.read(), terminal.shown
    served_hub("import", "shown", "-", input=json.dumps({"text": "long " * 100}))
    while "…" not in terminal.shown:
        assert terminal.read(), terminal.shown
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    [line] = [line for line in terminal.shown.splitlines() if "insert" in line]
    assert "\x1b[32minsert" in line
    assert len(re.sub(r"\x1b\[[\d;]*m", "", line)) == 120


# Resuming after an interruption.


@asynccontextmanager
async def paused(watching: Watching) -> AsyncIterator[None]:
    """Suspend the command while the block runs."""
    watching.signal(signal.SIGSTOP)
    yield
    watching.signal(signal.SIGCONT)


def token_of(client: Client) -> str:
    return str(client.http.headers["authorization"].removeprefix("Bearer "))


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("named_by", ["url", "data folder"])
async def test_nothing_is_lost_or_doubled_when_the_hub_is_killed(
    database: Database, tmp_path: Path, watch: Watch, named_by: str
) -> None:
    """The hub is killed and started again on the same data. If it is named by its data folder, its token and port
    change."""
    folder, port = tmp_path / "hub", free_port() if named_by == "url" else 0
    async with running_hub(database, folder, port=port) as hub:
        store, user = await hub.define(), await hub.as_user()
        token = token_of(user)
        options = ("--url", hub.url, "--token", token) if named_by == "url" else ()
        watching = await watch(None if options else hub, store, "--json", *options)
        made = await user.make(store, n=1)
        assert ops(await watching.changes(1)) == [("insert", 1)]
        async with paused(watching):
            await user.make_all(store, [{"n": n} for n in range(2, 20)])
            await asyncio.to_thread(hub.process.stop, signal.SIGKILL)
        await watching.until("reconnecting in ")
        watching.signal(signal.SIGSTOP)
        async with running_hub(database, folder, port=port) as again:
            user = again.client(token)
            await user.make(store, n=20)
            await user.delete(f"/{store}/{made['_id']}")
            watching.signal(signal.SIGCONT)
            await watching.until("watching again")
            await user.make(store, n=21)
            expected = [*(("insert", n) for n in range(2, 21)), ("remove", made["_id"]), ("insert", 21)]
            assert ops(await watching.changes(21)) == expected
            watching.signal(signal.SIGINT)
            assert await watching.line() == ""
            assert await watching.end() == 130


async def test_changes_of_one_commit_are_marked_in_json(hub: Hub, watch: Watch) -> None:
    """With its number, and the last one as such, so that a reader can take all or none."""
    store = await hub.define()
    watching = await watch(hub, store, "--json", "--filter", '{"n": {"$lt": 3}}')
    await hub.admin.make(store, n=0)
    await hub.admin.make_all(store, [{"n": 1}, {"n": 2}, {"n": 3}])
    await hub.admin.make_all(store, [{"n": 1}, {"n": 2}])
    alone, *several = await watching.changes(5)
    assert alone.keys().isdisjoint(("commit", "last"))
    assert [each.get("last") for each in several] == [None, True, None, True]
    commits = [each["commit"] for each in several]
    assert commits[0] == commits[1] != commits[2] == commits[3]


async def test_an_orderly_restart_is_survived_too(database: Database, tmp_path: Path, watch: Watch) -> None:
    folder = tmp_path / "hub"
    async with running_hub(database, folder) as hub:
        store = await hub.define()
        watching = await watch(hub, store, "--json")
        await hub.admin.make(store, n=1)
        await asyncio.to_thread(hub.process.stop)
        await watching.until("the hub shuts down; reconnecting in ")
        async with running_hub(database, folder) as again:
            await again.admin.make(store, n=2)
            assert ops(await watching.changes(2)) == [("insert", 1), ("insert", 2)]


@pytest.mark.gate("sqlite", "mongodb")
async def test_since_goes_on_from_a_position(hub: Hub, watch: Watch) -> None:
    """The position may come from a list, a change, or a watch that was ended by Ctrl-C."""
    store = await hub.define()
    await hub.admin.make(store, n=1)
    listed = (await hub.admin.get(f"/{store}")).headers["x-position"]
    await hub.admin.make_all(store, [{"n": n} for n in range(2, 5)])
    first = await watch(hub, store, "--json", "--since", listed)
    changes = await first.changes(3)
    assert ops(changes) == [("insert", n) for n in range(2, 5)]
    first.signal(signal.SIGINT)
    assert await first.end() == 130
    assert "Traceback" not in first.told
    [stopped] = re.findall(r"to go on: --since (\S+)", first.told)
    await hub.admin.make(store, n=5)
    for position, expected in ((changes[0]["position"], [3, 4, 5]), (stopped, [5])):
        again = await watch(hub, store, "--json", "--since", position)
        assert [c["entity"]["n"] for c in await again.changes(len(expected))] == expected


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_position_that_is_not_known_any_more_is_refused(hub: Hub, watch: Watch) -> None:
    store = await hub.define()
    for position in ("", "nonsense", "444398a8.4~8a4640c236"):
        watching = await watch(hub, store, "--since", position, ready=False)
        assert await watching.end() == 1
        assert "the changes since that position are no longer known" in watching.told


async def test_a_gap_is_said_aloud(hub: Hub, watch: Watch) -> None:
    """A redefinition of the store may alter entities as shown, without a change of them."""
    store = await hub.define()
    watching = await watch(hub, store, "--json")
    [definition] = await hub.admin.list("stores", {"name": store})
    hiding = [{"id": "n", "type": "Number"}, {"id": "m", "type": "Number", "hidden": True}]
    entity_of(await hub.admin.patch(f"/stores/{definition['_id']}", {"fields": hiding}))
    await watching.until(f"changes of {store} were missed")
    await watching.until("watching again")
    await hub.admin.make(store, n=1)
    assert ops(await watching.changes(1)) == [("insert", 1)]


@pytest.mark.engine("sqlite")
async def test_a_gap_at_a_reconnect_is_said_aloud(tmp_path: Path, watch: Watch) -> None:
    """This happens if the database was restored from a backup."""
    folder, store = tmp_path / "hub", "units"
    async with running_hub(sqlite_database(tmp_path), folder) as hub:
        await hub.admin.make("stores", name=store)
        watching = await watch(hub, store, "--json")
    await watching.until("reconnecting in ")
    watching.signal(signal.SIGSTOP)
    other = tmp_path / "other"
    other.mkdir()
    async with running_hub(sqlite_database(other), folder) as again:
        await again.admin.make("stores", name=store)
        watching.signal(signal.SIGCONT)
        await watching.until("changes of units were missed")
        await watching.until("watching again")
        await again.admin.make(store, n=1)
        assert ops(await watching.changes(1)) == [("insert", 1)]


@pytest.mark.engine("sqlite")
async def test_a_silent_hub_counts_as_lost(tmp_path: Path, watch: Watch) -> None:
    settings = {"live_ping_interval": 1, "live_ping_timeout": 1}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        store = await hub.define()
        token = token_of(await hub.as_user())
        watching = await watch(None, store, "--url", hub.url, "--token", token, "--json")
        hub.process.process.send_signal(signal.SIGSTOP)
        await watching.until("does not answer; reconnecting in ")
        hub.process.process.send_signal(signal.SIGCONT)
        await watching.until("watching again")


@pytest.mark.engine("sqlite")
async def test_output_that_is_not_taken_costs_nothing_but_time(tmp_path: Path, watch: Watch) -> None:
    """The hub disconnects the command; all changes are printed once its output is read again."""
    settings = {"live_max_buffered": 65_536, "live_ping_timeout": 1}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:

        async def is_cut_off() -> bool:
            return (await read_metrics(hub.url)).value("hub_live_lagging_total") > 0

        store = await hub.define()
        user = await hub.as_user()  # the administrator sees its changes
        watching = await watch(hub, store, "--json")
        async with paused(watching):
            for start in range(0, 300, 10):
                await user.make_all(store, [{"n": n, "text": "x" * 50_000} for n in range(start, start + 10)])
            await eventually(is_cut_off)
        assert ops(await watching.changes(300)) == [("insert", n) for n in range(300)]
        await watching.until("changes came faster than they were taken here; reconnecting in ")


def test_the_pauses_grow_and_are_bounded() -> None:
    assert 0.1 <= pause_before(0) <= 0.2
    assert LONGEST_PAUSE / 2 <= pause_before(100_000) <= LONGEST_PAUSE
    assert len({pause_before(0) for _ in range(10)}) > 1


# Endings.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--filter", '{"n": {"$regexp": 1}}'), "Bad Request: $regexp: unknown operator"),
        (("--filter", "[1]"), "Bad Request: filter: a filter is an object"),
        (("--only", "a..b"), "Bad Request: "),
    ],
)
@pytest.mark.engine("sqlite")
async def test_what_the_hub_refuses_is_said_in_its_words(
    hub: Hub, watch: Watch, options: tuple[str, str], message: str
) -> None:
    store = await hub.define()
    watching = await watch(hub, store, *options, ready=False)
    assert (await watching.end(), watching.told.count("\n")) == (1, 1)
    assert watching.told.startswith(f"hub: {store}: {message}")


async def test_a_store_that_is_not_there_or_not_allowed_ends_it(hub: Hub, watch: Watch) -> None:
    watching = await watch(hub, "nosuch", ready=False)
    assert await watching.end() == 1
    assert re.fullmatch(r"hub: nosuch: Not Found[^\n]*\n", watching.told)
    reader = await hub.with_token((await hub.as_user()).user, scopes=["GET /others/*"])
    named = ("--url", hub.url, "--token", token_of(reader))
    watching = await watch(None, await hub.define(), *named, ready=False)
    assert await watching.end() == 1
    assert watching.told.endswith(": Forbidden\n")


async def test_it_ends_with_its_token(hub: Hub, watch: Watch) -> None:
    store, user = await hub.define(), await hub.as_user()
    watching = await watch(None, store, "--url", hub.url, "--token", token_of(user), "--json")
    await user.make(store, n=1)
    assert ops(await watching.changes(1)) == [("insert", 1)]
    [token] = await hub.admin.list("tokens", {"user": user.id})
    await hub.admin.delete(f"/tokens/{token['_id']}")
    assert await watching.end() == 1
    assert "the token is revoked" in watching.told


async def test_it_ends_with_its_store(hub: Hub, watch: Watch) -> None:
    store = await hub.define()
    watching = await watch(hub, store)
    [definition] = await hub.admin.list("stores", {"name": store})
    entity_of(await hub.admin.delete(f"/stores/{definition['_id']}"))
    assert await watching.end() == 1
    assert watching.told.endswith(f"hub: {store}: Not Found\n")


@pytest.mark.parametrize("token", ["wrong", "é\n"])
@pytest.mark.engine("sqlite")
async def test_a_wrong_token_is_refused(hub: Hub, watch: Watch, token: str) -> None:
    watching = await watch(None, "units", "--url", hub.url, "--token", token, ready=False)
    assert (await watching.end(), watching.told) == (1, "hub: Unauthorized: the hub does not take this token\n")


async def test_without_a_running_hub_it_says_what_to_do(database: Database, tmp_path: Path, watch: Watch) -> None:
    """The same holds if a hub was killed and its note still exists."""
    folder = tmp_path / "hub"
    for _ in range(2):
        watching = await watch(folder, "units", ready=False)
        assert await watching.end() == 1
        assert watching.told.startswith(f"hub: no hub runs on {folder}: start it with `hub serve`")
        if not folder.exists():
            async with running_hub(database, folder) as hub:
                await asyncio.to_thread(hub.process.stop, signal.SIGKILL)
    assert (folder / "hub.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--url", "http://127.0.0.1:9", "--token", "x"), 1, "no answer from http://127.0.0.1:9: "),
        (("--url", "ftp://hub.example.org", "--token", "x"), 2, "is no address of a hub"),
        (("--url", "http://127.0.0.1:port", "--token", "x"), 2, "is no address of a hub"),
        (("--url", "http://127.0.0.1:9"), 2, "--url needs a token"),
        (("--filter", "{stars: 3}"), 2, "--filter is no JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    hub_of_no_engine: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert message in hub_of_no_engine("watch", "units", *arguments, code=code).err


@pytest.fixture
def hub_of_no_engine(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.mark.engine("sqlite")
async def test_it_ends_with_its_reader(hub: Hub, watch: Watch) -> None:
    """It ends immediately, not only at the next change, and without a message."""
    store = await hub.define()
    watching = await watch(hub, store)
    said = watching.told
    watching.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await watching.end() == 130
    assert watching.told == said


# Servers that are not hubs.


async def answer(socket: ServerConnection) -> None:
    """Send the message that the path names, and wait."""
    said = {
        "words": ["hello"],
        "json": ["0[]"],
        "nothing": ["0{}"],
        "refusal": ['0{"pingInterval":20000,"pingTimeout":20000}', '44{"message":"Too many connections"}'],
        "end": ["1"],
        "large": ["x" * 70_000_000],
    }
    assert socket.request is not None
    for packet in said[socket.request.path.split("/")[1]]:
        await socket.send(packet)
    await socket.wait_closed()


def redirect(socket: ServerConnection, request: Request) -> Response | None:
    if not request.path.startswith("/moved"):
        return None
    response = socket.respond(HTTPStatus.FOUND, "")
    response.headers["Location"] = "/words/socket.io/"
    return response


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("words", "is no hub"),
        ("json", "is no hub"),
        ("nothing", "is no hub"),
        ("refusal", "the hub refuses the connection: Too many connections"),
        ("end", "the hub has closed the connection"),
        ("large", "a message of the hub is larger than 64 MiB"),
        ("moved", "answers 302 where a hub has its live API"),
    ],
)
async def test_a_server_that_is_no_hub_is_named_so(watch: Watch, path: str, message: str) -> None:
    async with serve(answer, "127.0.0.1", 0, process_request=redirect, compression=None) as server:
        [socket] = server.sockets
        url = f"http://127.0.0.1:{socket.getsockname()[1]}/{path}"
        watching = await watch(None, "units", "--url", url, "--token", "x", ready=False)
        assert await watching.end() == 1
        assert message in watching.told
        assert watching.told.count("\n") == 1
