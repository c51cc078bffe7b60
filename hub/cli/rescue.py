"""`hub user admin`: creates an administrator directly in the database of a hub that has none left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hub.cli.client import load_settings
from hub.cli.command import DataDir
from hub.cli.databases import database_file, opened_database
from hub.cli.output import Failure, say
from hub.cli.users import Generate, Login, Password, PasswordStdin, read_password, show_generated

if TYPE_CHECKING:
    from hub.settings import Settings


def make_admin(
    login: Login,
    password: Password = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
    data_dir: DataDir = None,
) -> None:
    """Make a user an administrator while the hub is stopped, for a hub that has none left.

    A disabled user is enabled. A user that does not exist is added, if a password is given.

    Example: hub user admin ada --generate
    """
    settings = load_settings(data_dir)
    path = database_file(settings)
    if settings.engine_url.startswith("sqlite:///") and not path.exists():
        raise Failure(f"there is no database at {path}: name its folder with --data-dir")
    wanted = password is not None or password_stdin or generate
    chosen = read_password(password, password_stdin, generate) if wanted else None
    added = asyncio.run(_in_database(settings, login, chosen))
    say(f"user {login} {'added as' if added else 'is'} an administrator")
    show_generated(chosen or "", generate)


async def _in_database(settings: Settings, login: str, password: str | None) -> bool:
    # Imported here: it takes half a second, which other commands do not need.
    from auth.secrets import Passwords
    from auth.system_stores import KEYS, ROLES, SESSIONS, TOKENS, USERS
    from hub.services.rescue import CannotRescue, make_administrator

    async with opened_database(settings) as engine:
        for store in (USERS, ROLES, SESSIONS, TOKENS, KEYS):
            await engine.define(store)
        try:
            passwords = Passwords(settings.password_memory_kib)
            return await make_administrator(engine, passwords, login, password, settings.password_length)
        except CannotRescue as error:
            raise Failure(str(error)) from None
