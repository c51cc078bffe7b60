"""Field types: each one agrees with its own description, and a registered one works in the whole hub."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from openapi_schema_validator import OAS31Validator

from stores.field import Field
from stores.fields import FIELD_TYPES, register, type_named
from tests.platform.answers import refused
from tests.support.engines import sqlite_database
from tests.support.hub import Hub, environment, running_hub
from tests.support.program import PYTHON

PERCENT: Final = (PYTHON, str(Path(__file__).with_name("percent.py")))
OPTIONS: Final = ((1, "One"), (2, "Two"), ("idle", "Idle"))


MEMBERS: Final = (Field("city", "Text"), Field("zip", "Number"))


def example_field(name: str) -> Field:
    needs = FIELD_TYPES[name].needs
    return Field("a", name, options=OPTIONS if "options" in needs else (), fields=MEMBERS if "fields" in needs else ())


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_the_example_of_a_type_is_a_canonical_value(name: str) -> None:
    kind, field = FIELD_TYPES[name], example_field(name)
    assert kind.name == name
    assert field.check(kind.example, "a") == kind.example
    schema = kind.schema(field)
    if "$ref" not in schema:
        assert OAS31Validator(schema).is_valid(kind.example)


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_an_example_survives_its_cell(name: str) -> None:
    kind = FIELD_TYPES[name]
    assert kind.read_cell(kind.write_cell(kind.example), [id for id, _ in OPTIONS]) == kind.example


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_a_schema_is_the_callers_own(name: str) -> None:
    """Each call returns a new schema, because callers add a title and a default."""
    field = example_field(name)
    field.kind.schema(field)["title"] = "Mine"
    assert "title" not in field.kind.schema(field)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="there is a field type Text already"):
        register(FIELD_TYPES["Text"])


def test_a_type_that_a_newer_hub_has_is_read_as_json() -> None:
    assert type_named("Invented").read_cell("[1]") == [1]


@pytest.fixture(scope="module")
async def percent_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """A hub with the type of `percent.py`, and its store `rates`."""
    folder = tmp_path_factory.mktemp("percent")
    async with running_hub(sqlite_database(folder), folder, (*PERCENT, "serve")) as hub:
        fields = [
            {"id": "share", "type": "Percent", "label": "Share", "required": True},
            {"id": "code", "type": "Percent", "unique": True},
        ]
        await hub.admin.make("stores", {"name": "rates", "fields": fields})
        yield hub


async def test_a_registered_type_checks_what_is_written(percent_hub: Hub) -> None:
    admin = percent_hub.admin
    made = await admin.make("rates", {"share": "12.5 %"})
    assert made["share"] == 12.5
    answer = await admin.post("/rates", {"share": 101})
    assert refused(answer, 400) == {"share": ["Must be a percentage from 0 to 100."]}
    answer = await admin.patch(f"/rates/{made['_id']}", {"share": "a lot"})
    assert refused(answer, 400) == {"share": ["Must be a percentage from 0 to 100."]}


async def test_definitions_know_a_registered_type(percent_hub: Hub) -> None:
    answer = await percent_hub.admin.post(
        "/stores", {"name": "wrong", "fields": [{"id": "a", "type": "Percent", "search": True}]}
    )
    assert refused(answer, 400) == {"fields.0.search": ["Percent is not text."]}
    answer = await percent_hub.admin.post("/stores", {"name": "wrong", "fields": [{"id": "a", "type": "Permille"}]})
    [text] = refused(answer, 400)["fields.0.type"]
    assert text.endswith("Timezone, JSON, Percent.")


async def test_parameters_and_order_of_a_registered_type(percent_hub: Hub) -> None:
    admin = percent_hub.admin
    await admin.make_all("rates", [{"share": 70}, {"share": 9}, {"share": 80}])
    found = await admin.list("rates", {"share[gte]": "70 %", "sort": "-share"})
    assert [each["share"] for each in found] == [80, 70]
    assert [each["share"] for each in await admin.list("rates", {"share": "9%"})] == [9]
    assert refused(await admin.get("/rates", {"share": "few"}), 400) == {"share": ["share takes a percentage"]}


async def test_the_document_describes_a_registered_type(percent_hub: Hub) -> None:
    schemas = (await percent_hub.admin.get("/openapi.json")).json()["components"]["schemas"]
    shown = schemas["rates.entity"]["properties"]["share"]
    assert shown == {"type": ["number", "null"], "minimum": 0, "maximum": 100, "title": "Share"}
    assert schemas["rates.new"]["properties"]["share"]["anyOf"][1]["pattern"].endswith("%$")
    assert "Percent" in str(schemas["stores.new"]["properties"]["fields"])


async def test_tables_hold_a_registered_type(percent_hub: Hub, tmp_path: Path) -> None:
    """The command line of the same program imports and exports such values."""
    table = tmp_path / "rates.csv"
    table.write_text("share,code\n1.5 %,41\n2.25 %,42\n")
    assert "2 imported, 0 refused" in await run(percent_hub, "import", "rates", str(table))
    out = tmp_path / "out.csv"
    await run(percent_hub, "export", "rates", str(out), "--only", "share,code", "--filter", '{"code": 42}')
    assert out.read_text().splitlines() == ["share,code", "2.25 %,42 %"]


async def run(hub: Hub, *arguments: str) -> str:
    """Run a command, which must succeed; return its output."""
    done = await asyncio.to_thread(
        subprocess.run,
        [*PERCENT, *arguments],
        env=environment(hub.database, hub.process.folder, {}),
        cwd=hub.process.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
