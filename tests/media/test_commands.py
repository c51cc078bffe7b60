"""`hub media`, and files in exports and imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.cli.output import grouped
from stores.records import Entity
from tests.cli.conftest import CommandLine
from tests.media.uploading import PDF

pytestmark = pytest.mark.engine("sqlite")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line of a hub that runs, with a store of houses."""
    cli = CommandLine(tmp_path)
    with cli.serving():
        cli("store", "create", "houses", "--field", "code:Text:unique", "--field", "papers:File:many,public")
        yield cli


def upload(cli: CommandLine, code: str, *contents: bytes) -> Entity:
    """Make a house with these papers."""
    note = json.loads((cli.folder / "data" / "hub.json").read_text())
    headers = {"Authorization": f"Bearer {note['token']}"}
    with httpx.Client(base_url=note["url"] + "/api/v1", headers=headers, trust_env=False, verify=False) as client:
        house = client.post("/houses", json={"code": code}).raise_for_status().json()
        for content in contents:
            path = f"/houses/{house['_id']}/files/papers"
            answer = client.post(path, files={"file": ("lease.pdf", content, "application/pdf")}).raise_for_status()
            house = answer.json()
    return {name: value for name, value in house.items() if name != "success"}


def stored(cli: CommandLine, value: Entity) -> Path:
    """Return the place of a file in the storage."""
    return cli.folder / "data" / "media" / value["id"][:2] / value["id"]


def test_a_check_compares_entities_and_storage(cli: CommandLine) -> None:
    house = upload(cli, "a", PDF, PDF)
    assert cli("media", "check").out == f"files: 2, bytes: {grouped(2 * len(PDF))}\n"
    stored(cli, house["papers"][0]).unlink()
    result = cli("media", "check", code=1)
    assert f"missing {house['papers'][0]['id']}" in result.out
    assert result.err == "hub: 1 missing: entities have them, and the storage does not\n"
    assert json.loads(cli("media", "check", "--json", code=1).out)["missing"]["count"] == 1


def test_a_sweep_removes_nothing_that_is_needed(cli: CommandLine) -> None:
    house = upload(cli, "a", PDF)
    assert cli("media", "sweep").last == "0 removed"
    assert stored(cli, house["papers"][0]).read_bytes() == PDF


def test_files_move(cli: CommandLine, tmp_path: Path) -> None:
    house = upload(cli, "a", PDF)
    target = tmp_path / "new"
    assert cli("media", "move", f"file://{target}").last == "1 copied, 0 were there already"
    assert cli("media", "move", f"file://{target}").last == "0 copied, 1 were there already"
    id = house["papers"][0]["id"]
    assert (target / id[:2] / id).read_bytes() == PDF
    assert "HUB_MEDIA_URL" in cli("media", "move", "ftp://example.com", code=1).err


@pytest.mark.parametrize("name", ["out.ndjson", "out.csv", "out.xlsx"])
def test_an_export_and_an_import_leave_files_as_they_are(cli: CommandLine, name: str) -> None:
    house = upload(cli, "a", PDF, b"another")
    cli("export", "houses", name)
    assert cli("import", "houses", name, "--key", "code").last == "1 imported, 0 refused"
    assert cli.rows("houses") == [house]
    refused = cli("import", "houses", name, code=1)
    assert "Only an upload sets this value" in refused.err
    assert cli.rows("houses") == [house]


def test_only_administrators_look_after_files(cli: CommandLine) -> None:
    cli("user", "add", "ann", "--password-stdin", input="a long password\n")
    note = json.loads((cli.folder / "data" / "hub.json").read_text())
    with httpx.Client(base_url=note["url"], trust_env=False, verify=False) as client:
        login = {"login": "ann", "password": "a long password"}
        token = client.post("/api/v1/auth/token", json=login).raise_for_status().json()["token"]
        for command in ("check", "sweep", "move"):
            for headers, status in (({"Authorization": f"Bearer {token}"}, 403), ({}, 401)):
                body = {"url": "file:///tmp/x"}
                assert client.post(f"/media/-/{command}", json=body, headers=headers).status_code == status
