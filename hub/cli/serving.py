"""`hub serve`: run the hub in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.client import load_settings
from hub.cli.command import DataDir


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen at; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///PATH or mongodb://HOST/NAME.")] = None,
) -> None:
    """Start the hub. Further settings come from HUB_ variables and hub.toml.

    Example: hub serve --port 9000
    """
    settings = load_settings(data_dir, host=host, port=port, database_url=database_url)
    # Imported here, so that mistakes in the settings are reported before half a second of imports.
    from hub.serve import serve as run

    raise typer.Exit(run(settings))
