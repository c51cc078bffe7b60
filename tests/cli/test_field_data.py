"""`hub field` and `hub store update --data` on real hubs: the entities change with the definition."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import CommandLine, plain

FIELDS = ("margin:Number:index", "amount:Text", "old:Text")


def test_fields_take_their_values_along(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        fields = [argument for field in FIELDS for argument in ("--field", field)]
        hub("store", "create", "orders", *fields, "--index", '["old","margin"]', "--search", "old")
        rows = [{"margin": 1, "amount": "12.5", "old": "a"}, {"margin": 2, "amount": "7"}]
        hub("import", "orders", "-", input="\n".join(map(json.dumps, rows)))
        assert hub("field", "rename", "orders", "margin", "profit").out.startswith(
            "field margin of orders is now profit"
        )
        dropped = hub("field", "drop", "orders", "old", "--yes").out.splitlines()
        assert dropped == ['indexes: ["old","profit"] dropped', "search: old dropped", "field old of orders dropped"]
        assert hub("field", "convert", "orders", "amount", "--type", "Numeric").out.startswith("field amount of orders")
        hub("field", "add", "orders", "currency", "--type", "Text", "--required", "--default", "CAD", "--fill")
        hub("field", "add", "orders", "number", "--json", '{"type": "Serial", "start": 100}', "--fill")
        assert plain(hub.rows("orders")) == [
            {"profit": 1, "amount": 12.5, "currency": "CAD", "number": 100},
            {"profit": 2, "amount": 7, "currency": "CAD", "number": 101},
        ]
        assert hub.json("store", "show", "orders", "--json")["fields"] == [
            {"id": "profit", "type": "Number", "index": True},
            {"id": "amount", "type": "Numeric"},
            {"id": "currency", "type": "Text", "required": True, "default": "CAD"},
            {"id": "number", "type": "Serial", "start": 100},
        ]
        hub.file("orders.json", '[{"id": "profit", "type": "Number"}]')
        data = '{"drop": ["amount", "currency", "number"]}'
        hub("store", "update", "orders", "orders.json", "--data", data)
        assert plain(hub.rows("orders")) == [{"profit": 1}, {"profit": 2}]


def test_what_stands_against_a_change_is_said(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "orders", "--field", "amount:Text", "--open")
        hub("import", "orders", "-", input='{"amount": "12.5"}\n{"amount": "many", "free": "7"}\n')
        refused = hub("field", "convert", "orders", "amount", "--type", "Numeric", code=1).err
        assert re.fullmatch(r"hub: Conflict: amount: 1 entity [^\n]*\n", refused)
        hub("field", "convert", "orders", "free", "--type", "Number")
        hub("field", "rename", "orders", "free", "count")
        assert plain(hub.rows("orders")) == [{"amount": "12.5"}, {"amount": "many", "count": 7}]


def test_a_field_that_is_nowhere_is_an_error(served_hub: CommandLine) -> None:
    """In an open store it may be in entities alone, also with null as its value. In an empty one it is in none."""
    hub = served_hub
    hub("store", "create", "loose", "--field", "amount:Text", "--open")
    commands = [("rename", "amont", "total"), ("drop", "amont", "--yes"), ("convert", "amont", "--type", "Text")]
    for verb, name, *more in commands:
        refused = hub("field", verb, "loose", name, *more, code=1).err
        assert "loose has no field amont, and no entity has it; did you mean amount?; there are: amount" in refused
    hub("import", "loose", "-", input='{"free": null}\n{"amount": "1"}\n')
    hub("field", "drop", "loose", "free", "--yes")
    assert plain(hub.rows("loose")) == [{}, {"amount": "1"}]
    assert "no entity has it" in hub("field", "drop", "loose", "free", "--yes", code=1).err


def test_errors_of_a_definition_name_the_field(served_hub: CommandLine) -> None:
    """Not its position, which the user has not chosen."""
    hub = served_hub
    hub("store", "create", "named", "--field", "first:Text")
    inner = '{"type": "Object", "fields": [{"id": "zip", "type": "Text"}, {"id": "floor", "type": "Txt"}]}'
    for name, settings, place in [
        ("amount", '{"type": "Number", "default": 1.5}', "amount.default"),
        ("address", inner, "address.floor.type"),
        ("to", '{"type": "Reference", "store": "nowhere"}', "to.store"),
    ]:
        assert f"hub: Bad Request: {place}: " in hub("field", "add", "named", name, "--json", settings, code=1).err


def test_lists_become_single_values(served_hub: CommandLine) -> None:
    """A list of one does, since nothing is lost. Of others the first entity is named, unless the field has `many`."""
    hub = served_hub
    hub("store", "create", "cells", "--open")
    hub("import", "cells", "-", input='{"a": ["x"], "b": ["x"]}\n{"a": "y", "b": ["y", "z"]}\n{"a": []}\n')
    hub("field", "convert", "cells", "a", "--type", "Text")
    second = hub.rows("cells")[1]["_id"]
    refused = hub("field", "convert", "cells", "b", "--type", "Text", code=1).err
    assert "b: 1 entity has a value of it that cannot be converted." in refused
    assert second in refused
    hub("field", "convert", "cells", "b", "--json", '{"type": "Text", "many": true}')
    assert plain(hub.rows("cells")) == [{"a": "x", "b": ["x"]}, {"a": "y", "b": ["y", "z"]}, {"a": None}]


@pytest.mark.parametrize("openness", ["--open", "--closed"])
def test_entities_stay_unique_when_a_condition_is_renamed(served_hub: CommandLine, openness: str) -> None:
    hub, store = served_hub, f"numbered{openness}"
    index = '{"fields":["number"],"unique":true,"where":{"$and":[{"state":"open"}]}}'
    fields = ("--field", "number:Number", "--field", "state:Text")
    hub("store", "create", store, *fields, "--index", index, *(["--open"] if openness == "--open" else []))
    hub("field", "rename", store, "state", "status")
    rows = '{"number": 1, "status": "open"}\n' * 2 + '{"number": 1, "status": "shut"}\n' * 2
    assert hub("import", store, "-", input=rows, code=1).last == "3 imported, 1 refused"
    assert hub("field", "drop", store, "status", "--yes").out.startswith("indexes: ")
    assert hub.json("store", "show", store, "--json")["indexes"] == []
