"""`hub secret`: the hub's key for sealing and digests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import typer

from hub.cli.client import load_settings
from hub.cli.command import DataDir, Yes, confirm
from hub.cli.databases import opened_database
from hub.cli.output import say

if TYPE_CHECKING:
    from hub.settings import Settings

secret = typer.Typer(help="The hub's secret key for sealing and digests.", no_args_is_help=True)

PRESENT: Final = "Take the present secret key for this database?"
NEW: Final = "There is no secret key. Make a new one, and take it for this database?"
LOSS: Final = "What was sealed with another one cannot be read any more."


@secret.command("make")
def make() -> None:
    """Print a new key for HUB_SECRET_KEY.

    Example: hub secret make
    """
    from auth.secret_key import SecretKey

    say(SecretKey.generate().as_text())


@secret.command("accept")
def accept(data_dir: DataDir = None, yes: Yes = False) -> None:
    """Accept the current key for the database, or a new one, after the old key was lost. The hub must be stopped.

    Example: hub secret accept --yes
    """
    from hub.key_file import find_key

    settings = load_settings(data_dir)
    confirm(f"{NEW if find_key(settings) is None else PRESENT} {LOSS}", yes)
    asyncio.run(_accept(settings))


async def _accept(settings: Settings) -> None:
    from hub.key_file import accept_key, keep_key, load_key
    from hub.services.second_factors import logins_of_unreadable

    async with opened_database(settings) as engine:
        used = load_key(settings)
        if used.made:
            keep_key(used)
        is_other = await accept_key(engine, used)
        lost = await logins_of_unreadable(engine, used.key)
    if used.made:
        say(f"a new secret key was made: {used.path}")
    say("the secret key is accepted" if is_other else "this is the secret key of the database already")
    if lost:
        say(f"one-time codes and recovery codes that no longer work: those of {', '.join(lost)}")
        say("switch them off with `hub user totp-off LOGIN`: the password alone signs in then")
