"""What `hub export` writes, `hub import` brings back: a store with a field of each type, in each format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stores.fields import FIELD_TYPES
from tests.cli.conftest import CommandLine, plain

OPTIONS = [{"id": 1, "name": "One"}, {"id": "b", "name": "Two"}]
TARGETS = [{"id": "code", "type": "Text", "unique": True}, {"id": "number", "type": "Number", "unique": True}]
FIELDS: list[dict[str, Any]] = [
    {"id": "boolean", "type": "Boolean"},
    {"id": "color", "type": "ColorSwatch"},
    {"id": "checkbox", "type": "Checkbox", "options": OPTIONS},
    {"id": "several", "type": "MultiSelect", "options": OPTIONS},
    {"id": "radio", "type": "Radio", "options": OPTIONS},
    {"id": "select", "type": "Select", "options": OPTIONS},
    {"id": "date", "type": "Date"},
    {"id": "datetime", "type": "DateTime"},
    {"id": "serial", "type": "Serial"},
    {"id": "stamp", "type": "Stamp"},
    {"id": "number", "type": "Number"},
    {"id": "numeric", "type": "Numeric"},
    {"id": "url", "type": "URL"},
    {"id": "email", "type": "Email"},
    {"id": "phone", "type": "Phone"},
    {"id": "text", "type": "Text"},
    {"id": "textarea", "type": "Textarea"},
    {"id": "timezone", "type": "Timezone"},
    {"id": "json", "type": "JSON"},
    {"id": "reference", "type": "Reference", "store": "targets"},
    {"id": "by_code", "type": "Reference", "store": "targets", "by": "code"},
    {"id": "by_number", "type": "Reference", "store": "targets", "by": "number"},
    {"id": "references", "type": "Reference", "store": "targets", "many": True},
    {"id": "by_codes", "type": "Reference", "store": "targets", "by": "code", "many": True},
    {"id": "emails", "type": "Email", "many": True},
    {"id": "phones", "type": "Phone", "many": True},
    {"id": "numbers", "type": "Number", "many": True},
    {"id": "dates", "type": "Date", "many": True},
    {
        "id": "object",
        "type": "Object",
        "fields": [
            {"id": "zip", "type": "Text"},
            {"id": "phones", "type": "Phone", "many": True},
            {"id": "target", "type": "Reference", "store": "targets", "by": "code"},
            {"id": "inner", "type": "Object", "fields": [{"id": "code", "type": "Text"}]},
        ],
    },
    {
        "id": "objects",
        "type": "Object",
        "many": True,
        "fields": [{"id": "code", "type": "Text"}, {"id": "of", "type": "Reference", "store": "targets"}],
    },
]
CODES = ("007", "12", "1e3", "true", "null", '"a"', "[1]", "0123456789abcdef01234567")
"""Texts that look like something else."""


@pytest.fixture(scope="module")
def hub_with_rows(served_hub: CommandLine) -> CommandLine:
    """A hub with a store `each`, which has an entity with a value of each type, entities that refer by each of the
    codes, and one without values."""
    hub = served_hub
    hub("store", "create", "targets", "--fields", hub.file("targets.json", json.dumps(TARGETS)))
    targets = "\n".join(json.dumps({"code": code, "number": n}) for n, code in enumerate(CODES))
    hub("import", "targets", "-", input=targets)
    ids = {row["code"]: row["_id"] for row in hub.rows("targets", "code")}
    full = {
        "boolean": False,
        "color": "#00ff00",
        "checkbox": [1, "b"],
        "several": ["b"],
        "radio": 1,
        "select": "b",
        "date": "2026-11-27",
        "datetime": "2026-11-27 06:00:00",
        "number": -(2**53) - 1,
        "numeric": 1250.33,
        "url": "https://example.com/?a=b,c",
        "email": "ann@example.com",
        "phone": "+15145550123",
        "text": "0123",
        "textarea": 'a "b",\nc;',
        "timezone": "America/Toronto",
        "json": [1, {"a": None}, "x"],
        "reference": ids["12"],
        "by_code": "12",
        "by_number": 1,
        "references": [ids["007"], ids["true"]],
        "by_codes": [*CODES],
        "emails": ["ann@example.com", "bob@example.com"],
        "phones": ["+15145550123", "12345"],
        "numbers": [3, -1],
        "dates": ["2026-11-27"],
        "object": {"zip": "01234", "phones": ["12345"], "target": "007", "inner": {"code": "5"}},
        "objects": [{"code": "1", "of": ids["12"]}, {"code": "02"}],
    }
    rows = [full, *({"by_code": code, "object": {"target": code}, "by_codes": [code]} for code in CODES)]
    rows += [{}, {"object": {}, "objects": [], "by_codes": [], "phones": []}]
    hub("store", "create", "each", "--fields", hub.file("each.json", json.dumps(FIELDS)))
    done = hub("import", "each", "-", input="\n".join(map(json.dumps, rows)))
    assert done.last == f"{len(rows)} imported, 0 refused"
    assert {field["type"] for field in FIELDS} == FIELD_TYPES.keys()
    assert plain(hub.rows("each"))[0] == full | {"serial": 1}
    return hub


@pytest.mark.parametrize("name", ["out.ndjson", "out.json", "out.csv", "out.xlsx", "excel.csv"])
def test_each_type_survives_an_export_and_an_import(hub_with_rows: CommandLine, name: str) -> None:
    hub, again = hub_with_rows, f"again-{name.replace('.', '-')}"
    options = ("--excel",) if name == "excel.csv" else ()
    hub("export", "each", name, *options)
    hub("store", "create", again, "--fields", "each.json")
    rows = plain(hub.rows("each"))
    assert hub("import", again, name, "--keep", *options).last == f"{len(rows)} imported, 0 refused"
    assert plain(hub.rows(again)) == rows
    assert min(row["stamp"] for row in hub.rows(again)) > max(row["stamp"] for row in hub.rows("each"))
