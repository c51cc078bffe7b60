"""`hub field` and `hub store update`: definitions change with their data, in one commit or in steps."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hub.cli.definition_changes import with_renamed_field, without_field
from hub.cli.fields import parse_default
from hub.cli.output import Misuse
from stores.records import SYSTEM_FIELDS
from tests.cli.conftest import CommandLine

ROWS = "".join(f'{{"name":"{n}","margin":{n}.5,"amount":" {n}"}}\n' for n in range(12))


def definition(hub: CommandLine) -> dict[str, Any]:
    return dict(hub.json("store", "show", "orders", "--json"))


def orders(hub: CommandLine) -> None:
    fields = [f"--field={field}" for field in ("name:Text", "margin:Numeric", "amount:Text")]
    hub("store", "create", "orders", *fields, "--index", "margin", "--index", '["name","-margin"]')
    hub.file("rows.ndjson", ROWS)
    hub("import", "orders", "rows.ndjson")


@pytest.mark.parametrize("most", ["100000", "3"], ids=["in one commit", "in steps"])
def test_fields_change_with_their_values(hub_of_each_engine: CommandLine, most: str) -> None:
    hub = hub_of_each_engine
    hub.variables["HUB_MAX_MATCHES"] = most
    with hub.serving():
        orders(hub)
        steps = "orders is read-only until all of its entities are changed" if most == "3" else ""
        renamed = hub("field", "rename", "orders", "margin", "profit")
        assert (renamed.last, steps in renamed.err) == ("field margin of orders is now profit", True)
        assert definition(hub)["indexes"] == ["profit", ["name", "-profit"]]
        converted = hub("field", "convert", "orders", "amount", "--type", "Number", "--json", '{"max":11}')
        assert converted.last == "field amount of orders converted to Number"
        refused = hub("field", "convert", "orders", "name", "--type", "Email", code=1).err
        assert "12 entities have a value of it that cannot be converted." in refused
        added = hub(
            *("field", "add", "orders", "currency", "--type", "Text", "--required", "--default", "CAD", "--fill")
        )
        assert added.last == "field currency added to orders"
        hub("field", "add", "orders", "number", "--type", "Serial", "--json", '{"start":10}')
        hub("field", "fill", "orders", "number")
        assert hub("field", "drop", "orders", "profit", "--yes").last == "field profit of orders dropped"
        assert definition(hub)["indexes"] == []
        assert definition(hub).get("pending") is None
        assert "no change of orders is left" in hub("field", "resume", "orders", code=1).err
        rows = [{name: value for name, value in row.items() if name not in SYSTEM_FIELDS} for row in hub.rows("orders")]
        assert rows == [{"name": str(n), "amount": n, "currency": "CAD", "number": 10 + n} for n in range(12)]
        hub.file("row.ndjson", '{"name":"x"}\n')
        hub("import", "orders", "row.ndjson")
        assert hub.rows("orders", "number")[-1]["number"] == 22


def test_an_interrupted_change_is_resumed(hub_of_each_engine: CommandLine) -> None:
    """Until then the store takes no writes, and no other change."""
    hub = hub_of_each_engine
    hub.variables["HUB_MAX_MATCHES"] = "3"
    with hub.serving():
        orders(hub)
        store = definition(hub)
        begin(hub, store["_id"])
        assert "being changed with its definition" in hub("import", "orders", "rows.ndjson", code=1).err
        assert "hub field resume orders" in hub("field", "drop", "orders", "name", "--yes", code=1).err
        assert "being changed: 0 of 12 entities" in hub("store", "show", "orders").out
    assert hub("field", "resume", "orders").last == "the change of orders is complete"
    assert [row["total"] for row in hub.rows("orders", "total")] == [n + 0.5 for n in range(12)]


def test_what_a_step_stops_at_is_mended(served_hub: CommandLine) -> None:
    """The refusal says how."""
    hub = served_hub
    orders(hub)
    begin(hub, definition(hub)["_id"])
    entity = f"/orders/{hub.rows('orders')[5]['_id']}"
    ask(hub, "PATCH", entity, {"total": 1})
    refused = hub("field", "resume", "orders", code=1).err
    assert "total: 1 entity has a value of it already." in refused
    assert "change or delete the entity as an administrator, then continue by hub field resume orders" in refused
    ask(hub, "DELETE", entity)
    assert hub("field", "resume", "orders").last == "the change of orders is complete"
    assert len(hub.rows("orders", "total")) == 11


def begin(hub: CommandLine, id: str) -> None:
    """Begin a change as a command does that is interrupted then."""
    fields = [{"id": "name", "type": "Text"}, {"id": "total", "type": "Numeric"}, {"id": "amount", "type": "Text"}]
    body = {"fields": fields, "indexes": [], "data": {"rename": {"margin": "total"}, "steps": True}}
    assert ask(hub, "PATCH", f"/stores/{id}", body)["pending"]["total"] == 12


def ask(hub: CommandLine, method: str, path: str, body: Any = None) -> Any:
    note = json.loads((hub.folder / "data" / "hub.json").read_text())
    headers = {"Authorization": f"Bearer {note['token']}"}
    answer = httpx.request(method, f"{note['url']}/api/v1{path}", json=body, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_parts_of_a_definition_are_updated(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        orders(hub)
        options = ("--unique", "name", "--search", "name", "--label", "Orders", "--open")
        assert hub("store", "update", "orders", "--index", "", *options).last == "store orders updated"
        shown = definition(hub)
        assert (shown["indexes"], shown["unique"], shown["search"]) == ([], ["name"], ["name"])
        assert (shown["label"], shown["open"], len(shown["fields"])) == ("Orders", True, 3)
        assert "nothing to change" in hub("store", "update", "orders", code=2).err
        hub.file("fields.json", '[{"id":"name","type":"Text","length":1}]')
        refused = hub("store", "update", "orders", "--fields", "fields.json", "--closed", code=1).err
        assert "margin: 12 entities have" in refused
        assert "name: 2 entities have" in refused


@pytest.mark.parametrize("many", [True, False])
def test_a_default_that_its_type_does_not_take(many: bool) -> None:
    with pytest.raises(Misuse, match="--default abc: Number takes"):
        parse_default("abc", {"type": "Number", "many": many})
    assert parse_default("7", {"type": "Number", "many": many}) == ([7] if many else 7)


INDEXES = ["a.b", ["c", "-a"], {"fields": ["-a", "c"], "unique": True, "where": {"a": 1, "c": 2}}, "ab", ["c", "b"]]


def test_paths_follow_their_fields() -> None:
    made = {"indexes": INDEXES, "unique": ["a"], "search": None, "name": "orders"}
    assert with_renamed_field(made, "a", "x") == {
        "fields": [],
        "indexes": [
            "x.b",
            ["c", "-x"],
            {"fields": ["-x", "c"], "unique": True, "where": {"x": 1, "c": 2}},
            "ab",
            ["c", "b"],
        ],
        "unique": ["x"],
    }
    gone = without_field(made, "a")
    assert gone == {"fields": [], "indexes": ["ab", ["c", "b"]], "unique": [], "open": True}


CONDITIONS = [{"$and": [{"a": 1}]}, {"b": 2, "$and": [{"b": 1}, {"$and": [{"c": 3, "a.b": {"$gt": 1}}]}]}]


@pytest.mark.parametrize("where", CONDITIONS, ids=["alone", "inside of another"])
def test_paths_in_and_follow_their_fields(where: dict[str, Any]) -> None:
    kept, index = {"fields": ["b"], "where": {"$and": [{"b": 1}]}}, {"fields": ["n"], "unique": True, "where": where}
    made = {"indexes": [kept, index], "name": "orders"}
    renamed = json.loads(json.dumps(where).replace('"a', '"x'))
    assert with_renamed_field(made, "a", "x")["indexes"] == [kept, index | {"where": renamed}]
    assert without_field(made, "a")["indexes"] == [kept]
