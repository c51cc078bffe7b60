"""`hub secret`: the key that the hub seals and digests with."""

from __future__ import annotations

import asyncio

import typer

from hub.cli.client import load_settings
from hub.cli.command import DataDir, Yes, confirm
from hub.cli.databases import opened_database
from hub.cli.output import say

secret = typer.Typer(help="The secret key that the hub seals and digests with.", no_args_is_help=True)

QUESTION = "Take the present secret key for this database? What was sealed with another one cannot be read any more."


@secret.command("make")
def make() -> None:
    """Print a new key for HUB_SECRET_KEY.

    Example: hub secret make
    """
    from auth.secret_key import SecretKey

    say(SecretKey.generate().as_text())


@secret.command("accept")
def accept(data_dir: DataDir = None, yes: Yes = False) -> None:
    """Take the present key for the database, after the former one was lost. The hub must not run.

    Example: hub secret accept --yes
    """
    confirm(QUESTION, yes)
    from hub.key_file import accept_key, load_key

    async def run() -> None:
        settings = load_settings(data_dir)
        async with opened_database(settings) as engine:
            await accept_key(engine, load_key(settings))

    asyncio.run(run())
    say("the secret key is accepted")
