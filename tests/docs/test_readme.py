"""The README's commands, run as printed in a fresh copy of the project; only the port differs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.fresh import PRINTED, Fresh
from tests.docs.pages import ROOT, blocks
from tests.wire import javascript

README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVE = "scripts/serve\n"
PATIENCE = 45.0


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def project(fresh: Fresh) -> Path:
    return fresh.project


@pytest.fixture(scope="module")
def environment(fresh: Fresh) -> dict[str, str]:
    """The environment of a new user: no settings but the port."""
    return fresh.environment


@pytest.fixture(scope="module")
def said(fresh: Fresh) -> Iterator[str]:
    """Run `scripts/serve`; yield its output when it is ready."""
    try:
        yield fresh.start()
    finally:
        fresh.end()


@pytest.fixture(scope="module")
def outputs(said: str, fresh: Fresh) -> list[str]:
    """The output of each block of commands."""
    return fresh.run([block for block in blocks(README, "sh") if block != SERVE])


def test_serve_says_in_at_most_ten_lines_where_it_is_and_what_to_do_next(
    said: str, environment: dict[str, str]
) -> None:
    lines = said[said.index("First start") :].splitlines()
    assert len(lines) <= 10
    assert "password" in lines[0]
    assert any(f"hub is live at http://127.0.0.1:{environment['HUB_PORT']}" in line for line in lines)


def test_the_commands_that_serve_suggests_work_as_printed(
    said: str, project: Path, environment: dict[str, str], outputs: list[str]
) -> None:
    store, token = re.findall(r"(\S*hub (?:store|token) .+)$", said, re.MULTILINE)
    assert store in README  # so `outputs` has run it already
    made = subprocess.run(["bash", "-c", token], cwd=project, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def test_the_first_write_answers_the_entity(outputs: list[str]) -> None:
    entity = json.loads(outputs[0].splitlines()[-1])
    assert entity["success"] is True
    assert (entity["station"], entity["celsius"], entity["_rev"]) == ("harbour", 21.5, 1)


def test_delta_sync_answers_exactly_what_came_after_the_position(outputs: list[str]) -> None:
    answer = json.loads(outputs[1].splitlines()[-1])
    assert [(change["op"], change["entity"]["celsius"]) for change in answer["changes"]] == [("insert", 22.1)]
    assert answer["more"] is False


def test_the_newcomer_path_takes_five_commands_and_ends_in_the_printed_list(outputs: list[str]) -> None:
    printed = blocks(README, "sh")
    path = printed[printed.index(SERVE) :]
    assert len("".join(path).splitlines()) == 5
    shown = re.findall(r'"name":"([^"]+)","population":(\d+)', blocks(README, "json")[-1])
    answered = json.loads(outputs[-1].splitlines()[-1])
    assert [(city["name"], str(city["population"])) for city in answered[: len(shown)]] == shown
    populations = [city["population"] for city in answered]
    assert populations == sorted(populations, reverse=True)


@pytest.fixture
def live_script(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The README's script in a folder with its package installed."""
    (tmp_path / "node_modules").mkdir()
    package = javascript.installed() / "node_modules" / "socket.io-client-4"
    (tmp_path / "node_modules" / "socket.io-client").symlink_to(package)
    [script] = blocks(README, "js")
    path = tmp_path / "live.mjs"
    path.write_text(script.replace(PRINTED, PRINTED.replace("8000", environment["HUB_PORT"])))
    return path


def test_the_script_prints_what_is_there_and_what_changes(
    live_script: Path, outputs: list[str], project: Path, environment: dict[str, str]
) -> None:
    make = [".venv/bin/hub", "token", "create", "script", "--quiet"]
    token = subprocess.run(make, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout
    command = ["node", str(live_script)]
    with subprocess.Popen(command, env=environment | {"TOKEN": token.strip()}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        shown = b""
        while b"celsius: 22.1" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        process.terminate()
    assert b"celsius: 21.5" in shown


def test_the_script_does_not_end_in_silence(live_script: Path, said: str, environment: dict[str, str]) -> None:
    without = {name: value for name, value in environment.items() if name != "TOKEN"}
    done = subprocess.run(
        ["node", str(live_script)], env=without, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("not connected: Unauthorized")


def test_the_two_commands_of_the_first_screen_can_be_run() -> None:
    assert "scripts/serve" in README
    assert "scripts/test" in README
    assert all(os.access(ROOT / "scripts" / name, os.X_OK) for name in ("serve", "test", "check", "mongod"))
