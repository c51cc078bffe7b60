"""`hub export --only customer:number`: references by a unique field of their target, as `hub import` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import CommandLine, plain

CUSTOMERS = [
    {"id": "number", "type": "Serial", "start": 10001},
    {"id": "code", "type": "Text", "unique": True},
    {"id": "name", "type": "Text"},
]
ORDERS = [
    {"id": "number", "type": "Serial", "start": 500},
    {"id": "customer", "type": "Reference", "store": "customers"},
    {"id": "seen", "type": "Reference", "store": "customers", "many": True},
    {"id": "payer", "type": "Reference", "store": "customers", "by": "number"},
    {"id": "ship", "type": "Object", "fields": [{"id": "to", "type": "Reference", "store": "customers"}]},
    {
        "id": "lines",
        "type": "Object",
        "many": True,
        "fields": [{"id": "of", "type": "Reference", "store": "customers"}, {"id": "n", "type": "Number"}],
    },
]
LATEST = {"id": "latest", "type": "Reference", "store": "orders"}
ANN = '{"code": "007", "name": "Ann"}\n{"code": "1e3", "name": "Bob"}\n{"name": "Cid"}\n'
ROWS = [
    {
        "customer:code": "007",
        "seen:code": ["1e3", "007"],
        "payer": 10002,
        "ship": {"to:code": "1e3"},
        "lines": [{"of:code": "007", "n": 1}, {"n": 2}],
    },
    {"customer:code": "1e3", "seen:code": []},
    {},
]
NUMBERED = [
    {
        "number": 500,
        "customer:number": 10001,
        "seen:code": ["1e3", "007"],
        "payer:code": "1e3",
        "ship": {"to:number": 10002},
        "lines": [{"of:number": 10001}, {}],
    },
    {"number": 501, "customer:number": 10002, "seen:code": []},
    {"number": 502},
]


def define(hub: CommandLine) -> None:
    """Define two stores that refer to each other."""
    for store, fields in (("customers", CUSTOMERS), ("orders", ORDERS)):
        hub("store", "create", store, "--fields", hub.file(f"{store}.json", json.dumps(fields)))
    hub("field", "add", "customers", "latest", "--json", json.dumps(LATEST))


@pytest.fixture
def shop(hub_of_each_engine: CommandLine) -> Iterator[CommandLine]:
    """A running hub with customers and orders."""
    hub = hub_of_each_engine
    with hub.serving():
        define(hub)
        hub("import", "customers", "-", input=ANN)
        hub("import", "orders", "-", input="\n".join(map(json.dumps, ROWS)))
        hub("import", "customers", "-", "--key", "code", input='{"code": "007", "latest:number": 501}')
        yield hub


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_two_stores_that_refer_to_each_other_move_by_number(
    shop: CommandLine, empty_hub_beside: CommandLine, form: str
) -> None:
    """Into an empty hub, whose ids are others: the customers first, then the orders, then what customers refer to."""
    orders = "number,customer:number,seen:number,payer,ship.to:number,lines,lines.of:number"
    for store, only, name in [
        ("customers", "number,code,name", f"customers.{form}"),
        ("orders", orders, f"orders.{form}"),
        ("customers", "number, latest:number", f"latest.{form}"),
    ]:
        shop("export", store, name, "--only", only)
    other = empty_hub_beside
    with other.serving():
        define(other)
        other("import", "customers", str(shop.folder / f"customers.{form}"), "--keep")
        other("import", "orders", str(shop.folder / f"orders.{form}"), "--keep")
        other("import", "customers", str(shop.folder / f"latest.{form}"), "--keep", "--key", "number")
        assert described(other) == described(shop)


def described(hub: CommandLine) -> tuple[object, ...]:
    """Return the entities of both stores, with codes and numbers in place of ids."""
    customers = {row["_id"]: row for row in hub.rows("customers")}
    orders = {row["_id"]: row for row in hub.rows("orders")}
    text = json.dumps(plain([*customers.values(), *orders.values()]))
    for id, row in (customers | orders).items():
        text = text.replace(f'"{id}"', f'"<{row["number"]}>"')
    assert "<501>" in text
    return tuple(json.loads(text))


def test_members_of_json_are_named_as_import_reads_them(shop: CommandLine) -> None:
    rows = shop.rows("orders", "number,customer:number,seen:code,payer:code,ship.to:number,lines.of:number")
    assert plain(rows) == NUMBERED
    [first, *_] = shop.rows("orders", "customer,customer:code,customer:number")
    assert first["customer:code"] == "007"
    assert first["customer:number"] == 10001
    assert len(first["customer"]) == 24


def test_columns_are_named_as_import_reads_them(shop: CommandLine) -> None:
    only = "number,customer:code,seen:code,ship.to:code,lines.of:code"
    lines = shop("export", "orders", "--format", "csv", "--only", only).out.splitlines()
    assert lines == [
        "number,customer:code,seen:code,ship.to:code,lines",
        '500,007,"[""1e3"",""007""]",1e3,"[{""of:code"":""007""},{}]"',
        "501,1e3,[],,",
        "502,,,,",
    ]


def test_what_has_no_such_value_is_said(shop: CommandLine) -> None:
    """The file is complete but for those references."""
    cid = shop.rows("customers", "name")[2]["_id"]
    shop("import", "orders", "-", input=json.dumps({"customer": cid, "seen": [cid]}))
    done = shop("export", "orders", "out.ndjson", "--only", "customer:code,seen:code", code=1)
    id = shop.rows("orders")[3]["_id"]
    assert (
        f"2 references to entities without a value that you may see are left out: first customer:code of {id}"
        in done.err
    )
    last = json.loads((shop.folder / "out.ndjson").read_text().splitlines()[-1])
    assert last == {"_id": id, "seen:code": []}
    refused = shop("export", "orders", "bad.ndjson", "--only", "customer:name", code=1).err
    assert "--only customer:name: name is not a unique field of customers; there are: number, code" in refused
    assert not (shop.folder / "bad.ndjson").exists()


def test_a_store_that_may_not_be_read_is_out_of_sight(shop: CommandLine) -> None:
    scopes = ("--scope", "GET /orders/*", "--scope", "GET /stores/*")
    token = shop("token", "create", "orders", *scopes, "--quiet").out.strip()
    url = json.loads((shop.folder / "data" / "hub.json").read_text())["url"]
    afar = CommandLine(shop.folder / "afar", {"HUB_URL": url, "HUB_TOKEN": token})
    afar.folder.mkdir()
    done = afar("export", "orders", "out.ndjson", "--only", "number,customer:code", code=1)
    assert "2 references to entities without a value that you may see are left out" in done.err
    rows = [json.loads(line) for line in (afar.folder / "out.ndjson").read_text().splitlines()]
    assert plain(rows) == [{"number": 500}, {"number": 501}, {"number": 502}]
