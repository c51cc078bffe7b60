"""`hub media`: looks after the files of entities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hub.cli.client import Client, Refused
from hub.cli.command import AsJson, on_hub
from hub.cli.output import Failure, grouped, print_json, say

media = typer.Typer(help="The files of entities (fields of type Image and File).", no_args_is_help=True)


@media.command("check")
@on_hub
async def check(client: Client, json: AsJson = False) -> None:
    """Compare entities, the hub's records of files, and the storage. Fails if an entity lacks its file.

    Example: hub media check
    """
    found = await ask(client, "check")
    if json:
        print_json(found)
    else:
        show(found)
        for kind, meaning in (("unreferenced", "without an entity"), ("unknown", "in the storage without a record")):
            if found[kind]["count"]:
                say(f"{grouped(found[kind]['count'])} {meaning}: to remove, hub media sweep")
    if found["missing"]["count"]:
        raise Failure(f"{grouped(found['missing']['count'])} missing: entities have them, and the storage does not")


@media.command("sweep")
@on_hub
async def sweep(client: Client, json: AsJson = False) -> None:
    """Remove files that no entity has: those that are older than an hour.

    Example: hub media sweep
    """
    found = await ask(client, "sweep")
    if json:
        print_json(found)
        return
    show(found)
    say(f"{grouped(found['unreferenced']['count'] + found['unknown']['count'])} removed")


@media.command("move")
@on_hub
async def move(
    client: Client,
    url: Annotated[
        str, typer.Argument(help="The new storage: file:///folder or s3://bucket/folder?endpoint=…", show_default=False)
    ],
) -> None:
    """Copy all files to another storage, without those that are there already.

    Copy while the hub runs, stop the hub, copy again, set HUB_MEDIA_URL to the new storage, and start it.

    Example: hub media move 's3://files?endpoint=https://s3.example.com&region=eu-1'
    """
    found = await ask(client, "move", {"url": url})
    for file in found["missing"]["first"]:
        say(f"{file}: not in the storage")
    say(f"{grouped(found['copied'])} copied, {grouped(found['present'])} were there already")
    if found["missing"]["count"]:
        raise Failure(f"{grouped(found['missing']['count'])} missing: the storage does not have them")


async def ask(client: Client, command: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Have the hub do something, however long it takes; return its answer."""
    response = await client.http.post(f"/media/-/{command}", json=dict(body or {}), timeout=None)
    if not response.is_success:
        raise Refused(response)
    found: dict[str, Any] = response.json()
    return {name: value for name, value in found.items() if name != "success"}


def show(found: Mapping[str, Any]) -> None:
    """Print what a check has found."""
    say(f"files: {grouped(found['files'])}, bytes: {grouped(found['bytes'])}")
    for kind in ("missing", "unreferenced", "unknown"):
        for file in found[kind]["first"]:
            say(f"{kind} {file}")
