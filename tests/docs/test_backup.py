"""The backup commands of docs/deploying.md, run as printed on a hub's database; only the folders differ."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import blocks, page

COMMANDS = [block for block in blocks(page("deploying.md"), "sh") if "VACUUM INTO" in block]


def test_both_ways_are_there() -> None:
    assert ["python3 -c" in command for command in COMMANDS] == [False, True]


@pytest.mark.parametrize("command", COMMANDS, ids=["sqlite3", "python"])
def test_a_backup_is_whole_private_and_can_be_made_again(command: str, tmp_path: Path) -> None:
    if command is COMMANDS[0] and shutil.which("sqlite3") is None:
        fake = tmp_path / "bin" / "sqlite3"  # a replacement for the program, because the test is of the shell commands
        fake.parent.mkdir()
        fake.write_text(
            '#!/bin/sh\nexec python3 -c "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])" "$@"\n'
        )
        fake.chmod(0o755)
    source, target = tmp_path / "hub", tmp_path / "backups"
    source.mkdir()
    target.mkdir()
    ours = command.replace("/var/lib/hub", str(source)).replace("/var/backups", str(target))
    with sqlite3.connect(source / "hub.db") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (n)")
        for n in (1, 2):
            database.execute("INSERT INTO t VALUES (?)", (n,))
            database.commit()
            subprocess.run(["bash", "-ec", f'PATH="{tmp_path}/bin:$PATH"\numask 022\n{ours}'], check=True)
    database.close()
    [copy] = target.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as backup:
        assert backup.execute("SELECT count(*) FROM t").fetchone() == (2,)
    backup.close()
