"""The output and effects of a start, and of commands without a hub."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient

from hub.control import running_data_dirs
from hub.settings import read_settings
from tests.cli.conftest import PATIENCE, CommandLine, in_folder
from tests.support.engines import mongo_database
from tests.support.program import HUB


@contextmanager
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def test_a_taken_port_ends_the_start_in_one_line_before_anything_is_made(empty_hub: CommandLine) -> None:
    with taken_port() as port:
        done = empty_hub("serve", "--port", port, code=1)
    assert re.fullmatch(rf"hub: 127\.0\.0\.1:{port}: Address already in use: [^\n]+\n", done.err)
    assert done.out == ""
    assert list(empty_hub.folder.iterdir()) == []


@pytest.mark.engine("mongodb")
def test_a_taken_port_leaves_a_mongodb_server_as_it_is(empty_hub: CommandLine, mongodb: str) -> None:
    url = mongo_database(mongodb).location
    with taken_port() as port:
        assert "already in use" in empty_hub("serve", "--port", port, "--database-url", url, code=1).err
    with MongoClient[dict[str, object]](url) as client:
        assert client.get_default_database().list_collection_names() == []


def test_a_host_that_is_not_there_ends_the_start_in_one_line(empty_hub: CommandLine) -> None:
    done = empty_hub("serve", "--host", "nosuch.invalid", "--port", "0", code=1)
    assert re.fullmatch(r"hub: nosuch\.invalid:0: [^\n]+\n", done.err)
    assert list(empty_hub.folder.iterdir()) == []


IN_A_CLOSED_FOLDER = """
import os, sys
from hub.settings import read_settings
print(read_settings().port)
os.mkdir(sys.argv[1], 0o700)
os.chdir(sys.argv[1])
os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else os.chmod(sys.argv[1], 0)
print(read_settings(port=9).port)
"""


def test_a_folder_that_cannot_be_entered_has_no_settings(tmp_path: Path) -> None:
    """This happens with `sudo -u hub hub user list` in the home of root."""
    command = [sys.executable, "-c", IN_A_CLOSED_FOLDER, str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.stderr) == ("8000\n9\n", "")


CLIENTS = [
    ("store", "list"),
    ("store", "create", "notes"),
    ("user", "add", "ada", "--generate"),
    ("token", "create", "laptop"),
    ("import", "notes", "-", "--create"),
    ("export", "notes"),
    ("watch", "notes"),
    ("secret", "accept", "--yes"),
]


@pytest.mark.parametrize("arguments", CLIENTS, ids=lambda arguments: " ".join(arguments[:2]))
def test_a_client_makes_no_hub_where_none_is(empty_hub: CommandLine, arguments: tuple[str, ...]) -> None:
    done = empty_hub(*arguments, code=1)
    assert re.fullmatch(r"hub: [^\n]*no hub [^\n]*`?hub serve`?[^\n]*\n", done.err)
    assert list(empty_hub.folder.iterdir()) == []


@pytest.mark.engine("mongodb")
def test_a_client_makes_nothing_in_a_mongodb_server(empty_hub: CommandLine, mongodb: str) -> None:
    url = mongo_database(mongodb).location
    empty_hub.variables["HUB_DATABASE_URL"] = url
    assert "no hub in this MongoDB database" in empty_hub("store", "list", code=1).err
    with MongoClient[dict[str, object]](url) as client:
        assert client.get_default_database().list_collection_names() == []
    assert list(empty_hub.folder.iterdir()) == []


def test_the_printed_next_lines_work_in_another_terminal(empty_hub: CommandLine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a place" / "data"
    variables = CommandLine(tmp_path, {"HUB_DATA_DIR": str(elsewhere)}).environment
    # Not a copy: the lines repeat how the hub itself was started.
    command = [*HUB, "serve", "--port", "0"]
    server = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        said = [server.stdout.readline().decode() for _ in range(5)]
        lines = re.findall(r"(\S+ -m hub\.cli (?:store|token) .+)$", "".join(said), re.MULTILINE)
        assert len(lines) == 2
        for line in lines:
            subprocess.run(shlex.split(line), cwd=tmp_path, env=empty_hub.environment, check=True, capture_output=True)
        assert not (tmp_path / "data").exists()
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)


def test_a_command_in_another_folder_finds_the_only_hub_that_runs(hub: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path / "other", state=hub.folder / "state")
    other.folder.mkdir()
    with hub.serving():
        hub("store", "create", "units")
        done = other("store", "list")
        assert "units" in done.out
        assert done.err == f"no hub in {other.folder / 'data'}: using the one that runs on {hub.folder / 'data'}\n"
        other.variables["HUB_DATA_DIR"] = "named"
        assert "there is no hub at " in other("store", "list", code=1).err
    del other.variables["HUB_DATA_DIR"]
    assert "there is no hub at " in other("store", "list", code=1).err
    assert list(other.folder.iterdir()) == []


def test_of_several_hubs_that_run_one_has_to_be_named(hub: CommandLine, first_data: Path, tmp_path: Path) -> None:
    first = hub
    second = CommandLine(tmp_path / "second", state=hub.folder / "state")
    other = CommandLine(tmp_path / "other", state=hub.folder / "state")
    for each in (second, other):
        each.folder.mkdir()
    with first.serving(), second.serving():
        refused = other("store", "list", code=1).err
        assert all(str(each.folder / "data") in refused for each in (first, second))


def test_a_note_of_a_hub_that_has_gone_is_removed(hub: CommandLine) -> None:
    with in_folder(hub.folder, hub.environment):
        with hub.serving():
            assert running_data_dirs() == [hub.folder / "data"]
        notes = hub.folder / "state" / "hub" / "running"
        with subprocess.Popen(["true"]) as gone:
            pass
        (notes / str(gone.pid)).write_text(str(hub.folder / "data"))
        assert running_data_dirs() == []
        assert list(notes.iterdir()) == []


def logged_by_a_run(hub: CommandLine) -> str:
    """Start a hub and stop it; return what it has logged."""
    server = hub.start("serve", "--port", "0")
    try:
        hub.wait_for_url(server)
    finally:
        server.terminate()
        err: bytes = server.communicate(timeout=PATIENCE)[1]
    return err.decode()


def test_an_unknown_variable_is_named_with_the_nearest_setting(hub: CommandLine) -> None:
    hub.variables |= {"HUB_PROT": "1", "HUB_ZZZZZZZZ": "1", "HUB_URL": "http://127.0.0.1:9"}
    err = logged_by_a_run(hub)
    assert "hub: HUB_PROT is no setting and has no effect; did you mean HUB_PORT?\n" in err
    assert "hub: HUB_ZZZZZZZZ is no setting and has no effect\n" in err
    assert "HUB_URL" not in err


NO_MARK = "hub.running: HUB_WATERMARK is not set: images get no mark\n"
A_KEY = ("key", "create", "site")


def a_store(field: str) -> tuple[str, ...]:
    return "store", "create", "houses", "--field", field


@pytest.mark.parametrize(
    ("made", "watermark", "is_said"),
    [
        (a_store("photo:Image:watermark"), "", True),
        (A_KEY, "", True),
        (a_store("photo:Image:watermark"), "hub.example", False),
        (A_KEY, "hub.example", False),
        (a_store("photo:Image"), "", False),
    ],
    ids=["field", "listings", "field and mark", "listings and mark", "field without"],
)
def test_a_start_says_that_images_get_no_mark(
    hub: CommandLine, made: tuple[str, ...], watermark: str, is_said: bool
) -> None:
    """If a store has a field with `watermark`, as that of the images of listings has."""
    hub(*made)
    if watermark:
        hub.variables["HUB_WATERMARK"] = watermark
    assert (NO_MARK in logged_by_a_run(hub)) is is_said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prot = 1", "hub.toml: there is no setting prot; did you mean port?"),
        ("zzzzzz = 1", "hub.toml: there is no setting zzzzzz"),
        ("HUB_PORT = 1", "hub.toml: there is no setting HUB_PORT: in this file it is port"),
        ("HUB_PROT = 1", "hub.toml: there is no setting HUB_PROT; did you mean port?"),
        ("[hub]\nport = 1", "hub.toml: there is no table [hub]: write the settings without a table"),
        ("port = 'many'", "hub.toml: port: must be a whole number"),
        ("port = \n", "hub.toml: not valid TOML: Invalid value (at line 1, column 8)"),
        (b"host = '\xff'", "hub.toml: not UTF-8 at byte 8"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "doctor", "store list"])
def test_a_mistake_in_the_file_is_told_in_one_line_that_names_it(
    empty_hub: CommandLine, content: str | bytes, message: str, command: str
) -> None:
    empty_hub.file("hub.toml", content)
    err = empty_hub(*command.split(), code=1).err
    assert err.startswith(f"hub: {message}")
    assert len(err.splitlines()) == 1


def test_a_mistake_is_named_as_it_was_made(empty_hub: CommandLine) -> None:
    empty_hub.file("hub.toml", "max_items = 0")
    empty_hub.variables["HUB_LIVE_RECENT"] = "x"
    err = empty_hub("serve", "--port", "70000", code=1).err
    for name in ("hub.toml: max_items: ", "HUB_LIVE_RECENT: ", "--port: "):
        assert name in err


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PORT", "-1", "must be at least 0"),
        ("PORT", "70000", "must be at most 65535"),
        ("PORT", "1.5", "must be a whole number"),
        ("PORT", "9" * 5000, "must be a whole number of fewer digits"),
        ("MAX_ITEMS", "0", "must be greater than 0"),
        ("LOG_FORMAT", "xml", "must be 'text' or 'json'"),
        ("RESET_ENDS_TOKENS", "perhaps", "must be true or false"),
        ("ROOT_PATH", "hub/", "'hub/' is not a path such as /hub"),
        ("TRUSTED_PROXIES", "foo", "'foo' is neither an address nor a network"),
        (
            "TRUSTED_PROXIES",
            "127.0.0.1, 10.0.0.1/8",
            "'10.0.0.1/8' is an address within a network: the network is 10.0.0.0/8",
        ),
        ("TRUSTED_PROXIES", "127.0.0.1,*", "'*' is neither an address nor a network"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(empty_hub: CommandLine, variable: str, value: str, message: str) -> None:
    empty_hub.variables[f"HUB_{variable}"] = value
    assert empty_hub("doctor", code=1).err.startswith(f"hub: HUB_{variable}: {message}")


@pytest.mark.parametrize("value", ["", "*", "::1", "127.0.0.1,", "10.0.0.0/8, fd00::/8,127.0.0.1"])
def test_proxies_are_addresses_and_networks(value: str) -> None:
    assert read_settings(trusted_proxies=value).trusted_proxies == value


def test_the_version_is_printed(empty_hub: CommandLine) -> None:
    assert re.fullmatch(r"hub \d+\.\d+\.\d+\n", empty_hub("--version").out)


def test_what_a_start_leaves_is_for_its_user_alone(empty_hub: CommandLine) -> None:
    with empty_hub.serving():
        assert json.loads((empty_hub.folder / "data" / "hub.json").read_text())["pid"]
        files = [p for p in (empty_hub.folder / "data").rglob("*") if p.is_file()]
        assert files
        assert [p.name for p in files if os.stat(p).st_mode & 0o077] == []
