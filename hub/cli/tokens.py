"""`hub token`: long-lived secrets with which programs use the API."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from hub.cli.client import Client
from hub.cli.command import AsJson, Yes, confirm, on_hub
from hub.cli.logins import require_user
from hub.cli.output import Failure, Misuse, print_json, print_table, say
from stores.records import Entity, is_id, now_ms

tokens = typer.Typer(help="Tokens: secrets that programs use the API with.", no_args_is_help=True)

UNITS: Final = {"h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
"""Units of a duration, in milliseconds."""


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
    id = token if is_id(token) else await the_only(client, "token", token)
    confirm(f"Revoke the token {token}?", yes)
    await client.call("DELETE", f"/tokens/{id}")
    say(f"token {token} revoked")


async def the_only(client: Client, credential: str, name: str) -> str:
    """Return the id of the only `credential`, a token or a key, with this name. Raises Failure."""
    found = [each["_id"] for each in await client.all(f"{credential}s") if each["name"] == name]
    if len(found) > 1:
        raise Failure(f"{len(found)} {credential}s are called {name}: give the id of one: {', '.join(found)}")
    if not found:
        raise Failure(f"no {credential} with the name {name!r}")
    return str(found[0])


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


def ending(expires: object) -> str:
    """Return when a token or key expires, or that it has expired."""
    over = isinstance(expires, int) and expires <= now_ms()
    return f"{day(expires)}, expired" if over else day(expires)


def day(time: object) -> str:
    """Return Unix milliseconds as a date; other values as text."""
    if isinstance(time, int):
        return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return str(time or "")


def parse_expiry(text: str) -> int:
    """Return Unix milliseconds for ``30d`` or ``2027-01-31`` (UTC)."""
    duration = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if duration:
        return now_ms() + int(duration[1]) * UNITS[duration[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misuse(f"--expires {text}: give a duration such as 30d, or a date such as 2027-01-31") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
