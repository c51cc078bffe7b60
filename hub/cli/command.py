"""Turns async functions into commands: an open client as first argument, and options that select the hub."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer

from hub.cli.client import Client, Where, open_client
from hub.cli.output import Misuse

P = ParamSpec("P")

PANEL: Final = "Which hub"

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HUB_URL", help="The address of the hub.", rich_help_panel=PANEL),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HUB_TOKEN", help="A token of this hub.", rich_help_panel=PANEL),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The hub of this data directory, running or not.", rich_help_panel=PANEL),
]


SHARED: Final = {"hub_url": Url, "hub_token": Token, "hub_data_dir": DataDir}
"""The options of each client command, in the order of the fields of `Where`."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(question: str, yes: bool) -> None:
    """Ask before data is lost. Without a terminal, only --yes confirms."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misuse("nobody is there to be asked: add --yes")
    typer.confirm(question, abort=True)


def on_hub(command: Callable[Concatenate[Client, P], Awaitable[None]]) -> Callable[..., None]:
    """Run `command` with a client of the hub that its options --url, --token and --data-dir select."""

    @wraps(command)
    async def in_client(where: Where, /, *args: P.args, **options: P.kwargs) -> None:
        async with open_client(where) as client:
            await command(client, *args, **options)

    return takes_where(in_client)


def takes_where(command: Callable[Concatenate[Where, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run `command` with the `Where` of its options --url, --token and --data-dir."""

    @wraps(command)
    def run(**options: Any) -> None:
        where = Where(*(options.pop(name) for name in SHARED))
        if where.url and not where.token:
            raise Misuse("--url needs a token of that hub: add --token, or set HUB_TOKEN")
        asyncio.run(command(where, **options))  # type: ignore[call-arg]

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in SHARED.items()
    ]
    # Typer reads a command's options from its signature.
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run
