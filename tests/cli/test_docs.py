"""docs/cli.md and the help list exactly the commands and options that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from hub.cli.main import app
from tests.cli.conftest import ROOT

SHARED = {"--url", "--token", "--data-dir"}


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the executable commands of a typer tree with their full names."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app), "hub"))
PAGE = (ROOT / "docs" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))

ALONE = ("hub serve", "hub doctor", "hub user admin", "hub secret make", "hub secret accept", "hub store rename")
"""Commands that are not clients of a hub."""


def options(command: Any) -> set[str]:
    """Return every spelling of a command's options, except the options that all commands have."""
    names = {name for p in command.params if p.param_type_name == "option" for name in (*p.opts, *p.secondary_opts)}
    return names - {"--help", "-h"}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert sorted(SECTIONS) == sorted(COMMANDS)
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented_and_every_documented_one_is_there(name: str) -> None:
    own = options(COMMANDS[name])
    listed = set(re.findall(r"`(--[a-z-]+|-[a-z]\b)", SECTIONS[name]))
    assert own - SHARED <= listed
    assert listed <= own


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ALONE])
def test_every_client_takes_the_shared_options(name: str) -> None:
    assert options(COMMANDS[name]) >= SHARED
    assert all(f"| `{option} " in PAGE for option in SHARED)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_documented(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert f"`{parameter.name.upper()}`" in SECTIONS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_of_its_command(name: str) -> None:
    assert f"Example: {name}" in COMMANDS[name].help
    assert all(p.help for p in COMMANDS[name].params)
