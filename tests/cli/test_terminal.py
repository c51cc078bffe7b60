"""Commands on a terminal: prompts, questions and a progress bar."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.terminal import Terminal


def test_a_password_is_asked_for_twice_and_not_shown(served_hub: CommandLine) -> None:
    terminal = Terminal(served_hub, "user", "add", "ada")
    terminal.answer("Password: ", "correct horse")
    terminal.answer("Repeat for confirmation: ", "correct horse")
    assert terminal.end() == 0
    assert "user ada added" in terminal.shown
    assert "horse" not in terminal.shown


@pytest.mark.parametrize(("reply", "code", "left"), [("n", 130, True), ("y", 0, False)])
def test_nothing_is_deleted_without_a_yes(served_hub: CommandLine, reply: str, code: int, left: bool) -> None:
    name = f"asked-{reply}"
    served_hub("import", name, "-", "--create", input='{"n": 1}')
    terminal = Terminal(served_hub, "store", "delete", name, "--with-entities")
    terminal.answer(f"Delete the store {name} and its 1 entities? [y/N]: ", reply)
    assert terminal.end() == code
    assert (name in served_hub("store", "list").out) is left


def test_a_bar_shows_how_far_an_import_is(served_hub: CommandLine, some_cities: Path) -> None:
    rows = served_hub.file("rows.ndjson", some_cities.read_bytes() + b"7\n")
    terminal = Terminal(served_hub, "import", "cities", rows, "--create", "--batch", "100")
    assert terminal.end() == 1
    assert "import into cities" in terminal.shown
    assert "4 000 rows, " in terminal.shown
    assert "1 refused" in terminal.shown
    assert "row 4001: not an object" in terminal.shown
    assert terminal.shown.rstrip().endswith("4 000 imported, 1 refused")
