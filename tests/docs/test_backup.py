"""The backup commands of docs/deploying.md, run as printed on a hub's database; only the folders differ."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import blocks, page
from tests.support.engines import Database
from tests.support.hub import running_hub

COMMANDS = [block for block in blocks(page("deploying.md"), "sh") if "VACUUM INTO" in block]


def test_both_ways_are_there() -> None:
    assert ["python3 -c" in command for command in COMMANDS] == [False, True]


def programs(command: str, folder: Path) -> Path:
    """Return a folder with the program `sqlite3`, if the command needs it and it is not installed."""
    folder.mkdir()
    if "sqlite3 /" in command and shutil.which("sqlite3") is None:
        fake = folder / "sqlite3"  # a replacement for the program, because the test is of the shell commands
        fake.write_text(
            '#!/bin/sh\nexec python3 -c "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])" "$@"\n'
        )
        fake.chmod(0o755)
    return folder


def back_up(command: str, path: Path) -> None:
    subprocess.run(["bash", "-ec", f'PATH="{path}:$PATH"\numask 022\n{command}'], check=True)


@pytest.mark.parametrize("command", COMMANDS, ids=["sqlite3", "python"])
async def test_a_backup_is_whole_private_and_can_be_made_again(command: str, tmp_path: Path) -> None:
    """It is made of a running hub, which loses nothing by it, not even if it is killed afterwards."""
    source, target = tmp_path / "hub", tmp_path / "backups"
    target.mkdir()
    path = programs(command, tmp_path / "bin")
    ours = command.replace("/var/lib/hub", str(source)).replace("/var/backups", str(target))
    database = Database("sqlite", str(source / "hub.db"))
    async with running_hub(database, source) as hub:
        store = await hub.define()
        for n in (1, 2):
            await hub.admin.make(store, {"n": n})
            back_up(ours, path)
            assert (source / "hub.db-wal").exists()
        await hub.admin.make(store, {"n": 3})
        hub.process.stop(signal.SIGKILL)
    async with running_hub(database, source) as hub:
        assert [each["n"] for each in await hub.admin.list(store)] == [1, 2, 3]
    [copy] = target.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600
    async with running_hub(Database("sqlite", str(copy)), tmp_path / "restored") as hub:
        assert [each["n"] for each in await hub.admin.list(store)] == [1, 2]
