"""`hub user`: who may use the hub."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hub.cli.client import Client, Refused
from hub.cli.command import AsJson, Yes, confirm, on_hub
from hub.cli.logins import require_user
from hub.cli.output import Failure, Misuse, note, print_json, print_table, say
from stores.records import Entity, is_id

users = typer.Typer(help="Users: who may use the hub.", no_args_is_help=True)

Login = Annotated[str, typer.Argument(help="The name to log in with.", show_default=False)]
Password = Annotated[str | None, typer.Option(help="The password; other users of this machine may see it.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it once.")]


@users.command("add")
@on_hub
async def add(
    client: Client,
    login: Login,
    name: Annotated[str | None, typer.Option(help="The name to show.")] = None,
    email: Annotated[str | None, typer.Option(help="The e-mail address.")] = None,
    group: Annotated[str | None, typer.Option(help="Name or id of the user's group.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Name or id of a role; may be repeated.")] = None,
    password: Password = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Add a user.

    Example: hub user add ada --name "Ada Lovelace" --role admin --generate
    """
    user: dict[str, Any] = {"login": login, "name": name, "email": email}
    user["group"] = group and await identify(client, "groups", group)
    user["roles"] = [await identify(client, "roles", each) for each in role or ()]
    user["password"] = read_password(password, password_stdin, generate)
    await client.call("POST", "/users", {field: value for field, value in user.items() if value is not None})
    say(f"user {login} added")
    show_generated(user["password"], generate)


@users.command("list")
@on_hub
async def list_users(client: Client, as_json: AsJson = False) -> None:
    """List the users.

    Example: hub user list
    """
    found = await client.all("users", sort="login")
    if as_json:
        print_json(found)
        return
    names = {entity["_id"]: entity["name"] for store in ("roles", "groups") for entity in await client.all(store)}
    print_table(("LOGIN", "NAME", "EMAIL", "GROUP", "ROLES", "STATE"), (cells(user, names) for user in found))


def cells(user: Entity, names: Mapping[str, str]) -> tuple[object, ...]:
    """Return the cells of a user's line. `names` are those of roles and groups, by id."""
    group = user.get("group")
    roles = ", ".join(names.get(id, id) for id in user.get("roles") or ())
    state = "disabled" if user.get("disabled") else ""
    return user.get("login"), user.get("name"), user.get("email"), names.get(str(group), group), roles, state


@users.command("password")
@on_hub
async def set_password(
    client: Client,
    login: Login,
    password: Password = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Set a user's password, and end the user's sessions, tokens and keys.

    Example: hub user password ada --generate
    """
    user = await require_user(client, login)
    chosen = read_password(password, password_stdin, generate)
    await client.call("PATCH", f"/users/{user['_id']}", {"password": chosen})
    say(f"password of {login} changed")
    note("its sessions have ended, and its tokens and keys too unless HUB_RESET_ENDS_TOKENS is false")
    show_generated(chosen, generate)


@users.command("totp-off")
@on_hub
async def switch_off_totp(client: Client, login: Login) -> None:
    """Switch off one-time codes for a user who has lost them. Afterwards the password alone is enough to sign in.

    Example: hub user totp-off ada
    """
    user = await require_user(client, login)
    try:
        await client.call("DELETE", f"/users/{user['_id']}/totp")
    except Refused as refusal:
        if refusal.status == 404:
            raise Failure(f"the user {login} has no one-time codes") from None
        raise
    say(f"one-time codes of {login} switched off")


@users.command("disable")
@on_hub
async def disable(client: Client, login: Login) -> None:
    """Disable a user and its sessions, tokens and keys. Its entities stay.

    Example: hub user disable ada
    """
    await set_disabled(client, login, True)
    say(f"user {login} disabled")


@users.command("enable")
@on_hub
async def enable(client: Client, login: Login) -> None:
    """Enable a disabled user.

    Example: hub user enable ada
    """
    await set_disabled(client, login, False)
    say(f"user {login} enabled")


@users.command("delete")
@on_hub
async def delete(client: Client, login: Login, yes: Yes = False) -> None:
    """Delete a user. Its entities stay.

    Example: hub user delete ada --yes
    """
    user = await require_user(client, login)
    confirm(f"Delete the user {login}?", yes)
    await client.call("DELETE", f"/users/{user['_id']}")
    say(f"user {login} deleted")


async def set_disabled(client: Client, login: str, disabled: bool) -> None:
    user = await require_user(client, login)
    await client.call("PATCH", f"/users/{user['_id']}", {"disabled": disabled})


async def identify(client: Client, store: str, name: str) -> str:
    """Return the id of the entity with this name. An id is returned unchanged."""
    if is_id(name):
        return name
    return str((await client.require(store, "name", name))["_id"])


def read_password(password: str | None, from_stdin: bool, generate: bool) -> str:
    if sum((password is not None, from_stdin, generate)) > 1:
        raise Misuse("choose one of --password, --password-stdin and --generate")
    if generate:
        return secrets.token_urlsafe(15)
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise Misuse("nobody is there to type a password: add --password-stdin or --generate")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def show_generated(password: str, generate: bool) -> None:
    if generate:
        say(f"password: {password}")
