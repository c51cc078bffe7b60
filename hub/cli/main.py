"""The `hub` command. Exit codes: 0 success, 1 refused or failed, 2 wrong usage, 130 stopped by Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Annotated

import typer
import typer.main

from hub.cli.api_keys import keys
from hub.cli.doctor import doctor
from hub.cli.exports import export
from hub.cli.fields import fields
from hub.cli.imports import import_rows
from hub.cli.output import STOPPED, Failure, note, say
from hub.cli.rescue import make_admin
from hub.cli.secret import secret
from hub.cli.serving import serve
from hub.cli.stores import stores
from hub.cli.tokens import tokens
from hub.cli.users import users
from hub.cli.watch import watch
from stores.errors import StoreError

app = typer.Typer(
    name="hub",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        say(f"hub {version('hub-live-api')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A self-hosted real-time hub: one database, one live API."""


app.command("serve")(serve)
users.command("admin")(make_admin)
app.add_typer(users, name="user")
app.add_typer(tokens, name="token")
app.add_typer(keys, name="key")
app.add_typer(stores, name="store")
app.add_typer(fields, name="field")
app.add_typer(secret, name="secret")
app.command("import")(import_rows)
app.command("export")(export)
app.command("watch")(watch)
app.command("doctor")(doctor)


@cache
def built() -> Callable[..., int | None]:
    """Return the program with all its commands."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line and exit."""
    try:
        code = built()(standalone_mode=False)
    except typer.TyperException as error:
        code = fail(error.format_message(), error.exit_code)
    except Failure as error:
        code = fail(str(error), error.exit_code)
    except StoreError as error:
        # The application could not start in this process. Its other errors arrive as answers.
        code = fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = fail("stopped", STOPPED)
    except BrokenPipeError:
        # The reader of the output has closed it. The interpreter's last flush must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = STOPPED
    except OSError as error:
        code = fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    sys.exit(code)


def fail(text: str, code: int) -> int:
    """Print the error unless it is empty, as it is for plain `hub`, which has already printed its help."""
    if text:
        note(f"hub: {text}")
    return code
