"""`hub token`: long-lived secrets with which programs use the API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.client import Client
from hub.cli.command import AsJson, Yes, on_hub
from hub.cli.credentials import day, ending, parse_expiry, revoke_credential
from hub.cli.logins import require_user
from hub.cli.output import print_json, print_table, say
from stores.records import Entity

tokens = typer.Typer(help="Tokens: secrets that programs use the API with.", no_args_is_help=True)


@tokens.command("create")
@on_hub
async def create(
    client: Client,
    name: Annotated[str, typer.Argument(help="What the token is for.", show_default=False)],
    scope: Annotated[
        list[str] | None, typer.Option(help="Allow only this, such as 'GET /readings/*'; may be repeated.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Expiry: 12h, 30d, 4w or a date; never by default.")] = None,
    user: Annotated[str | None, typer.Option(help="The login it acts as, if not your own.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the secret only.")] = False,
) -> None:
    """Create a token and print its secret, once. It has the rights of its user, limited by its scopes.

    Example: hub token create dashboard --scope "GET /readings/*" --expires 30d
    """
    token: dict[str, Any] = {"name": name}
    if scope:
        token["scopes"] = scope
    if expires:
        token["expires"] = parse_expiry(expires)
    if user:
        token["user"] = (await require_user(client, user))["_id"]
    made = await client.call("POST", "/tokens", token)
    if not quiet:
        say(f"token {name} made; its secret, shown this once:")
    say(made["token"])


@tokens.command("list")
@on_hub
async def list_tokens(client: Client, as_json: AsJson = False) -> None:
    """List the tokens, without their secrets.

    Example: hub token list
    """
    found = await client.all("tokens")
    if as_json:
        print_json(found)
        return
    print_table(("ID", "NAME", "BEGINS WITH", "SCOPES", "EXPIRES", "LAST USED"), map(cells, found))


@tokens.command("revoke")
@on_hub
async def revoke(
    client: Client,
    token: Annotated[str, typer.Argument(help="Id or name of the token.", show_default=False)],
    yes: Yes = False,
) -> None:
    """Revoke a token. It stops working at once, and its connections end.

    Example: hub token revoke dashboard --yes
    """
    await revoke_credential(client, "token", token, yes)


def cells(token: Entity) -> tuple[object, ...]:
    scopes = ", ".join(token.get("scopes") or ()) or "all"
    return (
        token["_id"],
        token["name"],
        token.get("prefix"),
        scopes,
        ending(token.get("expires")),
        day(token.get("last_used")),
    )
