"""`hub watch`: prints the live changes of a store, and continues from the last position after interruptions."""

from __future__ import annotations

import asyncio
import json
import os
import random
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.text import Text

from hub.cli.client import Server, Where, find_server, load_settings
from hub.cli.command import takes_where
from hub.cli.live import Denied, Event, LiveConnection, Lost, Rejected, open_live
from hub.cli.output import Failure, Misuse, note, plain
from stores.records import SYSTEM_FIELDS, now_ms

Change = dict[str, Any]
"""``{channel, op, store, _id, entity?, changed?, _rev?, time?, position}``"""

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
GONE: Final = "410"
COLOURS: Final = {"insert": "green", "update": "yellow", "remove": "red"}
UPDATED: Final = frozenset({"_at", "_rev"})
"""Fields that every update changes."""


@takes_where
async def watch(
    where: Where,
    store: Annotated[str, typer.Argument(help="The store to watch.", show_default=False)],
    filter: Annotated[str | None, typer.Option(help="Entities that enter, match or leave this JSON filter.")] = None,
    only: Annotated[str | None, typer.Option(help="Only these fields, such as station,place.city.")] = None,
    since: Annotated[str | None, typer.Option(help="Print the changes since this position first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every change in full, as a line of JSON.")] = False,
) -> None:
    """Print changes as they happen, until Ctrl-C. After an interruption it continues exactly where it stopped.

    Example: hub watch readings --filter '{"celsius": {"$gt": 30}}' --only station,celsius
    """
    request = {"store": store, "filter": parse_filter(filter), "only": only}
    watching = Watch(where, request, since, print_json_line if as_json else Lines(whole=only is not None))
    try:
        with ending_with_reader():
            await watching.run()
    except asyncio.CancelledError:
        if watching.position is not None:
            note(f"seen up to here; to go on: --since {watching.position}")
        raise


def parse_filter(text: str | None) -> Any:
    """Return a filter for the hub. Raises Misuse if it is not JSON."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise Misuse(f"--filter is no JSON: {error}") from error


class Watch:
    """One subscription across several connections.

    All changes up to `position` have been shown; None means the current position when the subscription begins."""

    def __init__(
        self, where: Where, request: dict[str, Any], since: str | None, show: Callable[[Change], None]
    ) -> None:
        self.where = where
        self.request = request
        self.position = since
        self.show = show
        self.begun = False
        self.trouble = ""
        self.attempts = 0

    @property
    def store(self) -> str:
        return str(self.request["store"])

    async def run(self) -> NoReturn:
        """Follow changes until a failure that no retry can fix. Lost connections are retried only after a first
        success."""
        while True:
            try:
                await self.follow()
            except Lost as error:
                # With a data directory, the hub may have restarted just after its token was read.
                final = isinstance(error, Denied) and self.where.url is not None
                if final or not self.begun:
                    raise
                await self.pause(str(error))

    async def pause(self, trouble: str) -> None:
        seconds = pause_before(self.attempts)
        self.attempts += 1
        if trouble != self.trouble:
            note(f"{trouble}; reconnecting in {seconds:.1f} s, and on until it works")
        self.trouble = trouble
        await asyncio.sleep(seconds)

    async def follow(self) -> NoReturn:
        """Run one connection to its end. Raises Lost if another one may follow."""
        server = await self.locate()
        async with open_live(server) as live:
            while True:
                await self.subscribe(live)
                self.remark(server)
                await self.listen(live)

    async def locate(self) -> Server:
        # Located for each connection: a restarted hub has another control token, and perhaps another address.
        server = await find_server(self.where)
        if server is None:
            folder = load_settings(self.where.data_dir).data_dir
            raise Lost(f"no hub runs on {folder}: start it with `hub serve`, or name another with --url and --token")
        return server

    def remark(self, server: Server) -> None:
        if not self.begun:
            note(f"watching {self.store} at {server.url}; Ctrl-C ends it")
        elif self.trouble:
            note("watching again")
        self.begun, self.trouble, self.attempts = True, "", 0

    async def subscribe(self, live: LiveConnection) -> None:
        """Subscribe, from the position of the last connection if there is one."""
        try:
            answer = await live.ask("subscribe", self.request | {"since": self.position})
        except Rejected as error:
            if error.code == GONE and not self.begun:
                raise Failure("--since: the changes since that position are no longer known, list anew") from error
            self.rejected(error)
            await self.subscribe(live)
        else:
            self.position = answer["position"]

    async def listen(self, live: LiveConnection) -> None:
        """Show changes until the subscription has to be renewed."""
        while True:
            match await live.receive():
                case Event("change", change):
                    self.show(change)
                    self.position = change["position"]
                case Event("position", body):
                    self.position = body["position"]
                case Event("ended", body):
                    self.rejected(Rejected(body["error"]))
                    return
                case Event("notice", body):
                    self.noticed(body["kind"])

    def rejected(self, error: Rejected) -> None:
        """Continue from now if the history is gone. Raises Lost for temporary errors, Failure for permanent ones."""
        if error.code == GONE and self.position is not None:
            note(f"changes of {self.store} were missed: too many, or it was redefined; going on from now (resync)")
            self.position, self.trouble = None, "resync"
        elif error.code.startswith("5"):
            raise Lost(str(error)) from error
        else:
            raise Failure(f"{self.store}: {error}") from error

    def noticed(self, kind: str) -> None:
        """Handle a notice: the hub is about to close the connection. Raises Failure or Lost."""
        if kind == "revoked":
            raise Failure("the hub has ended this: the token is revoked, or its user is disabled or deleted")
        if kind == "expired":
            raise Failure("the hub has ended this: the token has expired")
        reasons = {"lagging": "changes came faster than they were taken here", "shutdown": "the hub shuts down"}
        raise Lost(reasons.get(kind, f"the hub closes the connection: {kind}"))


def pause_before(attempt: int) -> float:
    """Return the pause in seconds: doubled with each attempt, bounded, and random so that clients do not reconnect at
    once."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1)


def print_json_line(change: Change) -> None:
    sys.stdout.buffer.write(orjson.dumps(change, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


class Lines:
    """Prints one line per change, on a terminal in colour and cut to its width.

    The fields leave out `_id`, which has a column of its own. Unless `whole` is set, insertions show no system fields,
    and updates show those that changed except `_at` and `_rev`.
    """

    def __init__(self, whole: bool) -> None:
        self.console = Console(soft_wrap=False) if sys.stdout.isatty() else None
        always = frozenset({"_id"})
        self.hidden = {
            "insert": always if whole else frozenset(SYSTEM_FIELDS),
            "update": always if whole else always | UPDATED,
        }

    def __call__(self, change: Change) -> None:
        line = self.line(change)
        if self.console is None:
            print(line.plain, flush=True)
        else:
            self.console.print(line, no_wrap=True, overflow="ellipsis")

    def line(self, change: Change) -> Text:
        """``2027-01-31 12:00:00  update  65b…  {"celsius":7}``"""
        op = change["op"]
        parts = [(f"{op:<6}", COLOURS.get(op, "")), (plain(change["_id"]), "bold"), (plain(self.content(change)), "")]
        line = Text(moment(change))
        for text, style in parts:
            line.append("  ").append(text, style)
        line.rstrip()
        return line

    def content(self, change: Change) -> str:
        """Return the text of the entity, or of the fields that an update changed."""
        op, entity = change["op"], change.get("entity") or {}
        names = [n for n in change.get("changed") or entity if n not in self.hidden.get(op, ())]
        shown = {name: entity[name] for name in names if name in entity}
        removed = [name for name in names if name not in entity]
        parts = [orjson.dumps(shown).decode()] if shown or op == "insert" else []
        return " ".join([*parts, *(["without", ", ".join(removed)] if removed else [])])


def moment(change: Change) -> str:
    """Return the local time of a change. A removal has no time, so the current time is used."""
    return datetime.fromtimestamp((change.get("time") or now_ms()) / 1000).strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def ending_with_reader() -> Iterator[None]:
    """Cancel this task as soon as the reader of the output closes its pipe. Raises BrokenPipeError."""
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        loop.remove_reader(output)
        task.cancel()

    # This end of a pipe is never readable: the callback runs when the other end closes.
    loop.add_reader(output, leave)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(output)
