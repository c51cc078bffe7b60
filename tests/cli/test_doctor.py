"""`hub doctor` finds problems, gives advice, and changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from hub.cli.interpreter import interpreter_advice
from hub.engines import make_engine
from hub.services.registry import StoreRegistry
from hub.settings import Settings
from stores.protocol import Insert, Update
from stores.query import Equal, Query
from tests.cli.conftest import CommandLine, Result
from tests.support import mongod
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import entity
from tests.support.ports import free_port


def verdicts(result: Result) -> dict[str, bool]:
    """Return each check and whether it passed."""
    found = re.findall(r"^([a-z ]+?) +(ok|warning|WRONG) ", result.out.partition("CHECK")[2], re.MULTILINE)
    return {check: verdict != "WRONG" for check, verdict in found}


CHECKS = [
    "programs",
    "interpreter",
    "variables",
    "data folder",
    "free space",
    "hub",
    "database",
    "secret key",
    "logins",
    "clock",
]


@pytest.fixture
def hub(hub: CommandLine) -> CommandLine:
    """A hub with a free port, since another process may use the default one."""
    hub.variables["HUB_PORT"] = str(free_port())
    return hub


def test_all_is_well_before_the_first_start(empty_hub: CommandLine) -> None:
    hub = empty_hub
    hub.variables["HUB_PORT"] = str(free_port())
    result = hub("doctor")
    assert verdicts(result) == dict.fromkeys(CHECKS, True)
    assert "made at the first start" in result.out
    assert not (hub.folder / "data").exists()


def test_all_is_well_beside_a_running_hub(hub: CommandLine) -> None:
    with hub.serving() as url:
        result = hub("doctor")
        assert verdicts(result) == dict.fromkeys(CHECKS, True)
        assert f"answers at {url}" in result.out


def test_all_is_well_after_a_run(hub: CommandLine) -> None:
    hub("store", "create", "units")
    before = sorted(file.name for file in (hub.folder / "data").iterdir())
    assert "intact" in hub("doctor").out
    assert sorted(file.name for file in (hub.folder / "data").iterdir()) == before


def test_a_taken_port_is_wrong(hub: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", int(hub.variables["HUB_PORT"]))):
        result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["hub"]
    assert "choose another HUB_HOST and HUB_PORT" in result.out


def test_a_taken_port_names_the_hubs_that_run_elsewhere(hub: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path / "other", {"HUB_HOST": "127.0.0.1"}, state=hub.folder / "state")
    other.folder.mkdir()
    with hub.serving() as url:
        other.variables["HUB_PORT"] = url.rpartition(":")[2]
        assert f"hub doctor --data-dir {hub.folder / 'data'}" in " ".join(other("doctor", code=1).out.split())


@pytest.mark.engine("mongodb")
def test_another_database_than_that_of_the_running_hub_is_wrong(hub: CommandLine, mongodb: str) -> None:
    """This happens if HUB_DATABASE_URL is set only where the hub was started."""
    hub.variables["HUB_DATABASE_URL"] = url = mongo_database(mongodb).location
    with hub.serving():
        assert verdicts(hub("doctor")) == dict.fromkeys(CHECKS, True)
        del hub.variables["HUB_DATABASE_URL"]
        result = hub("doctor", code=1)
        assert [check for check, well in verdicts(result).items() if not well] == ["database"]
        assert url.partition("?")[0] in result.out
        assert "open in process" not in result.out
        assert "not yet used" not in result.out


def test_settings_are_shown_as_one_writes_them(hub: CommandLine) -> None:
    hub.variables["HUB_TRUSTED_ORIGINS"] = "https://a.example, https://b.example"
    out = hub("doctor").out
    assert re.search(r"^trusted_origins +https://a.example,https://b.example +set", out, re.MULTILINE)
    assert re.search(r"^reset_ends_tokens +true", out, re.MULTILINE)
    assert "()" not in out


def test_a_damaged_file_is_wrong(hub: CommandLine) -> None:
    hub("import", "units", "-", "--create", input="".join(f'{{"n": {n}}}\n' for n in range(2_000)))
    file = hub.folder / "data" / "hub.db"
    size = file.stat().st_size
    with file.open("r+b") as database:
        database.seek(size // 2)
        database.write(os.urandom(8_192))
    result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["database"]
    assert "restore a backup" in result.out


def test_a_file_that_another_process_holds_is_wrong(hub: CommandLine) -> None:
    with hub.serving() as url:
        (hub.folder / "data" / "hub.json").unlink()
        result = hub("doctor", code=1)
        assert url not in result.out
    assert [check for check, well in verdicts(result).items() if not well] == ["database"]
    assert "another hub" in result.out


def test_a_misspelt_variable_is_wrong(hub: CommandLine) -> None:
    hub.variables["HUB_PROT"] = "8001"
    result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["variables"]
    assert "HUB_PROT" in result.out


def test_a_file_from_the_future_is_wrong(hub: CommandLine) -> None:
    hub("store", "create", "units")
    tomorrow = time.time() + 86_400
    os.utime(hub.folder / "data" / "hub.db", (tomorrow, tomorrow))
    result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["clock"]


def test_a_file_that_vanishes_is_skipped(hub: CommandLine) -> None:
    """A link to nothing is listed, and is no file when it is looked at, like a file that is removed in between."""
    hub("store", "create", "units")
    (hub.folder / "data" / "backup.part").symlink_to("nothing")
    assert verdicts(hub("doctor"))["clock"] is True


def test_a_data_folder_that_is_a_file_is_wrong(empty_hub: CommandLine) -> None:
    hub = empty_hub
    hub.variables["HUB_PORT"] = str(free_port())
    hub.file("data", "")
    result = hub("doctor", code=1)
    assert verdicts(result)["data folder"] is False
    assert "set HUB_DATA_DIR" in result.out


def test_settings_are_shown_without_secrets(hub: CommandLine) -> None:
    hub.variables |= {
        "HUB_ADMIN_PASSWORD": "hunter2-hunter2",
        "HUB_DATABASE_URL": "mongodb://ada:s3cret@127.0.0.1:9/units?serverSelectionTimeoutMS=100&authSource=admin",
    }
    result = hub("doctor", code=1)
    assert re.search(r"^port +" + hub.variables["HUB_PORT"] + " +set *$", result.out, re.MULTILINE)
    assert "mongodb://127.0.0.1:9/units" in result.out
    for secret in ("hunter2", "s3cret"):
        assert secret not in result.out + result.err


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mongodb://ada:s3cret@one,two:3/units", "mongodb://one,two:3/units"),
        ("mongodb+srv://ada:s3cret@one/units?x=1", "mongodb+srv://one/units"),
        ("mongodb://[::1]:3/units", "mongodb://[::1]:3/units"),
        ("mongodb://ada:s3#cret@one/units", "mongodb://one/units"),
        ("mongodb://ada:s3[cret@one/units", "mongodb://one/units"),
        ("mongodb://ada:s3/cret@one/units", "mongodb://one/units"),
        ("mongodb://ada:s3@cret@one/units", "mongodb://one/units"),
        ("mongodb://ada:s3?cret@one/units", "mongodb://…"),
        ("mongodb:ada:s3cret@one/units", "mongodb://one/units"),
    ],
)
def test_the_place_of_a_database_has_no_password(url: str, place: str) -> None:
    """The password may have any characters, and MongoDB's driver may refuse the URL."""
    assert Settings(database_url=SecretStr(url)).database_address == place


@pytest.mark.engine("mongodb")
def test_a_replica_set_is_described(hub: CommandLine, mongodb: str) -> None:
    hub.variables["HUB_DATABASE_URL"] = mongodb
    result = hub("doctor")
    assert verdicts(result) == dict.fromkeys(CHECKS, True)
    assert re.search(r"MongoDB \d+\.\d+\.\d+, replica set \w+, members: 1", result.out)


@pytest.mark.engine("mongodb")
def test_a_standalone_server_is_wrong(hub: CommandLine) -> None:
    with mongod.running("--standalone") as server:
        hub.variables["HUB_DATABASE_URL"] = server.url
        result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["database"]
    assert "rs.initiate()" in result.out


@pytest.mark.engine("mongodb")
def test_a_collection_that_another_program_changed_is_wrong(hub: CommandLine, mongodb: str) -> None:
    database = mongo_database(mongodb)
    hub.variables["HUB_DATABASE_URL"] = database.location
    with hub.serving():
        hub("store", "create", "units")
        assert verdicts(hub("doctor")) == dict.fromkeys(CHECKS, True)
    with MongoClient[dict[str, object]](database.location) as client:
        documents = client.get_default_database()
        documents.command({"collMod": "units", "changeStreamPreAndPostImages": {"enabled": False}})
        documents["users"].drop_index("hub_creation")
        result = hub("doctor", code=1)
        assert [check for check, well in verdicts(result).items() if not well] == ["database"]
        for fault in ("units has no pre- and post-images", "users lacks the index hub_creation"):
            assert fault in " ".join(result.out.split())
        with hub.serving():
            assert verdicts(hub("doctor")) == dict.fromkeys(CHECKS, True)
        client.drop_database(documents)


@pytest.mark.engine("mongodb")
def test_a_damaged_definition_is_wrong(hub: CommandLine, mongodb: str) -> None:
    """The other definitions and everything else are still checked."""
    database = mongo_database(mongodb)
    hub.variables["HUB_DATABASE_URL"] = database.location
    with hub.serving():
        hub("store", "create", "units")
        hub("store", "create", "rooms")
    with MongoClient[dict[str, object]](database.location) as client:
        documents = client.get_default_database()
        documents["stores"].update_one({"name": "units"}, {"$set": {"indexes": 7}})
        documents["rooms"].drop_index("hub_creation")
        result = hub("doctor", code=1)
        assert verdicts(result) == dict.fromkeys(CHECKS, True) | {"database": False}
        shown = " ".join(result.out.split())
        assert "the definition of 'units' is damaged (indexes: " in shown
        assert "rooms lacks the index hub_creation" in shown
        assert "Correct the damaged definitions" in shown
        client.drop_database(documents)


@pytest.mark.parametrize(
    ("version", "today", "advice"),
    [
        ((3, 10, 18), date(2026, 1, 1), "Install Python 3.11 or newer."),
        ((3, 11, 7), date(2026, 1, 1), "Python 3.11.7 has CVE-2025-8194 .*: install 3.11.14 or newer."),
        ((3, 11, 14), date(2026, 1, 1), ""),
        ((3, 11, 99), date(2027, 11, 1), "Python 3.11 gets no security fixes since 2027-10-31: install a newer one."),
        ((3, 14, 4), date(2026, 1, 1), ""),
        ((3, 99, 0), date(2026, 1, 1), ""),
    ],
)
def test_an_interpreter_with_known_holes_is_warned_of(version: tuple[int, int, int], today: date, advice: str) -> None:
    assert re.fullmatch(advice, interpreter_advice(version, today))


def test_a_warning_is_shown_and_is_no_failure(hub: CommandLine) -> None:
    result = hub("doctor")
    advice = interpreter_advice(sys.version_info[:3], datetime.now(UTC).date())
    assert re.search(r"^interpreter +" + ("warning" if advice else "ok"), result.out, re.MULTILINE)
    assert advice in result.out


def test_logins_that_differ_by_case_only_are_named(hub_of_each_engine: CommandLine) -> None:
    """Older versions allowed both; commands find a user regardless of case."""
    hub = hub_of_each_engine
    with hub.serving():
        hub("user", "add", "Ada", "--generate")
        hub("user", "add", "grace", "--generate")
        hub("user", "disable", "ADA")
        assert "no user with the login" in hub("user", "disable", "nobody", code=1).err
    rename_user(hub, "grace", "aDA")
    result = hub("doctor", code=1)
    assert [check for check, well in verdicts(result).items() if not well] == ["logins"], result.out
    assert "'Ada' and 'aDA'" in result.out
    with hub.serving():
        hub("user", "enable", "Ada")


def test_users_without_a_login_are_no_clash_and_in_nobodys_way(hub_of_each_engine: CommandLine) -> None:
    """Other programs make them, in the database itself."""
    hub = hub_of_each_engine
    hub("user", "add", "Ada", "--generate")
    asyncio.run(add_users(hub, {}, {}, {"login": None}, {"login": 5}))
    result = hub("doctor")
    assert re.search(r"^logins +ok +2, each its own", result.out, re.MULTILINE), result.out
    with hub.serving():
        hub("user", "disable", "ADA")
        assert "no user with the login 'None'" in hub("user", "disable", "None", code=1).err
        assert "no user with the login 'nobody'" in hub("token", "create", "x", "--user", "nobody", code=1).err
        assert len(hub("user", "list").out.splitlines()) == len(hub.json("user", "list", "--json")) + 1 == 7


async def add_users(hub: CommandLine, *users: dict[str, object]) -> None:
    url = hub.variables.get("HUB_DATABASE_URL")
    database = Database("mongodb", url) if url else Database("sqlite", str(hub.folder / "data" / "hub.db"))
    async with opened(database.engine()) as engine:
        await engine.commit([Insert("users", entity(user)) for user in users], None)


def rename_user(hub: CommandLine, login: str, other: str) -> None:
    """Change a login in the database itself, as a version without case folding did."""
    changes = {"login": other, "login_key": None}
    url = hub.variables.get("HUB_DATABASE_URL")
    if url:
        with MongoClient[dict[str, object]](url) as client:
            client.get_default_database()["users"].update_one({"login": login}, {"$set": changes})
    else:
        asyncio.run(change_user(hub, login, changes))


async def change_user(hub: CommandLine, login: str, changes: dict[str, object]) -> None:
    async with opened(make_engine(Settings(data_dir=hub.folder / "data"))) as engine:
        await StoreRegistry(engine).open()
        [user] = await engine.entities("users", Query(Equal(("login",), login)))
        await engine.commit([Update("users", user["_id"], changes)], None)
