"""`hub key`: secrets with which websites and programs use one of the hub's other APIs, as one user."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.client import Client
from hub.cli.command import AsJson, Yes, on_hub
from hub.cli.credentials import day, ending, parse_expiry, revoke_credential
from hub.cli.logins import require_user
from hub.cli.output import print_json, print_table, say
from stores.records import Entity

keys = typer.Typer(help="Keys: secrets that websites and programs use one API with.", no_args_is_help=True)


@keys.command("create")
@on_hub
async def create(
    client: Client,
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    kind: Annotated[str, typer.Option(help="The API that it opens.")] = "listings",
    user: Annotated[str | None, typer.Option(help="The login it acts as, if not your own.")] = None,
    scope: Annotated[str, typer.Option(help="R to read, RW to read and write.")] = "R",
    origin: Annotated[
        list[str] | None, typer.Option(help="Allow only pages of this hostname; may be repeated. Not for RW.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Expiry: 12h, 30d, 4w or a date; never by default.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the secret only.")] = False,
) -> None:
    """Create a key and print its secret, once. The first key of a kind makes the stores of its API.

    Example: hub key create "CRM sync" --kind listings --user ada --scope RW
    """
    key: dict[str, Any] = {"name": name, "kind": kind, "scope": scope, "allowed_origins": origin or []}
    if expires:
        key["expires"] = parse_expiry(expires)
    holder = await require_user(client, user) if user else None
    if holder:
        key["user"] = holder["_id"]
    made = await client.call("POST", "/keys", key)
    if not quiet:
        whose = f" for {user} (user_id {holder.get('number')})" if holder else ""
        say(f"key {name} made{whose}; its secret, shown this once:")
    say(made["key"])


@keys.command("list")
@on_hub
async def list_keys(client: Client, as_json: AsJson = False) -> None:
    """List the keys, without their secrets.

    Example: hub key list
    """
    found = await client.all("keys")
    if as_json:
        print_json(found)
        return
    heads = ("ID", "NAME", "KIND", "BEGINS WITH", "SCOPE", "USER", "ORIGINS", "EXPIRES", "LAST USED", "STATE")
    print_table(heads, map(cells, found))


@keys.command("revoke")
@on_hub
async def revoke(
    client: Client,
    key: Annotated[str, typer.Argument(help="Id or name of the key.", show_default=False)],
    yes: Yes = False,
) -> None:
    """Revoke a key. It stops working at once.

    Example: hub key revoke "CRM sync" --yes
    """
    await revoke_credential(client, "key", key, yes)


def cells(key: Entity) -> tuple[object, ...]:
    return (
        key["_id"],
        key["name"],
        key.get("kind"),
        key.get("prefix"),
        key.get("scope"),
        key.get("user"),
        ", ".join(key.get("allowed_origins") or ()) or "all",
        ending(key.get("expires")),
        day(key.get("last_used")),
        "" if key.get("active") else "not active",
    )
