"""`hub field` and `hub store update`: what they do on real hubs, and the requests that they send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from hub.cli.definition_changes import with_converted_field, with_field, with_renamed_field, without_field
from stores.records import SYSTEM_FIELDS
from tests.cli.conftest import CommandLine

Document = dict[str, Any]


def definition(hub: CommandLine, store: str) -> Document:
    shown = hub.json("store", "show", store, "--json")
    return {name: value for name, value in shown.items() if name not in SYSTEM_FIELDS}


# On real hubs.


def test_a_definition_is_shown_changed_and_sent_back(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "units", "--field", "name:Text:required", "--index", "name")
        shown = hub("store", "show", "units", "--json").out
        hub.file("units.json", shown)
        assert hub("store", "update", "units", "units.json").last == "store units is so already"
        changed = json.loads(shown) | {"label": "Units", "indexes": None}
        changed["fields"].append({"id": "speed", "type": "Number"})
        assert hub("store", "update", "units", "-", input=json.dumps(changed)).last == "store units updated"
        assert definition(hub, "units") == {
            "name": "units",
            "label": "Units",
            "fields": [{"id": "name", "type": "Text", "required": True}, {"id": "speed", "type": "Number"}],
            "indexes": None,
        }
        hub("store", "update", "units", "-", input='[{"id": "name", "type": "Text"}]')
        assert definition(hub, "units")["fields"] == [{"id": "name", "type": "Text"}]
        assert "cannot be renamed" in hub("store", "update", "units", "-", input='{"name": "more"}', code=1).err


def test_fields_are_added(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "units", "--field", "name:Text")
        hub("import", "units", "-", input='{"name": "a"}\n')
        added = hub(
            "field", "add", "units", "speed", "--type", "Number", "--index", "--default", "3", "--options", "3=Low,4"
        )
        assert added.last == "field speed added to units"
        hub("field", "add", "units", "tags", "--type", "Text", "--many", "--distinct", "--default", '["a"]')
        settings = {"type": "Reference", "store": "units", "on_delete": "clear"}
        hub("field", "add", "units", "parent", "--json", json.dumps(settings))
        assert definition(hub, "units")["fields"] == [
            {"id": "name", "type": "Text"},
            {
                "id": "speed",
                "type": "Number",
                "index": True,
                "options": [{"id": 3, "name": "Low"}, {"id": 4, "name": "4"}],
                "default": 3,
            },
            {"id": "tags", "type": "Text", "many": True, "distinct": True, "default": ["a"]},
            {"id": "parent", **settings},
        ]
        refused = hub("field", "add", "units", "code", "--type", "Text", "--required", code=1).err
        assert re.fullmatch(r"hub: Conflict: code: [^\n]*1 entity[^\n]*\n", refused)


def test_the_first_field_does_not_close_a_store(served_hub: CommandLine) -> None:
    served_hub("store", "create", "free")
    served_hub("field", "add", "free", "n", "--type", "Number")
    assert definition(served_hub, "free")["open"] is True
    assert served_hub("import", "free", "-", input='{"n": 1, "other": 2}').last == "1 imported, 0 refused"


@pytest.fixture(scope="module")
def hub_with_units(served_hub: CommandLine) -> CommandLine:
    served_hub("store", "create", "units", "--field", "name:Text", "--field", "speed:Number")
    served_hub.file("text.json", "{")
    return served_hub


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("field", "add", "units", "name", "--type", "Text"), 1, "units has a field name already"),
        (("field", "add", "units", "x"), 2, "the field needs a type: add --type"),
        (("field", "add", "units", "x", "--type", "Txt"), 1, "Must be one of Boolean"),
        (("field", "add", "units", "x", "--type", "Number", "--default", "fast"), 2, "--default fast: Number takes"),
        (("field", "add", "units", "x", "--json", "{"), 2, "is not JSON"),
        (("field", "add", "units", "x", "--json", "[]"), 2, "must be an object"),
        (("field", "add", "nosuch", "x", "--type", "Text"), 1, "no store with the name 'nosuch'"),
        (
            ("field", "rename", "units", "sped", "x"),
            1,
            "units has no field sped; did you mean speed?; there are: name,",
        ),
        (("field", "rename", "units", "speed", "name"), 1, "units has a field name already"),
        (("field", "drop", "units", "speed"), 2, "nobody is there to be asked: add --yes"),
        (("field", "drop", "units", "x", "--yes"), 1, "units has no field x"),
        (("field", "convert", "units", "speed"), 2, "the field needs a type: add --type"),
        (("field", "convert", "units", "x", "--type", "Text"), 1, "units has no field x"),
        (("store", "update", "units", "text.json"), 1, "text.json: not valid JSON"),
        (("store", "update", "units", "-"), 1, "-: not valid JSON"),
        (("store", "update", "units", "nosuch.json"), 1, "nosuch.json: No such file"),
        (("store", "update", "units"), 2, "nothing to change"),
        (("store", "update", "units", "--data", "{"), 2, "--data {: is not JSON"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(
    hub_with_units: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = hub_with_units(*arguments, code=code)
    assert message in done.err
    assert re.fullmatch(r"hub: [^\n]+\n", done.err)


# Requests.


ORDERS: Document = {
    "_id": "6b03c48bc153bcada89413a9",
    "_rev": 7,
    "name": "orders",
    "fields": [
        {"id": "margin", "type": "Number", "min": 0, "index": True},
        {"id": "state", "type": "Text"},
        {"id": "parent", "type": "Reference", "store": "orders", "by": "margin"},
        {"id": "lines", "type": "Object", "fields": [{"id": "margin", "type": "Number"}]},
    ],
    "indexes": [
        "margin.x",
        "state",
        ["state", "-margin"],
        {"fields": ["state"], "unique": True, "where": {"margin": 1}},
    ],
    "unique": ["margin"],
    "search": ["state"],
}


@contextmanager
def recording(answer: Document, status: int = 200) -> Iterator[tuple[str, list[tuple[str, str | None, Document]]]]:
    """A hub that has the store `orders` and answers each change like this. Yield its URL and the changes: path,
    If-Match and body."""
    changes: list[tuple[str, str | None, Document]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, [ORDERS])

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            changes.append((self.path, self.headers["If-Match"], body))
            self.reply(status, answer)

        def reply(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", changes
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("arguments", "message", "data"),
    [
        ("add orders n --type Serial --fill", "field n added to orders", {"fill": ["n"]}),
        ("rename orders margin profit", "field margin of orders is now profit", {"rename": {"margin": "profit"}}),
        ("drop orders state --yes", "field state of orders dropped", {"drop": ["state"]}),
        ("convert orders margin --type Text", "field margin of orders converted to Text", {"convert": ["margin"]}),
    ],
)
def test_a_change_of_a_field_says_what_becomes_of_the_entities(
    empty_hub: CommandLine, arguments: str, message: str, data: Document
) -> None:
    """It is bound to the definition that the command has read."""
    with recording(ORDERS | {"_rev": 8}) as (url, changes):
        done = empty_hub("field", *arguments.split(), "--url", url, "--token", "t")
        assert done.last == message
        [(path, revision, body)] = changes
        assert (path, revision, body["data"]) == (f"/api/v1/stores/{ORDERS['_id']}", '"7"', data)
        assert {"fields", "data"} <= body.keys()


def test_a_definition_that_somebody_else_has_changed_is_not_overwritten(empty_hub: CommandLine) -> None:
    with recording({"message": "Precondition Failed"}, 412) as (url, _):
        refused = empty_hub("field", "drop", "orders", "state", "--yes", "--url", url, "--token", "t", code=1).err
        assert refused == "hub: the definition of orders has just been changed: run the command again\n"


def test_an_update_sends_what_becomes_of_the_entities(empty_hub: CommandLine) -> None:
    with recording(ORDERS | {"_rev": 8}) as (url, changes):
        data = '{"drop": ["margin"]}'
        done = empty_hub(
            "store", "update", "orders", "-", "--data", data, "--url", url, "--token", "t", input='{"label": "Orders"}'
        )
        assert done.last == "store orders updated"
        assert changes[0][1:] == (None, {"label": "Orders", "data": {"drop": ["margin"]}})


def test_a_renamed_field_is_renamed_wherever_the_definition_names_it() -> None:
    assert with_renamed_field(ORDERS, "margin", "profit") == {
        "fields": [
            {"id": "profit", "type": "Number", "min": 0, "index": True},
            {"id": "state", "type": "Text"},
            {"id": "parent", "type": "Reference", "store": "orders", "by": "profit"},
            {"id": "lines", "type": "Object", "fields": [{"id": "margin", "type": "Number"}]},
        ],
        "indexes": [
            "profit.x",
            "state",
            ["state", "-profit"],
            {"fields": ["state"], "unique": True, "where": {"profit": 1}},
        ],
        "unique": ["profit"],
    }


def test_a_field_takes_its_indexes_with_it() -> None:
    found = without_field(ORDERS, "margin")
    assert [each["id"] for each in found.pop("fields")] == ["state", "parent", "lines"]
    assert found == {"indexes": ["state"], "unique": []}


def test_a_store_stays_open_or_closed() -> None:
    field = {"id": "n", "type": "Number"}
    assert with_field({"name": "s"}, field) == {"fields": [field], "open": True}
    assert with_field({"name": "s", "open": False}, field) == {"fields": [field]}
    assert without_field({"name": "s", "fields": [field]}, "n") == {"fields": [], "open": False}
    assert without_field({"name": "s", "fields": [field], "open": True}, "n") == {"fields": []}


def test_a_converted_field_loses_what_its_new_type_does_not_take() -> None:
    store = {"fields": [{"id": "n", "type": "Number", "label": "N", "min": 1, "required": True}]}
    changed = with_converted_field(store, "n", {"type": "Text", "length": 9})
    assert changed == {"fields": [{"id": "n", "type": "Text", "label": "N", "required": True, "length": 9}]}
    assert with_converted_field(store, "n", {"type": "OfANewerHub"})["fields"][0]["min"] == 1


def test_fields_of_an_open_store_need_no_definition() -> None:
    store = {"name": "s", "indexes": ["old"]}
    assert with_renamed_field(store, "old", "new") == {"fields": [], "indexes": ["new"]}
    assert without_field(store, "old") == {"fields": [], "indexes": [], "open": True}
    assert with_converted_field(store, "n", {"type": "Number"}) == {
        "fields": [{"id": "n", "type": "Number"}],
        "open": True,
    }
